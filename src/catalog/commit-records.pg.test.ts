import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { formatPgTime, LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { markRecords, readAppliedUpTo, readRecordLimit } from './commit-records.ts';

// Records are lost for real here: every database of the server is frozen, so that the server removes them.
describe('how far commit records go back', () => {
  let server: EmbeddedServer;
  let session: Session;
  beforeAll(async () => {
    server = await startServer();
    session = await openNewDatabase(server, 'app');
    await session.script(`
      UPDATE pg_database SET datallowconn = true;
      CREATE TABLE public.item (id integer PRIMARY KEY)`);
  });
  afterAll(async () => {
    await session?.close();
    await server?.[Symbol.asyncDispose]();
  });

  async function clock(): Promise<PgTime> {
    const [row] = await session.query<{ now: string }>(
      `SELECT ${pgTimeSql('clock_timestamp()')} AS now`,
    );
    return Number(row?.now) as PgTime;
  }

  async function freezeAll(): Promise<void> {
    for (const database of ['template0', 'template1', 'postgres', 'app']) {
      await using one = await openSession(server, database);
      await one.script('VACUUM FREEZE');
    }
    // The record of the last commit is known without looking for it.
    await session.script('SELECT pg_current_xact_id()');
  }

  async function recordOf(id: number): Promise<string | null> {
    const [row] = await session.query<{ record: string | null }>(
      'SELECT pg_xact_commit_timestamp(xmin)::text AS record FROM public.item WHERE id = $1',
      [id],
    );
    return row?.record ?? null;
  }

  /** Moves all marks back in time, so that the next is due. */
  const age = () =>
    session.script(`UPDATE bdr.record_mark SET marked_at = marked_at - interval '11 minutes'`);

  test('before the first checkpoint records go back to the start of the server', async () => {
    const limit = async () => (await readRecordLimit(session)).lostUpTo;
    const begun = await clock();
    expect(await limit()).toBeGreaterThan(begun);
    await markRecords(session);
    const marked = await clock();
    expect(await limit()).toBeLessThan(marked);
    // One from before the start says nothing, and does not keep the next from being made.
    await session.script(`UPDATE bdr.record_mark SET marked_at = pg_postmaster_start_time()`);
    expect(await limit()).toBeGreaterThan(marked);
    await markRecords(session);
    expect(await limit()).toBeGreaterThan(marked);
    expect(await limit()).toBeLessThan(await clock());
    await session.script('DELETE FROM bdr.record_mark');
  });

  test('a mark bounds what was committed before it, however late its record is lost', async () => {
    await session.script('CHECKPOINT');
    await session.script('INSERT INTO public.item VALUES (1)');
    // Nothing is marked yet: by now it is written.
    const before = await clock();
    expect((await readRecordLimit(session)).lostUpTo).toBeGreaterThan(before);
    await markRecords(session);
    const marked = await clock();
    const { lostUpTo, mayBeFalse } = await readRecordLimit(session);
    expect([lostUpTo > before, lostUpTo < marked, mayBeFalse]).toEqual([true, true, false]);

    await session.script('INSERT INTO public.item VALUES (2)');
    await age();
    await markRecords(session);
    const [first, second] = (
      await session.query<{ at: string }>(
        `SELECT ${pgTimeSql('marked_at')} AS at FROM bdr.record_mark ORDER BY marked_at`,
      )
    ).map(({ at }) => Number(at) as PgTime);
    expect((await readRecordLimit(session)).lostUpTo).toBe(first);
    await freezeAll();
    expect([await recordOf(1), await recordOf(2)]).toEqual([null, null]);
    // Row 2 was written after the first mark.
    expect((await readRecordLimit(session)).lostUpTo).toBeGreaterThanOrEqual(second as PgTime);
  });

  test('a transaction that takes long lies behind the marks that are made while it runs', async () => {
    await using writer = await openSession(server, 'app');
    await writer.script('BEGIN; INSERT INTO public.item VALUES (3)');
    await session.script('SELECT pg_current_xact_id()');
    await age();
    await markRecords(session);
    await writer.script('COMMIT');
    await freezeAll();
    const committed = await clock();
    expect(await recordOf(3)).toBeNull();
    await age();
    await markRecords(session);
    const { lostUpTo } = await readRecordLimit(session);
    // By the mark that was made meanwhile it had not ended.
    expect(lostUpTo).toBeGreaterThan(committed);
  });

  test('a clock that has stepped back leaves marks that do not', async () => {
    await session.script(`
      UPDATE bdr.record_mark SET marked_at = clock_timestamp() + interval '1 hour';
      SELECT pg_current_xact_id()`);
    const due = formatPgTime((await clock()) as PgTime);
    await markRecords(session);
    const [row] = await session.query<{ back: string }>(
      `SELECT count(*) FILTER (WHERE marked_at < '${due}') AS back FROM bdr.record_mark`,
    );
    expect(row?.back).toBe('0');
    await session.script('DELETE FROM bdr.record_mark');
  });

  test('marks are thinned out', async () => {
    await session.script(`
      INSERT INTO bdr.record_mark
      SELECT '2020-01-01'::timestamptz + make_interval(mins => n), (n::text)::xid8, (n::text)::xid8
      FROM generate_series(3, 1200) AS n`);
    await markRecords(session);
    const [row] = await session.query<{ count: string }>('SELECT count(*) FROM bdr.record_mark');
    expect(Math.abs(Number(row?.count) - 600)).toBeLessThan(5);
    await session.script('DELETE FROM bdr.record_mark');
  });

  test('a node has applied what all its live peers have sent, and knows nothing while one is unknown', async () => {
    const applied = () => readAppliedUpTo(session);
    expect(await applied()).toBe(LONG_AGO);
    await session.script(`
      INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, 1);
      INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name)
      VALUES ('7', 1, 1, 'r', 'me'), ('7', 1, 2, 'r', 'a'), ('7', 1, 3, 'o', 'b'), ('7', 1, 4, 'k', 'gone'), ('7', 1, 5, 'i', 'new');
      INSERT INTO bdr.bdr_links (provider_sysid, provider_timeline, provider_dboid, slot_name, origin_name, watermark_at)
      VALUES ('7', 1, 2, 's', 'o', '2000-01-01 00:00:02+00'), ('7', 1, 3, 's', 'o', NULL), ('7', 1, 4, 's', 'o', NULL)`);
    expect(await applied()).toBe(LONG_AGO);
    await session.script(
      `UPDATE bdr.bdr_links SET watermark_at = '2000-01-01 00:00:01+00' WHERE provider_dboid = 3`,
    );
    expect(await applied()).toBe(1_000_000);
    await session.script(`DELETE FROM bdr.bdr_links WHERE provider_dboid = 2`);
    expect(await applied()).toBe(LONG_AGO);
  });
});
