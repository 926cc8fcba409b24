import { once } from 'node:events';
import net from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { EmbeddedServer } from '../embedded/server.ts';
import { authenticatedSocket } from '../../test/support/authenticated-socket.ts';
import { RICH_ROLES, RICH_SCHEMA, RICH_SCHEMA_18 } from '../../test/support/rich-schema.ts';
import { startServer } from '../../test/support/servers.ts';
import type { DumpEntry } from './dump-archive.ts';
import { forTarget, incompatibilities } from './dump-target.ts';
import { findSystemPgDump, runSystemPgDump } from './pg-dump-system.ts';
import { runWasmPgDump } from './pg-dump-wasm.ts';
import { requiredRolesSql } from './required-roles.ts';
import { dumpSchema, type SchemaDumpOptions } from './schema-dump.ts';

const PASSWORD = 'geheim ß';
const HERE = { PATH: process.env['PATH'], HOME: process.env['HOME'] };
const system = await findSystemPgDump(HERE);

let server: EmbeddedServer;
const start = (major: number) =>
  startServer({
    major,
    password: PASSWORD,
    settings: { password_encryption: 'scram-sha-256' },
    hba: 'host all all all scram-sha-256\n',
  });

const config = (database: string, of = server): pg.ClientConfig => ({
  host: '127.0.0.1',
  port: of.port,
  user: 'postgres',
  password: PASSWORD,
  database,
});

async function sql(database: string, text: string, of = server): Promise<pg.QueryResult> {
  const client = new pg.Client(config(database, of));
  await client.connect();
  try {
    return await client.query(text);
  } finally {
    await client.end();
  }
}

const source = (database: string, more: Partial<SchemaDumpOptions> = {}): SchemaDumpOptions => ({
  serverMajor: server.major,
  connection: {
    host: '127.0.0.1',
    port: String(server.port),
    user: 'postgres',
    dbname: database,
    password: PASSWORD,
  },
  connect: () => authenticatedSocket(config(database)),
  environment: HERE,
  ...more,
});

async function restore(database: string, entries: readonly DumpEntry[], of = server) {
  const client = new pg.Client(config(database, of));
  await client.connect();
  try {
    for (const entry of forTarget(entries, { major: of.major, schemas: ['public'] }))
      await client.query(entry.sql).catch((error: unknown) => {
        throw new Error(`${entry.type} ${entry.name}: ${String(error)}\n${entry.sql}`);
      });
  } finally {
    await client.end();
  }
}

/** Dumps a schema of everything, restores it into an empty database and dumps that. */
async function roundTrip(choice: 'system' | 'wasm', rich: string) {
  await sql('postgres', RICH_ROLES);
  await sql('postgres', 'create database source');
  await sql('postgres', 'create database target');
  await sql('source', rich);
  const dump = await dumpSchema(source('source', { choice }));
  await restore('target', [...dump.preData, ...dump.postData]);
  const again = await dumpSchema(source('target', { choice }));
  return { dump, again };
}

const bare = (entries: readonly DumpEntry[]) =>
  forTarget(entries, { major: server.major, schemas: [] });
const find = (entries: readonly DumpEntry[], type: string, name: string) =>
  entries.find((entry) => entry.type === type && entry.name === name);
const sessions = async (like: string) =>
  (await sql('postgres', `select 1 from pg_stat_activity where datname = '${like}'`)).rowCount;

