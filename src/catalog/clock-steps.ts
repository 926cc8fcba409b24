import { formatPgTime, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { Session } from '../postgres/session.ts';
import type { LastHeartbeat } from './own-stream.ts';

/** The clock of this node's server has stepped back (DESIGN 4.7). */
export interface ClockStep {
  /** The heartbeat that had told the greatest time. */
  readonly before: LastHeartbeat;
  /** What the clock showed after it. */
  readonly to: PgTime;
  /** So many deletions and truncates were committed below the greatest time since. */
  readonly deletions: number;
}

/** Keeps a step, or what has become known of it since. */
export async function noteClockStep(
  session: Session,
  { before, to, deletions }: ClockStep,
): Promise<void> {
  await session.run(
    /* sql */ `
      INSERT INTO bdr.bdr_clock_steps AS s (heartbeat_xid, oldest_xid, clock_was, clock_is, nr_deletions)
      VALUES ($1::xid8, $2::xid8, $3::timestamptz, $4::timestamptz, $5)
      ON CONFLICT (heartbeat_xid) DO UPDATE SET nr_deletions = greatest(s.nr_deletions, EXCLUDED.nr_deletions)
    `,
    [before.xid, before.xmin, formatPgTime(before.clock), formatPgTime(to), deletions],
  );
}

/** A step whose rows are to be written again. */
export interface DueStep {
  readonly heartbeatXid: string;
  /** Rows of transactions from this one on, up to this time, are to be written again. */
  readonly oldestXid: string;
  readonly upTo: PgTime;
}

/** What users saw between two heartbeats may be this much later than the greatest time that a heartbeat has told. */
const UNTOLD = "interval '5 s'";

/** So long is waited for what peers have written meanwhile. */
const PATIENCE = "interval '5 min'";

/**
 * The steps that are behind, so that what is written from now on is later than all that anybody has seen. What peers wrote meanwhile
 * is applied first, as far as it comes: it is later than the rows that it meets, and should not lose to them.
 */
export async function readDueSteps(session: Session): Promise<DueStep[]> {
  const rows = await session.query<{ heartbeat: string; oldest: string; upto: string }>(/* sql */ `
    SELECT heartbeat_xid AS heartbeat, oldest_xid AS oldest, ${pgTimeSql(`clock_was + ${UNTOLD}`)} AS upto
    FROM bdr.bdr_clock_steps
    WHERE rewritten_at IS NULL AND clock_timestamp() > clock_was + ${UNTOLD}
      AND (bdr.internal_applied_upto() > clock_was + ${UNTOLD} OR clock_timestamp() > clock_was + ${PATIENCE})
    ORDER BY heartbeat_xid
  `);
  return rows.map((row) => ({
    heartbeatXid: row.heartbeat,
    oldestXid: row.oldest,
    upTo: Number(row.upto) as PgTime,
  }));
}

export async function endClockStep(
  session: Session,
  { heartbeatXid }: DueStep,
  rewritten: number,
): Promise<void> {
  await session.run(
    /* sql */ `
      UPDATE bdr.bdr_clock_steps SET rewritten_at = clock_timestamp(), nr_rewritten = $2
      WHERE heartbeat_xid = $1::xid8
    `,
    [heartbeatXid, rewritten],
  );
}

/** OIDs of the tables whose rows peers receive. */
export async function readSentTables(session: Session): Promise<string[]> {
  const rows = await session.query<{ oid: string }>(/* sql */ `
    SELECT t::oid AS oid FROM bdr.internal_replicated_tables() AS t
    UNION ALL VALUES ('bdr.bdr_nodes'::regclass::oid), ('bdr.bdr_connections'::regclass::oid)
  `);
  return rows.map(({ oid }) => oid);
}
