import { afterAll, beforeAll, expect, test } from 'vitest';
import { startServer } from '../../test/support/servers.ts';
import { readEnvironment } from '../config/environment.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { resolveConninfo } from '../postgres/conninfo.ts';
import { Session } from '../postgres/session.ts';
import { copyRows, type CopyTable } from './table-copy.ts';

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
  rows: 0,
  bytes: 0,
  blocks: 0,
};

const connect = () =>
  Session.connect(resolveConninfo(server.dsn(), readEnvironment()), { applicationName: 'test' });

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
