import type { JoinProgress } from './nodes.ts';
import type { LinkStatus } from './links.ts';
import type { OwnStreamStatus } from './own-stream.ts';
import type { LockMode } from '../model/global-lock.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';

/** A moment as ISO 8601 text in UTC, for people and for JSON. */
export type Moment = string;

/** A link of this node as its agent reported it, about once a second. */
export interface LinkState {
  readonly provider: NodeId;
  readonly status: LinkStatus;
  readonly since: Moment;
  /** As node/describe-error.ts makes it. */
  readonly error: { readonly message: string; readonly hint?: string | null } | null;
  /** The transaction that cannot be applied: bdr.skip_changes_upto() takes its position. */
  readonly failed: {
    readonly xid: string;
    readonly commitLsn: string;
    readonly commitAt: Moment;
  } | null;
  /** Up to where bdr.skip_changes_upto() was told to skip; null when there is nothing left to skip. */
  readonly skipUptoLsn: string | null;
  readonly receivedLsn: string | null;
  readonly appliedLsn: string | null;
  /** When the last transaction applied here was committed, by the provider's clock. */
  readonly appliedCommitAt: Moment | null;
  readonly caughtUpAt: Moment | null;
  /** All that the provider committed up to then is applied here, by the provider's clock. */
  readonly watermarkAt: Moment | null;
  /** At most so far behind: everything that was committed on the provider before is applied here. Null while nothing was. */
  readonly lagMs: number | null;
  /** Received and not yet applied. */
  readonly unappliedBytes: number | null;
}

/** How this node reads its own log, as its agent reported it, and what it remembers of deletions. */
export interface OwnStreamState {
  readonly status: OwnStreamStatus;
  readonly since: Moment;
  readonly error: LinkState['error'];
  readonly appliedLsn: string | null;
  /** Every deletion that its users committed up to then is remembered. */
  readonly watermarkAt: Moment | null;
  readonly tombstones: number;
  /** WAL that the server keeps because of it. */
  readonly bytesKept: number | null;
}

/** A slot of this node, from which a peer reads. */
export interface SlotState {
  readonly subscriber: NodeId;
  readonly slot: string;
  /** The peer is connected. */
  readonly active: boolean;
  /** Up to here the peer has everything, on its disk. */
  readonly confirmedLsn: string | null;
  /** WAL that the peer has not confirmed. */
  readonly bytesBehind: number | null;
  /** WAL that the server keeps because of this slot. */
  readonly bytesKept: number | null;
  /** reserved, extended, unreserved or lost. */
  readonly walStatus: string | null;
}

/** How far back commit records go, which tell when rows were written. */
export interface RecordState {
  /** Rows without a record were written no later. */
  readonly lostUpTo: Moment;
  readonly keptMs: number;
  /** The record of a frozen row may be another transaction's: ids have been used twice. */
  readonly mayBeFalse: boolean;
}

/** A step back of the clock that is not dealt with: until then nodes may differ in what was written here meanwhile. */
export interface ClockStepState {
  readonly clockWas: Moment;
  readonly clockIs: Moment;
  /** What was written and deleted below the greatest time was written and deleted again; false while the clock has not passed it. */
  readonly isRewritten: boolean;
  /** Deletions that may have lost on other nodes, and cannot be made again. */
  readonly deletions: number;
}

/** A global lock that is held or asked for. */
export interface GlobalLockState {
  readonly owner: string;
  readonly isLocal: boolean;
  readonly mode: LockMode;
  readonly isHeld: boolean;
  readonly askedAt: Moment;
  readonly ms: number;
  /** Backend of this server that asked for it. */
  readonly pid: number | null;
  /** Nodes that have not answered, as far as this one knows. */
  readonly waitingFor: readonly string[];
}

export interface ConflictCounts {
  readonly total: number;
  readonly lastHour: number;
}

/** The SQL of a Moment, to the millisecond or to the microsecond. */
export function momentSql(expression: string, digits: 'MS' | 'US' = 'MS'): string {
  return `to_char(${expression} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.${digits}"Z"')`;
}

export async function readClock(session: Session): Promise<Moment> {
  const [row] = await session.query<{ now: string }>(
    `SELECT ${momentSql('clock_timestamp()')} AS now`,
  );
  return row?.now ?? '';
}

/** The backend that holds the lock of the server's agent; null when no agent is there. */
export async function readAgentPid(session: Session): Promise<number | null> {
  const [row] = await session.query<{ pid: string | null }>(
    /* sql */ `SELECT bdr.internal_agent_pid() AS pid`,
  );
  return row?.pid ? Number(row.pid) : null;
}

