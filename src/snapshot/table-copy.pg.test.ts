import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { formatPgTime, LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { install } from '../catalog/install.ts';
import { readNotedKeys } from '../catalog/lost-values.ts';
import { purgeRowVersions, readRowVersions } from '../catalog/row-versions.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { copyPieces } from './copy-pieces.ts';
import type { CopyTable } from './copy-table.ts';
import { copyRows, copyRowVersions } from './table-copy.ts';

const NOON = 845_000_000_000_000 as PgTime;
const later = (micros: number) => (NOON + micros) as PgTime;

let server: EmbeddedServer;
beforeAll(async () => {
  server = await startServer({ major: 18 });
});
afterAll(() => server[Symbol.asyncDispose]());

const table: CopyTable = {
  name: { schema: 'public', name: 'item' },
  columns: ['id'],
  key: ['id'],
  format: 'binary',
  filter: undefined,
  rows: 0,
  bytes: 0,
  blocks: 0,
  isReadWhole: false,
};

const connect = (database?: string) => openSession(server, database);

test('a source that was lost before a table begins leaves the target able to roll back', async () => {
  await using target = await connect();
  await target.script('CREATE TABLE public.item (id integer PRIMARY KEY)');
  await using source = await connect();
  await target.query('SELECT pg_terminate_backend($1, 10000)', [source.pid]);
  await new Promise((resolve) => {
    if (source.lost.aborted) resolve(undefined);
    else source.lost.addEventListener('abort', resolve, { once: true });
  });

  const signal = new AbortController().signal;
  await expect(
    target.transaction(() =>
      copyRows(source, target, { table }, { onBytes: () => undefined, signal }),
    ),
  ).rejects.toThrow('connection to the server was lost');
  expect(await target.query('SELECT 1 AS answer')).toEqual([{ answer: '1' }]);
});

test('the pieces of a table are the table as the snapshot shows it', async () => {
  await using source = await connect();
  await using writer = await connect();
  await writer.script('CREATE DATABASE pieces');
  await using target = await connect('pieces');
  await target.script('CREATE TABLE public.moved (id integer, body text)');
  await source.script(`
    CREATE TABLE public.moved AS SELECT i AS id, repeat('x', 100) AS body FROM generate_series(1, 20000) AS i;
    DELETE FROM public.moved WHERE id % 7 = 0;
    UPDATE public.moved SET body = repeat('y', 100) WHERE id % 3 = 0
  `);
  await source.script('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM public.moved LIMIT 1');
  // After the snapshot rows go to blocks of their own, and to the room that others left.
  await writer.script(`
    UPDATE public.moved SET body = 'later' WHERE id % 5 = 0;
    INSERT INTO public.moved SELECT i, 'later' FROM generate_series(30000, 40000) AS i
  `);
  const [size] = await source.query<{ blocks: string }>(
    `SELECT pg_relation_size('public.moved') / current_setting('block_size')::integer AS blocks`,
  );
  const pieces = copyPieces([
    {
      ...table,
      name: { schema: 'public', name: 'moved' },
      columns: ['id', 'body'],
      bytes: 150 * 1024 * 1024,
      blocks: Number(size?.blocks),
    },
  ]);
  const options = { onBytes: () => undefined, signal: new AbortController().signal };
  let rows = 0;
  for (const piece of pieces) rows += await copyRows(source, target, piece, options);
  const all = `SELECT count(*) AS count, md5(string_agg(id || body, ',' ORDER BY id)) AS sum FROM public.moved`;
  expect(pieces).toHaveLength(9);
  expect(await target.query(all)).toEqual(await source.query(all));
  expect(String(rows)).toBe((await target.query<{ count: string }>(all))[0]?.count);
});

// Else such a row, read again from its writer, would get a version that no row has.
test('the versions of rows that are to be read again are copied however old they are, and kept until they were', async () => {
  await using source = await connect();
  await source.script('CREATE DATABASE noted');
  await using session = await connect('noted');
  await install(session, readSqlFiles(sqlDir()));
  await session.script(`
    CREATE TABLE public.pair (b character(3), a numeric, PRIMARY KEY (b, a));
    SELECT pg_replication_origin_create('other');
    SELECT pg_replication_origin_session_setup('other');
    BEGIN;
    INSERT INTO public.pair VALUES ('x', 1), ('y', 1);
    SELECT pg_replication_origin_xact_setup('0/0', '${formatPgTime(NOON)}');
    COMMIT;
    SELECT pg_replication_origin_xact_reset(), pg_replication_origin_session_reset();
    INSERT INTO bdr.lost_value (relation, row_key, key_hash, node_sysid, node_timeline, node_dboid)
    VALUES ('public.pair'::regclass, ARRAY['1.0', 'x'], 0, '7', 1, 2)`);
  const pair = { ...table, name: { schema: 'public', name: 'pair' }, key: ['b', 'a'] };
  const other = { sysid: '7', timeline: 1, dboid: 2 };
  await copyRowVersions(
    (_table, sql) => session.query(sql),
    session,
    { table: pair },
    later(1),
    await readNotedKeys(session, pair.name, pair.key),
    () => other,
    () => Promise.resolve([]),
  );
  const versions = () => readRowVersions(session, pair.name, LONG_AGO);
  const key = JSON.stringify({ a: '1', b: 'x' });
  const [version, more] = await versions();
  expect(more).toBeUndefined();
  expect(version).toEqual({ key: expect.any(String) as string, time: NOON, node: other });
  expect(JSON.parse(version?.key ?? '')).toEqual(JSON.parse(key));
  expect(await purgeRowVersions(session, later(1))).toBe(0);
  await session.script('DELETE FROM bdr.lost_value');
  expect(await purgeRowVersions(session, later(1))).toBe(1);
});

test('of rows that the source has copied itself its own note of the version counts, not the stamp', async () => {
  await using source = await connect();
  await source.script('CREATE DATABASE twice');
  await using session = await connect('twice');
  await install(session, readSqlFiles(sqlDir()));
  const name = { schema: 'public', name: 'item' };
  await session.script(`
    CREATE TABLE public.item (id integer PRIMARY KEY);
    INSERT INTO public.item VALUES (1), (2)`);
  const node = { sysid: '7', timeline: 1, dboid: 2 };
  const noted = (id: number) => ({ key: `{"id": "${id}"}`, time: NOON, node });
  await copyRowVersions(
    (_table, sql) => session.query(sql),
    session,
    { table: { ...table, name, key: ['id'] } },
    LONG_AGO,
    undefined,
    () => undefined,
    () => Promise.resolve([noted(2), noted(3)]),
  );
  // Of row 1 nothing is known any more; row 3 has gone.
  expect(await readRowVersions(session, name, LONG_AGO)).toEqual([noted(2)]);
});
