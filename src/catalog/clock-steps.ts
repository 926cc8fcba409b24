import { formatPgTime, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { Session } from '../postgres/session.ts';
import type { LastHeartbeat } from './own-stream.ts';

/** The clock of this node's server has stepped back (DESIGN 4.7). */
export interface ClockStep {
  /** The heartbeat that had told the greatest time. */
  readonly before: LastHeartbeat;
  /** What the clock showed after it. */
  readonly to: PgTime;
}

export async function noteClockStep(session: Session, { before, to }: ClockStep): Promise<void> {
  await session.run(
    /* sql */ `
      INSERT INTO bdr.bdr_clock_steps (heartbeat_xid, oldest_xid, clock_was, clock_is)
      VALUES ($1::xid8, $2::xid8, $3::timestamptz, $4::timestamptz)
      ON CONFLICT (heartbeat_xid) DO NOTHING
    `,
    [before.xid, before.xmin, formatPgTime(before.clock), formatPgTime(to)],
  );
}

/** A step whose rows are to be written again, and whose deletions made again. */
export interface DueStep {
  readonly heartbeatXid: string;
  /** Of transactions from this one on. */
  readonly oldestXid: string;
  /** Nobody has seen anything later before the step, nor while the clock was behind. */
  readonly upTo: PgTime;
  /** When it was found to be due: whatever has taken the place of rows of that time bears an earlier one. */
  readonly dueAt: PgTime;
}

/** What users saw between two heartbeats may be this much later than the greatest time that a heartbeat has told. */
const UNTOLD = "interval '5 s'";

/** So long is waited for what peers have written meanwhile, and for the own stream. */
const PATIENCE = "interval '5 min'";

/**
 * The steps that are behind, so that what is written from now on is later than all that anybody has seen. What peers wrote meanwhile
 * is applied first, as far as it comes: it is later than the rows that it meets, and should not lose to them. What users deleted is noted by
 * the own stream, which has passed it then.
 */
export async function readDueSteps(session: Session): Promise<DueStep[]> {
  const rows = await session.query<{
    heartbeat: string;
    oldest: string;
    upto: string;
    due: string;
  }>(/* sql */ `
    SELECT heartbeat_xid AS heartbeat, oldest_xid AS oldest, ${pgTimeSql(`clock_was + ${UNTOLD}`)} AS upto,
           ${pgTimeSql('clock_timestamp()')} AS due
    FROM bdr.bdr_clock_steps AS s
    WHERE clock_timestamp() > clock_was + ${UNTOLD}
      AND (
          least(bdr.internal_applied_upto(), (SELECT watermark_at FROM bdr.own_stream)) > clock_was + ${UNTOLD}
          OR clock_timestamp() > clock_was + ${PATIENCE}
      )
      AND (
          rewritten_at IS NULL
          OR EXISTS (SELECT FROM bdr.late_deletion AS d WHERE d.heartbeat_xid = s.heartbeat_xid)
      )
    ORDER BY heartbeat_xid
  `);
  return rows.map((row) => ({
    heartbeatXid: row.heartbeat,
    oldestXid: row.oldest,
    upTo: Number(row.upto) as PgTime,
    dueAt: Number(row.due) as PgTime,
  }));
}

/** What of a step has been done again. */
export interface DoneAgain {
  /** Rows that were written again. */
  readonly rewritten: number;
  /** Deletions and truncates that were made again. */
  readonly deleted: number;
  /** Deletions and truncates that cannot be made again. */
  readonly lost: number;
}

export async function endClockStep(
  session: Session,
  { heartbeatXid }: DueStep,
  { rewritten, deleted, lost }: DoneAgain,
): Promise<void> {
  await session.run(
    /* sql */ `
      UPDATE bdr.bdr_clock_steps
      SET rewritten_at = clock_timestamp(), nr_rewritten = coalesce(nr_rewritten, 0) + $2,
          nr_deleted = coalesce(nr_deleted, 0) + $3, nr_deletions = nr_deletions + $4
      WHERE heartbeat_xid = $1::xid8
    `,
    [heartbeatXid, rewritten, deleted, lost],
  );
}

/** A table whose rows peers receive. */
export interface SentTable {
  readonly oid: string;
  /** One of the group's own: each node writes what is about itself. */
  readonly isOwn: boolean;
}

export async function readSentTables(session: Session): Promise<SentTable[]> {
  const rows = await session.query<{ oid: string; own: string }>(/* sql */ `
    SELECT t::oid AS oid, false AS own FROM bdr.internal_replicated_tables() AS t
    UNION ALL VALUES ('bdr.bdr_nodes'::regclass::oid, true), ('bdr.bdr_connections'::regclass::oid, true)
  `);
  return rows.map(({ oid, own }) => ({ oid, isOwn: own === 't' }));
}
