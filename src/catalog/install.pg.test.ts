import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { extensionDir, sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { install } from './install.ts';
import { EXTENSION_VERSION, readInstallation, VERSION_NUMBER } from './installation.ts';
import { readSqlFiles, type SqlFiles } from './sql-files.ts';

const files = readSqlFiles(sqlDir());

/** What the catalog says of schema bdr: one line an object, with all that makes it what it is. */
const OBJECTS = /* sql */ `
  WITH ns AS (SELECT 'bdr'::regnamespace AS oid)
  SELECT 'schema ' || nspname || ' ' || coalesce(nspacl::text, '') AS line FROM pg_namespace JOIN ns USING (oid)
  UNION ALL
  SELECT format('%s %s %s %s %s', c.relkind, c.relname, c.relpersistence, c.relreplident, c.relacl)
  FROM pg_class AS c JOIN ns ON ns.oid = c.relnamespace
  UNION ALL
  SELECT format('column %s.%s %s %s %s %s %s', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
                a.attnotnull, a.attidentity, pg_get_expr(d.adbin, d.adrelid))
  FROM pg_class AS c JOIN ns ON ns.oid = c.relnamespace
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
  LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
  UNION ALL
  SELECT format('constraint %s on %s: %s', x.conname, x.conrelid::regclass, pg_get_constraintdef(x.oid))
  FROM pg_constraint AS x JOIN ns ON ns.oid = x.connamespace
  UNION ALL
  SELECT format('index %s', pg_get_indexdef(c.oid))
  FROM pg_class AS c JOIN ns ON ns.oid = c.relnamespace WHERE c.relkind = 'i'
  UNION ALL
  SELECT format('view %s as %s', c.relname, pg_get_viewdef(c.oid))
  FROM pg_class AS c JOIN ns ON ns.oid = c.relnamespace WHERE c.relkind = 'v'
  UNION ALL
  SELECT format('function %s %s', pg_get_functiondef(p.oid), p.proacl) FROM pg_proc AS p JOIN ns ON ns.oid = p.pronamespace
  UNION ALL
  SELECT format('type %s %s %s', t.typname, t.typtype,
                (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid))
  FROM pg_type AS t JOIN ns ON ns.oid = t.typnamespace
  UNION ALL
  SELECT format('event trigger %s %s %s %s %s', evtname, evtevent, evtfoid::regproc, evttags, evtenabled) FROM pg_event_trigger
  UNION ALL
  SELECT format('trigger %s', pg_get_triggerdef(t.oid))
  FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN ns ON ns.oid = c.relnamespace
  UNION ALL
  SELECT format('comment on %s: %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description)
  FROM pg_description AS d
  WHERE pg_describe_object(d.classoid, d.objoid, d.objsubid) ~ '\\mbdr' AND d.classoid <> 'pg_extension'::regclass
  UNION ALL
  SELECT format('migration %s', migration) FROM bdr.bdr_schema_migrations
  ORDER BY 1
`;

describe.each([14, 18])('on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  beforeAll(async () => {
    server = await startServer({ major, extensionDir: extensionDir() });
  });
  afterAll(async () => server[Symbol.asyncDispose]());

  const connect = (database: string) => openSession(server, database);
  const create = async (database: string) => {
    await using session = await connect('postgres');
    await session.script(`CREATE DATABASE ${database}`);
    return connect(database);
  };
  const objects = async (session: Session) =>
    (await session.query<{ line: string }>(OBJECTS)).map(({ line }) => line);

  // dist/extension is made by the build; "npm test" builds first.
  test('install over a connection makes the same objects as CREATE EXTENSION', async () => {
    await using plain = await create('plain');
    await using extension = await create('extension');
    const result = await install(plain, files);
    await extension.script('CREATE EXTENSION bdr');
    expect(result).toMatchObject({
      outcome: 'created',
      database: 'plain',
      migrations: files.migrations.map(({ number }) => number),
      next: null,
    });
    const made = await objects(plain);
    expect(made.length).toBeGreaterThan(100);
    expect(made).toEqual(await objects(extension));
    expect((await readInstallation(plain)).kind).toBe('plain');
    expect(await readInstallation(extension)).toMatchObject({
      kind: 'extension',
      extensionVersion: EXTENSION_VERSION,
      availableVersion: EXTENSION_VERSION,
      versionNumber: VERSION_NUMBER,
    });
  });

  test('installing again changes nothing, whoever has replaced a function meanwhile', async () => {
    await using session = await create('again');
    await install(session, files);
    const before = await objects(session);
    await session.script(
      `CREATE OR REPLACE FUNCTION bdr.bdr_variant() RETURNS text LANGUAGE sql AS $$ SELECT 'mine' $$`,
    );
    expect(await install(session, files)).toMatchObject({ outcome: 'refreshed', migrations: [] });
    expect(await objects(session)).toEqual(before);
  });

  test('an extension is left alone', async () => {
    await using session = await create('left_alone');
    await session.script('CREATE EXTENSION bdr');
    expect(await install(session, files)).toMatchObject({ outcome: 'extension', next: null });
    await session.script(`UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'bdr'`);
    expect(await install(session, files)).toMatchObject({
      outcome: 'extension',
      next: `ALTER EXTENSION bdr UPDATE TO '${EXTENSION_VERSION}';`,
    });
  });

  test('two installs at once do not disturb each other', async () => {
    await using first = await create('race');
    await using second = await connect('race');
    const results = await Promise.all([install(first, files), install(second, files)]);
    expect(results.map(({ outcome }) => outcome).toSorted()).toEqual(['created', 'refreshed']);
  });

  test('an upgrade runs only the migrations that are missing, all of them or none', async () => {
    await using session = await create('upgrade');
    await install(session, files);
    const newer: SqlFiles = {
      migrations: [
        ...files.migrations,
        { number: 900, name: 'm900', text: 'CREATE TABLE bdr.first (id integer); SELECT 1;' },
        { number: 901, name: 'm901', text: '\n\nCREATE TABLE bdr.first (id integer)' },
      ],
      routines: files.routines,
    };
    await expect(install(session, newer)).rejects.toMatchObject({
      code: 'install_failed',
      sqlstate: '42P07',
      detail: expect.stringContaining('In m901') as string,
    });
    expect((await readInstallation(session)).migrations).not.toContain(900);
    const repaired = { ...newer, migrations: newer.migrations.slice(0, -1) };
    expect(await install(session, repaired)).toMatchObject({
      outcome: 'upgraded',
      migrations: [900],
    });
    // The older program refuses what the newer one has made.
    await expect(install(session, files)).rejects.toMatchObject({ code: 'version_mismatch' });
  });

  test('the error of a broken file names its line', async () => {
    await using session = await create('broken');
    const broken = {
      migrations: [{ number: 1, name: 'migrations/x.sql', text: 'SELECT 1;\nSELECT 2;\nSELEC 3;' }],
      routines: [],
    };
    await expect(install(session, broken)).rejects.toMatchObject({
      message: expect.stringContaining('syntax error') as string,
      detail: 'In migrations/x.sql, line 3. Nothing has been changed.',
    });
  });

  test('a schema bdr of another program is not touched', async () => {
    await using session = await create('foreign_bdr');
    await session.script('CREATE SCHEMA bdr');
    await expect(install(session, files)).rejects.toMatchObject({
      code: 'version_mismatch',
      hint: expect.stringContaining('RENAME') as string,
    });
  });

  test('who is no superuser is told so', async () => {
    await using session = await create('plain_role');
    await session.script('CREATE ROLE somebody; SET ROLE somebody');
    await expect(install(session, files)).rejects.toMatchObject({
      code: 'insufficient_privilege',
      message: 'role "somebody" is not a superuser, as installing bdr needs',
    });
  });
});

test('the migrations of the sources are numbered without gaps or doubles', () => {
  expect(files.migrations.map(({ number }) => number)).toEqual(
    files.migrations.map((_, index) => index + 1),
  );
});