describe.each([18, 14])('the schema of a PostgreSQL %i server', (major) => {
  beforeAll(async () => {
    server = await start(major);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test('comes through pg_dump as WebAssembly and a restore unchanged', async () => {
    const { dump, again } = await roundTrip(
      'wasm',
      major === 18 ? RICH_SCHEMA + RICH_SCHEMA_18 : RICH_SCHEMA,
    );
    expect(dump.via).toBe('wasm');
    expect(dump.pgDumpVersion).toMatch(/^18\./);
    expect(bare(again.preData)).toEqual(bare(dump.preData));
    expect(bare(again.postData)).toEqual(bare(dump.postData));

    const refreshed = dump.postData.filter((entry) => entry.type === 'MATERIALIZED VIEW DATA');
    expect(refreshed.map((entry) => entry.name)).toEqual(['mv1', 'mv2']);
    const evil = [...dump.preData, ...dump.postData].filter((entry) => entry.name === 'evil');
    expect(evil).toEqual([]);
    expect(find(dump.preData, 'TABLE', 'Tabelle; Type: VIEW')).toMatchObject({
      schema: 'Größe 🐘; -- x',
      owner: 'Röle "x"',
    });
    const parts = ['"Röle ""x"""', 'bdr.'].map((part) =>
      dump.preData.some((e) => e.sql.includes(part)),
    );
    expect(parts).toEqual([true, false]);
    expect(find(again.postData, 'EVENT TRIGGER', 'bdr_own')).toBeUndefined();
    expect(find(again.postData, 'EVENT TRIGGER', 'watch')).toBeDefined();
  });

  test('needs the roles that own, may use or are named in it, and no others', async () => {
    const { rows } = await sql('source', requiredRolesSql);
    const roles = (rows as { role: string }[]).map(({ role }) => role);
    const expected = [
      'Röle "x"',
      'column_writer',
      'default_reader',
      'policy_reader',
      'postgres',
      'reader',
    ];
    expect(roles.toSorted()).toEqual(expected.toSorted());
    const { roles: named } = await dumpSchema(source('source', { choice: 'wasm' }));
    expect(named.filter((role) => role !== 'pg_database_owner')).toEqual(expected.toSorted());
  });

  test('is read as of an exported snapshot', async () => {
    await sql('postgres', 'create database moving');
    const client = new pg.Client(config('moving'));
    await client.connect();
    await client.query('create table before ()');
    await client.query('begin isolation level repeatable read');
    const { rows } = await client.query('select pg_export_snapshot() as id');
    const snapshot = (rows as { id: string }[])[0]?.id;
    await sql('moving', 'create table after ()');
    const dump = await dumpSchema(source('moving', { choice: 'wasm', snapshot }));
    await client.end();
    const tables = dump.preData.filter((entry) => entry.type === 'TABLE');
    expect(tables.map((entry) => entry.name)).toEqual(['before']);
  });

  test('an error of pg_dump says what it was', async () => {
    const failing = dumpSchema(source('source', { choice: 'wasm', snapshot: '00000003-1-1' }));
    await expect(failing).rejects.toMatchObject({
      code: 'schema_copy_failed',
      detail: expect.stringContaining('00000003-1-1') as string,
    });
  });

  test('a statement longer than a packet arrives whole', async () => {
    await sql('postgres', 'create database wide');
    await sql(
      'wide',
      `do $$ begin for i in 1..500 loop
         execute format('create table %I (id int primary key, a text not null, b int default 1)', 'table_' || i);
         execute format('create index on %I (a)', 'table_' || i);
       end loop; end $$`,
    );
    const dump = await dumpSchema(source('wide', { choice: 'wasm' }));
    expect(dump.preData.filter((entry) => entry.type === 'TABLE')).toHaveLength(500);
    expect(dump.postData.filter((entry) => entry.type === 'INDEX')).toHaveLength(500);
  });

  test('an abort ends the thread and the session', async () => {
    const locker = new pg.Client(config('source'));
    await locker.connect();
    await locker.query('begin; lock table child in access exclusive mode');
    const abort = new AbortController();
    const dumping = dumpSchema(source('source', { choice: 'wasm', signal: abort.signal }));
    dumping.catch(() => undefined);
    await waitFor(async () => {
      const waiting = await sql('postgres', 'select 1 from pg_locks where not granted');
      return waiting.rowCount === 2;
    });
    const reason = new Error('enough');
    abort.abort(reason);
    await expect(dumping).rejects.toBe(reason);
    await locker.end();
    await waitFor(async () => (await sessions('source')) === 0);
  });

  test('a server that ends the session ends the dump, and its reason is told', async () => {
    const locker = new pg.Client(config('source'));
    await locker.connect();
    await locker.query('begin; lock table child in access exclusive mode');
    const socket = await authenticatedSocket(config('source'));
    const dumping = runWasmPgDump(socket, ['--schema-only']);
    dumping.catch(() => undefined);
    await waitFor(async () => {
      const ended = await sql(
        'postgres',
        'select pg_terminate_backend(pid) from pg_locks where not granted',
      );
      return ended.rowCount === 1;
    });
    await expect(dumping).rejects.toMatchObject({
      code: 'schema_copy_failed',
      detail: 'terminating connection due to administrator command',
    });
    await locker.end();
  });
});

test('a schema of 18 without its novelties can be restored on 14, and with them the reasons are known', async () => {
  server = await start(18);
  await using newer = server;
  await using older = await start(14);
  await sql('postgres', 'create database plain');
  await sql('postgres', 'create database novel');
  await sql('postgres', RICH_ROLES);
  await sql('postgres', RICH_ROLES, older);
  await sql('plain', RICH_SCHEMA);
  await sql('novel', RICH_SCHEMA_18);
  const plain = await dumpSchema(source('plain', { choice: 'wasm' }));
  const entries = [...plain.preData, ...plain.postData];
  expect(incompatibilities(entries, 14)).toEqual([]);
  await restore('postgres', entries, older);

  const novel = await dumpSchema(source('novel', { choice: 'wasm' }));
  const novelties = [...novel.preData, ...novel.postData];
  expect(incompatibilities(novelties, newer.major)).toEqual([]);
  expect(incompatibilities(novelties, 17).toSorted()).toEqual([
    'CHECK CONSTRAINT public.not_enforced positive: a constraint NOT ENFORCED needs PostgreSQL 18',
    'CONSTRAINT public.later later_nn: a NOT NULL constraint that is added later needs PostgreSQL 18',
    'CONSTRAINT public.temporal temporal_pkey: a temporal key needs PostgreSQL 18',
    'TABLE public.inherited_nn: a NOT NULL constraint of the table needs PostgreSQL 18',
    'TABLE public.no_inherit: a NOT NULL constraint with NO INHERIT needs PostgreSQL 18',
    'TABLE public.virtual_column: a virtual generated column needs PostgreSQL 18',
  ]);
});

test('a source with old-fashioned strings is split and restored all the same', async () => {
  server = await start(18);
  await using _ = server;
  await sql('postgres', 'create database source');
  await sql('postgres', 'create database target');
  await sql('source', 'alter database source set standard_conforming_strings = off');
  await sql(
    'source',
    String.raw`create table t (a text default 'it\'s \\
--
-- Name: no; Type: TABLE; Schema: a; Owner: b
--
\''); create table u (); comment on table t is 'back\\slash'`,
  );
  const dump = await dumpSchema(source('source', { choice: 'wasm' }));
  const tables = dump.preData.filter((entry) => entry.type === 'TABLE');
  expect(tables.map((entry) => entry.name)).toEqual(['t', 'u']);
  await restore('target', [...dump.preData, ...dump.postData]);
  await sql('target', 'insert into t values (default)');
  const { rows } = await sql('target', "select a, obj_description('t'::regclass) as note from t");
  const text = "it's \\\n--\n-- Name: no; Type: TABLE; Schema: a; Owner: b\n--\n'";
  expect(rows).toEqual([{ a: text, note: 'back\\slash' }]);
});

test('a line that pgDump would take for a meta-command is refused, not lost', async () => {
  server = await start(18);
  await using _ = server;
  await sql(
    'postgres',
    `create function f() returns text language sql as $$ select '\n\\restrict x' $$`,
  );
  await expect(dumpSchema(source('postgres', { choice: 'wasm' }))).rejects.toMatchObject({
    detail: expect.stringContaining('\\restrict') as string,
  });
});

test('text that is not UTF-8 is refused, not replaced', async () => {
  server = await start(Math.min(system?.major ?? 18, 18));
  await using _ = server;
  await sql('postgres', "create database raw encoding 'SQL_ASCII' locale 'C' template template0");
  await sql('raw', "create table t (); select set_config('client_encoding', 'SQL_ASCII', false)");
  await sql(
    'raw',
    String.raw`do $$ begin execute format('comment on table t is %L', e'caf\xe9'); end $$`,
  );
  const failed = {
    code: 'schema_copy_failed',
    message: expect.stringMatching(/UTF-8|failed/) as string,
  };
  await expect(dumpSchema(source('raw', { choice: 'wasm' }))).rejects.toMatchObject(failed);
  if (system) await expect(dumpSchema(source('raw'))).rejects.toMatchObject(failed);
});

test('a server that never answers does not outlive an abort', async () => {
  const silent = net.createServer(() => undefined).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const socket = net.connect((silent.address() as net.AddressInfo).port, '127.0.0.1');
  await once(socket, 'connect');
  const abort = new AbortController();
  socket.once('resume', () => abort.abort()); // pg_dump has asked its first question
  const parameters = { server_version: '18.0', client_encoding: 'UTF8' };
  const dumping = runWasmPgDump(
    { socket, parameters, processId: 1, secretKey: 2 },
    ['--schema-only'],
    abort.signal,
  );
  await expect(dumping).rejects.toThrow('aborted');
  expect(socket.destroyed).toBe(true);
  silent.close();
});

// The system's pg_dump is whatever the machine has; it dumps servers up to its own major.
describe.skipIf(!system || system.major < 14)("the system's pg_dump", () => {
  const major = Math.min(system?.major ?? 0, 18);
  beforeAll(async () => {
    server = await start(major);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test('is taken where it is new enough, and its dump restores unchanged', async () => {
    const { dump, again } = await roundTrip('system', RICH_SCHEMA);
    expect(dump.via).toBe('system');
    expect(dump.pgDumpVersion).toBe(system?.version);
    expect(bare(again.preData)).toEqual(bare(dump.preData));
    expect(bare(again.postData)).toEqual(bare(dump.postData));
    expect((await dumpSchema(source('source'))).via).toBe('system');
    expect((await dumpSchema(source('source', { environment: { PATH: '/nowhere' } }))).via).toBe(
      'wasm',
    );
  });

  test('reports what it wrote to stderr', async () => {
    await expect(
      dumpSchema(source('source', { choice: 'system', snapshot: '00000003-1-1' })),
    ).rejects.toMatchObject({
      code: 'schema_copy_failed',
      detail: expect.stringContaining('00000003-1-1') as string,
    });
  });

  test('ends with an abort', async () => {
    const locker = new pg.Client(config('source'));
    await locker.connect();
    await locker.query('begin; lock table child in access exclusive mode');
    const abort = new AbortController();
    const { connection } = source('source');
    const dumping = runSystemPgDump(connection, ['--schema-only'], HERE, abort.signal);
    dumping.catch(() => undefined);
    await waitFor(async () => {
      const waiting = await sql('postgres', 'select 1 from pg_locks where not granted');
      return waiting.rowCount === 1;
    });
    abort.abort();
    await expect(dumping).rejects.toThrow('aborted');
    await locker.end();
    await waitFor(async () => (await sessions('source')) === 0);
  });
});

test('an older pg_dump than the server, and none at all, are refused by name', async () => {
  const lost = { ...source0, choice: 'system', environment: { PATH: '/nowhere' } } as const;
  await expect(dumpSchema(lost)).rejects.toMatchObject({
    message: 'no pg_dump was found on the PATH',
  });
  await expect(
    dumpSchema({ ...source0, serverMajor: 99, environment: { PATH: '/nowhere' } }),
  ).rejects.toThrow('older than the server');
});

const source0: SchemaDumpOptions = {
  serverMajor: 18,
  connection: {},
  connect: () => Promise.reject(new Error('not to be called')),
  environment: HERE,
};

async function waitFor(fact: () => Promise<boolean>): Promise<void> {
  while (!(await fact())) await new Promise((resolve) => setTimeout(resolve, 20));
}
