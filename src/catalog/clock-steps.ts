import { formatPgTime, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { Session } from '../postgres/session.ts';
import type { LastHeartbeat } from './own-stream.ts';

/** The clock of this node's server has stepped back (DESIGN 4.7). */
export interface ClockStep {
  /** The heartbeat that had told the greatest time. */
  readonly before: LastHeartbeat;
  /** What the clock showed after it. */
  readonly to: PgTime;
  /** It has shown nothing lower in between; undefined where that is not known. */
  readonly lowest?: PgTime;
}

/** Who notices a step that is noted already may know more of it. */
export async function noteClockStep(
  session: Session,
  { before, to, lowest }: ClockStep,
): Promise<void> {
  await session.run(
    /* sql */ `
      INSERT INTO bdr.bdr_clock_steps AS s (heartbeat_xid, oldest_xid, clock_was, clock_is, clock_lowest)
      VALUES ($1::xid8, $2::xid8, $3::timestamptz, $4::timestamptz, $5::timestamptz)
      ON CONFLICT (heartbeat_xid) DO UPDATE SET clock_lowest = EXCLUDED.clock_lowest
      WHERE s.clock_lowest IS NULL AND EXCLUDED.clock_lowest IS NOT NULL
    `,
    [
      before.xid,
      before.xmin,
      formatPgTime(before.clock),
      formatPgTime(to),
      lowest === undefined ? null : formatPgTime(lowest),
    ],
  );
}

/** A step whose rows are to be written again, and whose deletions made again. */
export interface DueStep {
  readonly heartbeatXid: string;
  /** Of transactions from this one on. */
  readonly oldestXid: string;
  /** Nobody has seen anything later before the step, nor while the clock was behind. */
  readonly upTo: PgTime;
}

/** What users saw between two heartbeats may be this much later than the greatest time that a heartbeat has told. */
const UNTOLD = "interval '5 s'";

/** Users may have written so much earlier than what the clock told first after a step, where nobody knows better. */
const UNSEEN = "interval '1 hour'";

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
  }>(/* sql */ `
    SELECT heartbeat_xid AS heartbeat, oldest_xid AS oldest, ${pgTimeSql(`clock_was + ${UNTOLD}`)} AS upto
    FROM bdr.bdr_clock_steps AS s
    WHERE clock_timestamp() > clock_was + ${UNTOLD}
      AND (
          least(bdr.internal_applied_upto(), (SELECT watermark_at FROM bdr.own_stream)) > clock_was + ${UNTOLD}
          OR clock_timestamp() > clock_was + ${PATIENCE}
      )
      AND (
          late_rewritten_at IS NULL
          OR EXISTS (SELECT FROM bdr.late_deletion AS d WHERE d.heartbeat_xid = s.heartbeat_xid)
      )
    ORDER BY heartbeat_xid
  `);
  return rows.map((row) => ({
    heartbeatXid: row.heartbeat,
    oldestXid: row.oldest,
    upTo: Number(row.upto) as PgTime,
  }));
}

/** Rows that peers' changes have written, and that may have taken the place of what users wrote late. */
export interface PeerRows {
  readonly heartbeatXid: string;
  /** By transactions from this one on. */
  readonly oldestXid: string;
  /** And before this one: what is applied from now on is left. */
  readonly endXid: string;
  /** The clock has shown nothing lower since the step: so nothing that users wrote late is older. */
  readonly from: PgTime;
  /** When what users wrote late was written again: whatever had taken its place bears an earlier time. */
  readonly upTo: PgTime;
}

/**
 * What there is of them, for steps of which it is due: once everything that is as old as such a row can be is applied, as far as it comes. It
 * would lose to the row's new version, though it may be newer than the row.
 */
export async function readDuePeerRows(session: Session): Promise<PeerRows[]> {
  const rows = await session.query<{
    heartbeat: string;
    oldest: string;
    ended: string;
    lowest: string;
    upto: string;
  }>(/* sql */ `
    SELECT heartbeat_xid AS heartbeat, oldest_xid AS oldest, pg_snapshot_xmax(pg_current_snapshot()) AS ended,
           ${pgTimeSql(`coalesce(clock_lowest, clock_is - ${UNSEEN})`)} AS lowest,
           ${pgTimeSql('late_rewritten_at')} AS upto
    FROM bdr.bdr_clock_steps
    WHERE rewritten_at IS NULL
      AND (
          least(bdr.internal_applied_upto(), (SELECT watermark_at FROM bdr.own_stream)) > late_rewritten_at
          OR clock_timestamp() > late_rewritten_at + ${PATIENCE}
      )
    ORDER BY heartbeat_xid
  `);
  return rows.map((row) => ({
    heartbeatXid: row.heartbeat,
    oldestXid: row.oldest,
    endXid: row.ended,
    from: Number(row.lowest) as PgTime,
    upTo: Number(row.upto) as PgTime,
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

/** What users wrote and deleted late is done again; rows of peers are still to be looked for. */
export async function endLateRows(
  session: Session,
  { heartbeatXid }: DueStep,
  { rewritten, deleted, lost }: DoneAgain,
): Promise<void> {
  await session.run(
    /* sql */ `
      UPDATE bdr.bdr_clock_steps
      SET late_rewritten_at = coalesce(late_rewritten_at, clock_timestamp()), nr_rewritten = coalesce(nr_rewritten, 0) + $2,
          nr_deleted = coalesce(nr_deleted, 0) + $3, nr_deletions = nr_deletions + $4
      WHERE heartbeat_xid = $1::xid8
    `,
    [heartbeatXid, rewritten, deleted, lost],
  );
}

/** Everything is done again that could be. */
export async function endClockStep(
  session: Session,
  { heartbeatXid }: PeerRows,
  rewritten: number,
): Promise<void> {
  await session.run(
    /* sql */ `
      UPDATE bdr.bdr_clock_steps
      SET rewritten_at = clock_timestamp(), nr_rewritten = coalesce(nr_rewritten, 0) + $2
      WHERE heartbeat_xid = $1::xid8
    `,
    [heartbeatXid, rewritten],
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
