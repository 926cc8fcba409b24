import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { openOrdinaryRole } from '../../test/support/ordinary-role.ts';
import { startServer } from '../../test/support/servers.ts';
import { prepareRestricted } from '../catalog/restricted.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { presentCode } from '../postgres/shelved-code.ts';
import type { Session } from '../postgres/session.ts';
import type { ListedTable } from './copy-table.ts';
import { holdTables } from './hold-tables.ts';
import { tableReader } from './read-table.ts';

const LARGE = { bytes: 1e9, blocks: 1000 };
const listed = (name: string, size = { bytes: 0, blocks: 0 }): ListedTable => ({
  name: { schema: 'app', name },
  columns: ['id'],
  key: ['id'],
  format: 'binary',
  filter: undefined,
  rows: 0,
  ...size,
});

describe.each([14, 18])('the source’s tables, on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  let session: Session;
  let guard: Session;
  let owner: Session;

  beforeAll(async () => {
    server = await startServer({ major });
    ({ session, owner } = await openOrdinaryRole(server));
    guard = await openSession(server, 'app');
    await owner.script(`
      CREATE FUNCTION app.f(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $f$
      BEGIN
          RAISE WARNING 'run as %', current_user;
          RETURN $1;
      END $f$;
      CREATE TABLE app.plain (id integer PRIMARY KEY);
      CREATE TABLE app.code (id integer PRIMARY KEY);
      CREATE INDEX code_constant ON app.code (id) WHERE app.f(1) > 0;
      CREATE TABLE app.replaced (id integer PRIMARY KEY)
    `);
  });
  afterAll(async () => {
    for (const open of [owner, guard, session]) await open?.close();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    for (const open of [guard, session]) await open.script('ROLLBACK');
    await session.script('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
  });

  const readWhole = async (...tables: ListedTable[]) =>
    (await holdTables(guard, session, tables)).map(({ isReadWhole }) => isReadWhole);

  test('are read by queries where those run nothing of ordinary roles', async () => {
    expect(await readWhole(listed('of_superuser'), listed('plain', LARGE))).toEqual([false, false]);
  });

  test('are read whole where they run code, or may do so by and by', async () => {
    expect(await readWhole(listed('code', LARGE), listed('plain'))).toEqual([true, true]);
  });

  test('are not asked of an owner who may not read all of them', async () => {
    await owner.script(`
      CREATE TABLE app.forced (id integer PRIMARY KEY);
      ALTER TABLE app.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
      CREATE TABLE app.revoked (id integer PRIMARY KEY);
      REVOKE ALL ON app.revoked FROM mallory
    `);
    await session.script('ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
    expect(await readWhole(listed('forced'), listed('revoked'))).toEqual([false, false]);
  });

  test('stay as they are: definitions wait', async () => {
    await holdTables(guard, session, [listed('plain', LARGE)]);
    await owner.script(`SET lock_timeout = '100ms'`);
    for (const command of [
      'CREATE INDEX ON app.plain (id) WHERE app.f(1) > 0',
      'CREATE STATISTICS app.s ON (app.f(1) + id) FROM app.plain',
      'ALTER TABLE app.plain ADD CHECK (app.f(id) > 0)',
      'DROP TABLE app.plain',
    ]) {
      await expect(owner.script(command), command).rejects.toMatchObject({ code: '55P03' });
    }
    await owner.script('INSERT INTO app.plain VALUES (1)');
  });

  test('are read whole where somebody else has the lock', async () => {
    await owner.script('BEGIN; LOCK TABLE app.plain IN SHARE UPDATE EXCLUSIVE MODE');
    expect(await readWhole(listed('plain', LARGE), listed('of_superuser'))).toEqual([true, false]);
    await owner.script('ROLLBACK');
  });

  test('may not be replaced by somebody’s view', async () => {
    await session.query('SELECT FROM app.replaced');
    await session.script('ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
    await owner.script(
      'DROP TABLE app.replaced; CREATE VIEW app.replaced AS SELECT app.f(1) AS id',
    );
    await expect(readWhole(listed('replaced'))).rejects.toThrow('app.replaced was replaced');
  });

  test('that run code are looked at with their owners’ rights, in the same snapshot', async () => {
    await session.script('ROLLBACK');
    const [role] = await session.query<{ oid: string }>(`SELECT 'mallory'::regrole::oid AS oid`);
    await prepareRestricted(session, [role?.oid ?? '']);
    await owner.script('INSERT INTO app.code VALUES (1), (2)');
    await session.script('BEGIN ISOLATION LEVEL REPEATABLE READ');
    const [exported] = await session.query<{ id: string }>('SELECT pg_export_snapshot() AS id');
    await owner.script('INSERT INTO app.code VALUES (3)');
    const [table] = await holdTables(guard, session, [listed('code')]);
    await using other = await openSession(server, 'app');
    const read = tableReader(session, () => Promise.resolve(other), exported?.id ?? '');
    for (let times = 0; times < 2; times++) {
      const rows = await read(
        table as NonNullable<typeof table>,
        `SELECT id::text AS id, current_user::text AS who FROM ONLY app.code`,
      );
      expect(rows).toEqual([
        { id: '1', who: 'mallory' },
        { id: '2', who: 'mallory' },
      ]);
    }
  });

  test('cannot be defined by ordinary roles on a node that is filled', async () => {
    await session.script('ROLLBACK');
    await guard.script('ROLLBACK');
    await session.script(`
      INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name)
      SELECT '7', 1, oid, 'i', 'new' FROM pg_database WHERE datname = 'app'
    `);
    for (const command of [
      'CREATE FUNCTION app.g() RETURNS integer LANGUAGE sql RETURN 1',
      'CREATE OR REPLACE FUNCTION app.f(integer) RETURNS integer LANGUAGE sql RETURN 1',
      'CREATE TEMP TABLE t ()',
      'ALTER TABLE app.plain ADD CHECK (id > 0)',
    ]) {
      await expect(owner.script(command), command).rejects.toThrow(
        'definitions cannot be changed while this node joins',
      );
    }
    await session.script(`CREATE TABLE app.made (); UPDATE bdr.bdr_nodes SET node_status = 'r'`);
    await owner.script('CREATE TEMP TABLE t ()');
  });

  test('code of ordinary roles that is there already is named', async () => {
    await session.script('ROLLBACK');
    await owner.script(
      'CREATE DOMAIN app.d AS text; CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql RETURN 1',
    );
    expect(await presentCode(session)).toEqual([
      'domain app.d of role "mallory"',
      'function app.f(integer) of role "mallory"',
    ]);
  });
});