export async function readJoinProgress(session: Session): Promise<JoinProgress | null> {
  const [row] = await session.query<{ progress: string | null }>(
    /* sql */ `SELECT join_progress AS progress FROM bdr.bdr_local_node`,
  );
  return row?.progress ? (JSON.parse(row.progress) as JoinProgress) : null;
}

export async function readLinkStates(session: Session): Promise<LinkState[]> {
  const rows = await session.query<
    Record<'sysid' | 'timeline' | 'dboid' | 'since', string> & {
      status: LinkStatus;
      error: string | null;
      failed_xid: string | null;
      failed_lsn: string | null;
      failed_at: string | null;
      skip_upto: string | null;
      received: string | null;
      applied: string | null;
      commit_at: string | null;
      caught_up_at: string | null;
      watermark_at: string | null;
      lag: string | null;
      unapplied: string | null;
    }
  >(/* sql */ `
    SELECT provider_sysid AS sysid, provider_timeline AS timeline, provider_dboid AS dboid,
           status, ${momentSql('status_since')} AS since, status_error AS error,
           failed_xid, failed_commit_lsn AS failed_lsn, ${momentSql('failed_commit_at')} AS failed_at,
           skip_upto_lsn AS skip_upto,
           received_lsn AS received, applied_lsn AS applied,
           ${momentSql('applied_commit_at')} AS commit_at,
           ${momentSql('caught_up_at')} AS caught_up_at,
           ${momentSql('watermark_at')} AS watermark_at,
           extract(epoch FROM clock_timestamp() - greatest(applied_commit_at, caught_up_at)) * 1000 AS lag,
           received_lsn - applied_lsn AS unapplied
    FROM bdr.bdr_links
    ORDER BY 1, 2, 3
  `);
  return rows.map((row) => ({
    provider: idOf(row),
    status: row.status,
    since: row.since,
    error: row.error === null ? null : (JSON.parse(row.error) as LinkState['error']),
    failed:
      row.failed_xid === null
        ? null
        : { xid: row.failed_xid, commitLsn: row.failed_lsn ?? '', commitAt: row.failed_at ?? '' },
    skipUptoLsn: row.skip_upto,
    receivedLsn: row.received,
    appliedLsn: row.applied,
    appliedCommitAt: row.commit_at,
    caughtUpAt: row.caught_up_at,
    watermarkAt: row.watermark_at,
    // The provider's clock may be a little ahead of this server's.
    lagMs: atLeastZero(row.lag),
    unappliedBytes: atLeastZero(row.unapplied),
  }));
}

/** Undefined until the agent has begun to read. */
export async function readOwnStreamState(session: Session): Promise<OwnStreamState | undefined> {
  const [row] = await session.query<{
    status: OwnStreamStatus;
    since: string;
    error: string | null;
    applied: string | null;
    watermark_at: string | null;
    tombstones: string;
    kept: string | null;
  }>(/* sql */ `
    SELECT status, ${momentSql('status_since')} AS since, status_error AS error, applied_lsn AS applied,
           ${momentSql('watermark_at')} AS watermark_at,
           (SELECT count(*) FROM bdr.tombstone) AS tombstones,
           (SELECT pg_current_wal_lsn() - s.restart_lsn
            FROM pg_replication_slots AS s
            JOIN pg_database AS d ON d.datname = s.database
            WHERE d.datname = current_database() AND s.slot_name = format('bdr_%s_own__', d.oid)::name) AS kept
    FROM bdr.own_stream
  `);
  return (
    row && {
      status: row.status,
      since: row.since,
      error: row.error === null ? null : (JSON.parse(row.error) as LinkState['error']),
      appliedLsn: row.applied,
      watermarkAt: row.watermark_at,
      tombstones: Number(row.tombstones),
      bytesKept: atLeastZero(row.kept),
    }
  );
}

