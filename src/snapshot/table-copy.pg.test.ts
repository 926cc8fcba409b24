import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { copyPieces } from './copy-pieces.ts';
import type { CopyTable } from './copy-table.ts';
import { copyRows } from './table-copy.ts';

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
