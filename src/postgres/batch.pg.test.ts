import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { sendBatch, type BatchStatement } from './batch.ts';
import type { Session } from './session.ts';

const insert = (n: number | string): BatchStatement => ({ name: 'insert', params: [n] });
const BEGIN: BatchStatement = { name: 'begin', params: [] };
const COMMIT: BatchStatement = { name: 'commit', params: [] };

describe.each([14, 18])('on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  let session: Session;
  beforeAll(async () => {
    server = await startServer({ major });
    session = await openSession(server, 'postgres', { pipeline: true });
    await session.script('CREATE TABLE public.n (n integer PRIMARY KEY)');
    await session.prepare('begin', 'BEGIN');
    await session.prepare('commit', 'COMMIT');
    await session.prepare('insert', 'INSERT INTO public.n VALUES ($1::integer)');
  });
  afterAll(async () => {
    await session.close();
    await server[Symbol.asyncDispose]();
  });
  const rows = async () =>
    (await session.query<{ n: string }>('SELECT n FROM public.n ORDER BY n')).map(({ n }) =>
      Number(n),
    );

  test('several transactions in one batch are as many transactions', async () => {
    const before = await session.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
    const answer = await sendBatch(session, [BEGIN, insert(1), COMMIT, BEGIN, insert(2), COMMIT]);
    expect(answer).toEqual({ done: 6, error: undefined });
    const xids = await session.query<{ xid: string }>(
      'SELECT xmin::text::bigint - $1::bigint AS xid FROM public.n ORDER BY n',
      [before[0]?.xid ?? null],
    );
    expect(xids.map(({ xid }) => Number(xid))).toEqual([1, 2]);
  });

  test('the transactions before a failure stand, those behind it do not run', async () => {
    const answer = await sendBatch(session, [
      BEGIN,
      insert(3),
      COMMIT,
      BEGIN,
      insert(4),
      insert(3),
      COMMIT,
      BEGIN,
      insert(5),
      COMMIT,
    ]);
    expect(answer.done).toBe(5);
    expect(answer.error).toMatchObject({ code: '23505' });
    await session.script('ROLLBACK');
    expect(await rows()).toEqual([1, 2, 3]);
  });

  test('what is sent behind a batch is answered in its turn', async () => {
    const failing = sendBatch(session, [insert('x')]);
    const next = session.query<{ one: string }>('SELECT 1 AS one');
    expect((await failing).error).toMatchObject({ code: '22P02' });
    expect(await next).toEqual([{ one: '1' }]);
  });

  test('a connection that is lost answers', async () => {
    const other = await openSession(server, 'postgres', { pipeline: true });
    await other.prepare('sleep', 'SELECT pg_sleep(600)');
    const answer = sendBatch(other, [{ name: 'sleep', params: [] }]);
    other.abort();
    expect((await answer).error).toBeInstanceOf(Error);
    // Nor is anybody left with a rejection that came before he could look.
    expect(await sendBatch(other, [{ name: 'sleep', params: [] }])).toMatchObject({ done: 0 });
  });
});