export async function readSlotStates(session: Session): Promise<SlotState[]> {
  const rows = await session.query<
    Record<'sysid' | 'timeline' | 'dboid' | 'slot' | 'active', string> & {
      confirmed: string | null;
      behind: string | null;
      kept: string | null;
      wal_status: string | null;
    }
  >(/* sql */ `
    SELECT p.remote_sysid AS sysid, p.remote_timeline AS timeline, p.remote_dboid AS dboid,
           s.slot_name AS slot, s.active, s.confirmed_flush_lsn AS confirmed,
           pg_current_wal_lsn() - s.confirmed_flush_lsn AS behind,
           pg_current_wal_lsn() - s.restart_lsn AS kept,
           s.wal_status
    FROM pg_replication_slots AS s
    CROSS JOIN LATERAL bdr.bdr_parse_slot_name(s.slot_name) AS p
    JOIN pg_database AS d ON d.oid = p.local_dboid AND d.datname = current_database()
    WHERE s.plugin = 'pgoutput' AND s.database = current_database()
    ORDER BY s.slot_name
  `);
  return rows.map((row) => ({
    subscriber: idOf(row),
    slot: row.slot,
    active: row.active === 't',
    confirmedLsn: row.confirmed,
    bytesBehind: atLeastZero(row.behind),
    bytesKept: atLeastZero(row.kept),
    walStatus: row.wal_status,
  }));
}

export async function readRecordState(session: Session): Promise<RecordState> {
  const [row] = await session.query<{ upto: string; kept: string; may_be_false: string }>(
    `SELECT ${momentSql('lost_upto')} AS upto, extract(epoch FROM clock_timestamp() - lost_upto) * 1000 AS kept, may_be_false
     FROM bdr.internal_record_limit()`,
  );
  return {
    lostUpTo: row?.upto ?? '',
    keptMs: atLeastZero(row?.kept ?? null) ?? 0,
    mayBeFalse: row?.may_be_false === 't',
  };
}

export async function readClockSteps(session: Session): Promise<ClockStepState[]> {
  const rows = await session.query<
    Record<'was' | 'is' | 'rewritten' | 'deletions', string>
  >(/* sql */ `
    SELECT ${momentSql('clock_was')} AS was, ${momentSql('clock_is')} AS is,
           rewritten_at IS NOT NULL AS rewritten, nr_deletions AS deletions
    FROM bdr.bdr_clock_steps
    WHERE rewritten_at IS NULL OR nr_deletions > 0
    ORDER BY heartbeat_xid
  `);
  return rows.map((row) => ({
    clockWas: row.was,
    clockIs: row.is,
    isRewritten: row.rewritten === 't',
    deletions: Number(row.deletions),
  }));
}

export async function readGlobalLockStates(session: Session): Promise<GlobalLockState[]> {
  const rows = await session.query<
    Record<'owner' | 'local' | 'held' | 'asked_at' | 'ms' | 'waiting_for', string> & {
      mode: LockMode;
      pid: string | null;
    }
  >(/* sql */ `
    SELECT l.owner_node_name AS owner, l.owner_is_my_node AS local, l.lock_mode AS mode, l.owner_local_pid AS pid,
           ${momentSql('l.asked_at')} AS asked_at, extract(epoch FROM clock_timestamp() - l.asked_at) * 1000 AS ms,
           to_json(coalesce(l.waiting_for, '{}')) AS waiting_for,
           EXISTS (
               SELECT FROM bdr.bdr_global_locks AS o
               WHERE (o.owning_sysid, o.owning_timeline, o.owning_datid) = (l.owner_sysid, l.owner_timeline, l.owner_dboid)
                 AND (o.acquired_sysid, o.acquired_timeline, o.acquired_datid) = (l.owner_sysid, l.owner_timeline, l.owner_dboid)
                 AND o.state = 'acquired'
           ) AS held
    FROM bdr.bdr_locks AS l
    WHERE l.lock_mode IS NOT NULL
    ORDER BY l.asked_at
  `);
  return rows.map((row) => ({
    owner: row.owner,
    isLocal: row.local === 't',
    mode: row.mode,
    isHeld: row.held === 't',
    askedAt: row.asked_at,
    ms: atLeastZero(row.ms) ?? 0,
    pid: row.pid === null ? null : Number(row.pid),
    waitingFor: JSON.parse(row.waiting_for) as string[],
  }));
}

export async function readConflictCounts(session: Session): Promise<ConflictCounts> {
  const [row] = await session.query<{ total: string; last_hour: string }>(/* sql */ `
    SELECT count(*) AS total,
           count(*) FILTER (WHERE local_conflict_time > clock_timestamp() - interval '1 hour') AS last_hour
    FROM bdr.bdr_conflict_history
  `);
  return { total: Number(row?.total), lastHour: Number(row?.last_hour) };
}

function idOf(row: Record<'sysid' | 'timeline' | 'dboid', string>): NodeId {
  return { sysid: row.sysid, timeline: Number(row.timeline), dboid: Number(row.dboid) };
}

function atLeastZero(value: string | null): number | null {
  return value === null ? null : Math.max(0, Math.round(Number(value)));
}
