import { afterAll, beforeAll, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { until } from '../../test/support/cluster.ts';
import { startServer } from '../../test/support/servers.ts';
import { pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { DueStep } from '../catalog/clock-steps.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { ensureOrigin } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { RowRewriter } from './row-rewriter.ts';

let server: EmbeddedServer;
let session: Session;
let user: Session;
beforeAll(async () => {
  server = await startServer();
  user = await openNewDatabase(server, 'app');
  session = await openSession(server, 'app', {
    settings: { session_replication_role: 'replica', lock_timeout: '50ms' },
  });
  await ensureOrigin(user, 'other');
  await user.script(`
    CREATE TABLE public.item (id integer PRIMARY KEY, v text);
    CREATE TABLE public.lonely (id integer PRIMARY KEY);
    CREATE TABLE public.keyless (v text);
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON public.item FOR EACH ROW EXECUTE FUNCTION public.refuse()`);
});
afterAll(async () => {
  await session?.close();
  await user?.close();
  await server?.[Symbol.asyncDispose]();
});

/** Rows, with whether each was written by the given transaction or a later one. */
async function writtenSince(xid: string): Promise<string[]> {
  const rows = await user.query<{ id: string }>(
    `SELECT id FROM public.item WHERE age(xmin) <= age(('${xid}'::xid8)::xid) ORDER BY id`,
  );
  return rows.map(({ id }) => id);
}

async function nextId(): Promise<string> {
  const [row] = await user.query<{ id: string }>('SELECT pg_current_xact_id() AS id');
  return row?.id ?? '';
}

async function clock(): Promise<PgTime> {
  const [row] = await user.query<{ now: string }>(
    `SELECT ${pgTimeSql('clock_timestamp()')} AS now`,
  );
  return Number(row?.now) as PgTime;
}

/** A step whose rows are those of transactions from `oldestXid` on, up to now. */
async function stepUpToNow(oldestXid: string): Promise<DueStep> {
  return { heartbeatXid: oldestXid, oldestXid, upTo: await clock() };
}

const rewriter = () => new RowRewriter(session, new AbortController().signal);
const rewrite = (step: DueStep) => rewriter().rewriteLate(step);

/** Writes as the apply of a peer does. */
async function writeAsPeer(sql: string): Promise<void> {
  await user.script(`SELECT pg_replication_origin_session_setup('other')`);
  await user.script(
    `BEGIN; SELECT pg_replication_origin_xact_setup('0/1', clock_timestamp()); ${sql}; COMMIT`,
  );
  await user.script('SELECT pg_replication_origin_session_reset()');
}

test('rows of this node’s users are written again, from a transaction on and up to a time, and no others', async () => {
  await user.script(`INSERT INTO public.item VALUES (1, 'before')`);
  const oldest = await nextId();
  await user.script(`INSERT INTO public.item VALUES (2, 'late'), (3, 'late')`);
  await user.script(
    `INSERT INTO public.lonely VALUES (1); INSERT INTO public.keyless VALUES ('late')`,
  );
  await writeAsPeer(`INSERT INTO public.item VALUES (4, 'of a peer')`);
  const step = await stepUpToNow(oldest);
  await user.script(`INSERT INTO public.item VALUES (5, 'after')`);
  const before = await nextId();
  expect(await rewrite(step)).toBe(3);
  expect(await writtenSince(before)).toEqual(['2', '3']);
  // They have versions of now: there is nothing left to do.
  expect(await rewrite(step)).toBe(0);
});

// What a peer has written may have taken the place of a late row.
test('rows of peers are written again, between two times and two transactions, and no others', async () => {
  await writeAsPeer(`INSERT INTO public.item VALUES (20, 'before')`);
  const oldestXid = await nextId();
  await writeAsPeer(`INSERT INTO public.item VALUES (21, 'too old to be late')`);
  const from = await clock();
  await writeAsPeer(`INSERT INTO public.item VALUES (22, 'between')`);
  await user.script(`INSERT INTO public.item VALUES (23, 'of a user')`);
  const endXid = await nextId();
  await writeAsPeer(`INSERT INTO public.item VALUES (24, 'applied later')`);
  const rows = { heartbeatXid: oldestXid, oldestXid, endXid, from, upTo: await clock() };
  await writeAsPeer(`INSERT INTO public.item VALUES (25, 'later')`);
  const beyond = await nextId();
  expect(await rewriter().rewriteOfPeers(rows)).toBe(1);
  expect(await writtenSince(beyond)).toEqual(['22']);
  expect(await rewriter().rewriteOfPeers({ ...rows, endXid: beyond })).toBe(1);
  expect(await writtenSince(beyond)).toEqual(['22', '24']);
});

test('a row that somebody holds is waited for', async () => {
  const oldest = await nextId();
  await user.script(`INSERT INTO public.item VALUES (6, 'late'), (7, 'late')`);
  const step = await stepUpToNow(oldest);
  const before = await nextId();
  await using holder = await openSession(server, 'app');
  await holder.script('BEGIN; SELECT FROM public.item WHERE id = 6 FOR UPDATE');
  const rewriting = rewrite(step);
  await until('the other row to be written', async () =>
    (await writtenSince(before)).includes('7'),
  );
  expect(await writtenSince(before)).toEqual(['7']);
  await holder.script('ROLLBACK');
  expect(await rewriting).toBe(2);
  expect(await writtenSince(before)).toEqual(['6', '7']);
});

// A peer that has an older row of this node under the key would keep that one's long value, where the log leaves it out.
test('a long value of a peer’s row is sent with it, and of a user’s row not', async () => {
  const long = `(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 200))`;
  const oldest = await nextId();
  await user.script(`INSERT INTO public.item VALUES (10, ${long})`);
  const from = await clock();
  await writeAsPeer(`INSERT INTO public.item VALUES (11, ${long})`);
  const kept = () =>
    user.query<{ id: string; chunks: string; md5: string }>(
      `SELECT id, pg_column_toast_chunk_id(v) AS chunks, md5(v) AS md5 FROM public.item WHERE id IN (10, 11) ORDER BY id`,
    );
  const before = await kept();
  const step = await stepUpToNow(oldest);
  const ofPeers = { ...step, from, endXid: await nextId() };
  expect(await rewrite(step)).toBe(1);
  expect(await rewriter().rewriteOfPeers(ofPeers)).toBe(1);
  const after = await kept();
  expect(after.map(({ md5 }) => md5)).toEqual(before.map(({ md5 }) => md5));
  // What is stored anew is in the log, as a change of the row.
  expect(after[0]?.chunks).toBe(before[0]?.chunks);
  expect(after[1]?.chunks).not.toBe(before[1]?.chunks);
});
