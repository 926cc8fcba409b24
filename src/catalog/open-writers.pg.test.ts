import { afterAll, beforeAll, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { until } from '../../test/support/cluster.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { describeOldestWriter, readOpenWriters } from './open-writers.ts';

let server: EmbeddedServer;
let session: Session;
beforeAll(async () => {
  server = await startServer({ settings: { max_prepared_transactions: 2 } });
  session = await openNewDatabase(server, 'app');
  await session.script('CREATE TABLE public.item (id integer)');
});
afterAll(async () => {
  await session.close();
  await server[Symbol.asyncDispose]();
});

test('who is at work in a transaction that has written, and what is prepared; not who is idle, reads or is elsewhere', async () => {
  await using prepared = await openSession(server, 'app');
  await prepared.script(`BEGIN; INSERT INTO public.item VALUES (1); PREPARE TRANSACTION 'waits'`);
  await using idle = await openSession(server, 'app');
  await idle.script('BEGIN; INSERT INTO public.item VALUES (2)');
  await using reader = await openSession(server, 'app');
  await using elsewhere = await openSession(server);
  await using writer = await openSession(server, 'app');
  const [me] = await writer.query<{ pid: string }>('SELECT pg_backend_pid() AS pid');
  await writer.script('BEGIN; INSERT INTO public.item VALUES (3)');
  const work = [
    writer.script('SELECT pg_sleep(60)'),
    reader.script('SELECT pg_sleep(60)'),
    elsewhere.script('BEGIN; SELECT pg_current_xact_id(); SELECT pg_sleep(60)'),
  ];
  const settled = Promise.allSettled(work);
  expect(await readOpenWriters(session)).toEqual([]);
  let writers: Awaited<ReturnType<typeof readOpenWriters>> = [];
  await until('both to be told of', async () => {
    writers = await readOpenWriters(session);
    return writers.length === 2;
  });
  expect(writers).toMatchObject([
    { pid: null, gid: 'waits', role: 'postgres' },
    { pid: Number(me?.pid), gid: null, role: 'postgres', application: 'test' },
  ]);
  await session.script(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%'
                        AND pid <> pg_backend_pid()`);
  await session.script(`ROLLBACK PREPARED 'waits'`);
  await settled;
});

test('who has the oldest id, also idle, elsewhere and prepared', async () => {
  expect(await describeOldestWriter(session)).toBeUndefined();
  await using elsewhere = await openSession(server);
  await elsewhere.script('BEGIN; SELECT pg_current_xact_id()');
  await using prepared = await openSession(server, 'app');
  await prepared.script(`BEGIN; INSERT INTO public.item VALUES (1); PREPARE TRANSACTION 'waits'`);
  expect(await describeOldestWriter(session)).toBe(`process ${elsewhere.pid}, application "test"`);
  await elsewhere.script('ROLLBACK');
  expect(await describeOldestWriter(session)).toBe('prepared transaction "waits"');
  await session.script(`ROLLBACK PREPARED 'waits'`);
});
