import type { QualifiedName } from '../base/names.ts';
import { formatPgTime, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { GlobalLockRow, LockAsk, LockMode, LockNeed } from '../model/global-lock.ts';
import type { NodeId } from '../model/node.ts';
import { serverMajor } from '../postgres/server-facts.ts';
import type { Session } from '../postgres/session.ts';
import { whileNode } from './apply-gate.ts';

/** SQL on bdr.bdr_global_locks. Rows are written by the agent of the node that they are about, in transactions of its own. */
export async function readGlobalLocks(session: Session): Promise<GlobalLockRow[]> {
  const rows = await session.query<{
    mode: LockMode;
    owner_sysid: string;
    owner_timeline: string;
    owner_dboid: string;
    sysid: string;
    timeline: string;
    dboid: string;
    number: string;
    round: string;
    state: GlobalLockRow['state'];
    asked_at: string;
    tables: string | null;
    majority: string;
    known: string;
    pid: string | null;
    transaction: string | null;
    start: string | null;
  }>(/* sql */ `
    SELECT locktype AS mode, owning_sysid AS owner_sysid, owning_timeline AS owner_timeline, owning_datid AS owner_dboid,
           acquired_sysid AS sysid, acquired_timeline AS timeline, acquired_datid AS dboid,
           lock_number AS number, lock_round AS round, state, ${pgTimeSql('asked_at')} AS asked_at, tables,
           may_be_majority AS majority, known, owner_pid AS pid, owner_transaction AS transaction,
           ${pgTimeSql('owner_server_start')} AS start
    FROM bdr.bdr_global_locks
  `);
  return rows.map((row) => ({
    owner: {
      sysid: row.owner_sysid,
      timeline: Number(row.owner_timeline),
      dboid: Number(row.owner_dboid),
    },
    node: { sysid: row.sysid, timeline: Number(row.timeline), dboid: Number(row.dboid) },
    number: Number(row.number),
    round: Number(row.round),
    mode: row.mode,
    tables: row.tables === null ? null : tablesOf(JSON.parse(row.tables) as [string, string][]),
    mayBeMajority: row.majority === 't',
    state: row.state,
    askedAt: Number(row.asked_at) as PgTime,
    known: JSON.parse(row.known) as Record<string, number>,
    holder:
      row.pid === null || row.transaction === null
        ? null
        : {
            pid: Number(row.pid),
            transaction: row.transaction,
            serverStart: Number(row.start) as PgTime,
          },
  }));
}

function tablesOf(pairs: readonly [string, string][]): QualifiedName[] {
  return pairs.map(([schema, name]) => ({ schema, name }));
}

/** Tables as the catalogue keeps them. */
export function pairsOf(tables: readonly QualifiedName[] | null): string | null {
  return tables && JSON.stringify(tables.map(({ schema, name }) => [schema, name]));
}

/** What of this server's transactions is still there. */
export interface LiveTransactions {
  readonly serverStart: PgTime;
  /** Virtual transaction ids. */
  readonly transactions: ReadonlySet<string>;
}

export async function readLiveTransactions(session: Session): Promise<LiveTransactions> {
  const rows = await session.query<{ start: string; transaction: string }>(/* sql */ `
    SELECT ${pgTimeSql('pg_postmaster_start_time()')} AS start, virtualxid AS transaction
    FROM pg_locks WHERE locktype = 'virtualxid' AND granted
  `);
  return {
    // There is always the one that asks.
    serverStart: Number(rows[0]?.start) as PgTime,
    transactions: new Set(rows.map(({ transaction }) => transaction)),
  };
}

/** Of these sessions, by process id, those that a session of the agent waits for. */
export async function readWaitedFor(session: Session, pids: readonly number[]): Promise<number[]> {
  const rows = await session.query<{ pid: string }>(
    /* sql */ `SELECT p AS pid FROM bdr.internal_waited_for($1::integer[]) AS p`,
    [`{${pids.join()}}`],
  );
  return rows.map(({ pid }) => Number(pid));
}

/** Whether an ask reaches the disk only with the next commit. */
export async function mustFlushAsks(session: Session): Promise<boolean> {
  return (await serverMajor(session)) < 17;
}

/** Puts on disk what transactions ask for, if any is asking. */
export async function flushAsks(session: Session): Promise<void> {
  await session.query('SELECT bdr.internal_flush_asks()');
}

/** The peers whose streams are being read, as of the last report of their links. */
export async function readConnectedPeers(session: Session): Promise<NodeId[]> {
  const rows = await session.query<{ sysid: string; timeline: string; dboid: string }>(/* sql */ `
    SELECT provider_sysid AS sysid, provider_timeline AS timeline, provider_dboid AS dboid
    FROM bdr.bdr_links WHERE status = 'streaming'
  `);
  return rows.map(({ sysid, timeline, dboid }) => ({
    sysid,
    timeline: Number(timeline),
    dboid: Number(dboid),
  }));
}

const COLUMNS = /* sql */ `
  owning_sysid, owning_timeline, owning_datid, acquired_sysid, acquired_timeline, acquired_datid,
  locktype, state, lock_number, lock_round, asked_at, tables, may_be_majority, known,
  owner_pid, owner_transaction, owner_server_start, owner_created_lock_at, acquired_lock_at
`;
const KEY =
  'owning_sysid, owning_timeline, owning_datid, acquired_sysid, acquired_timeline, acquired_datid';

/** Writes what the node asks for. The number lies above all that it had before, in this life or another. */
export async function writeAsk(
  session: Session,
  me: NodeId,
  { askedAt, holder }: LockAsk,
  need: LockNeed,
  round: number,
): Promise<void> {
  await whileNode(session, () =>
    session.run(
      /* sql */ `
        INSERT INTO bdr.bdr_global_locks AS l (${COLUMNS})
        VALUES ($1, $2::oid, $3::oid, $1, $2::oid, $3::oid, $4, 'asked', ${pgTimeSql('clock_timestamp()')}, $5, $6, $7::jsonb, $8,
                '{}', $9, $10, $11, pg_current_wal_insert_lsn(), NULL)
        ON CONFLICT (${KEY}) DO UPDATE
        SET locktype = EXCLUDED.locktype, state = 'asked', lock_round = EXCLUDED.lock_round, asked_at = EXCLUDED.asked_at,
            lock_number = CASE WHEN EXCLUDED.lock_round > 1 THEN l.lock_number
                               ELSE greatest(EXCLUDED.lock_number, l.lock_number + 1) END,
            changed_at = clock_timestamp(), tables = EXCLUDED.tables, may_be_majority = EXCLUDED.may_be_majority,
            owner_pid = EXCLUDED.owner_pid, owner_transaction = EXCLUDED.owner_transaction,
            owner_server_start = EXCLUDED.owner_server_start, owner_created_lock_at = EXCLUDED.owner_created_lock_at
      `,
      [
        me.sysid,
        me.timeline,
        me.dboid,
        need.mode,
        round,
        formatPgTime(askedAt),
        pairsOf(need.tables),
        need.mayBeMajority,
        holder.pid,
        holder.transaction,
        formatPgTime(holder.serverStart),
      ],
    ),
  );
}

/** Says that the node's own lock is granted, or that it is released. */
export async function writeOwnState(
  session: Session,
  me: NodeId,
  state: 'acquired' | 'released',
): Promise<void> {
  await whileNode(session, () =>
    session.run(
      /* sql */ `
        UPDATE bdr.bdr_global_locks
        SET state = $4, changed_at = clock_timestamp(), acquired_lock_at = pg_current_wal_insert_lsn()
        WHERE (${KEY}) = ($1, $2::oid, $3::oid, $1, $2::oid, $3::oid)
      `,
      [me.sysid, me.timeline, me.dboid, state],
    ),
  );
}

/** Answers another node's lock, in the caller's transaction. */
export async function writeAnswer(
  session: Session,
  me: NodeId,
  lock: GlobalLockRow,
  state: 'catchup' | 'acquired',
  known: Readonly<Record<string, number>>,
): Promise<void> {
  const { owner } = lock;
  await session.run(
    /* sql */ `
      INSERT INTO bdr.bdr_global_locks (${COLUMNS})
      VALUES ($1, $2::oid, $3::oid, $4, $5::oid, $6::oid, $7, $8, $9, $10, $11, $12::jsonb, $13, $14::jsonb,
              NULL, NULL, NULL, NULL, pg_current_wal_insert_lsn())
      ON CONFLICT (${KEY}) DO UPDATE
      SET locktype = EXCLUDED.locktype, state = EXCLUDED.state, lock_number = EXCLUDED.lock_number,
          lock_round = EXCLUDED.lock_round, asked_at = EXCLUDED.asked_at, changed_at = clock_timestamp(),
          tables = EXCLUDED.tables, may_be_majority = EXCLUDED.may_be_majority, known = EXCLUDED.known,
          acquired_lock_at = EXCLUDED.acquired_lock_at
    `,
    [
      owner.sysid,
      owner.timeline,
      owner.dboid,
      me.sysid,
      me.timeline,
      me.dboid,
      lock.mode,
      state,
      lock.number,
      lock.round,
      formatPgTime(lock.askedAt),
      pairsOf(lock.tables),
      lock.mayBeMajority,
      JSON.stringify(known),
    ],
  );
}

/** Says that all is applied here that a lock waits for. */
export async function confirmAnswer(
  session: Session,
  me: NodeId,
  { owner }: GlobalLockRow,
): Promise<void> {
  await whileNode(session, () =>
    session.run(
      /* sql */ `
        UPDATE bdr.bdr_global_locks SET state = 'acquired', changed_at = clock_timestamp()
        WHERE (${KEY}) = ($1, $2::oid, $3::oid, $4, $5::oid, $6::oid)
      `,
      [owner.sysid, owner.timeline, owner.dboid, me.sysid, me.timeline, me.dboid],
    ),
  );
}

/** Takes an answer back. */
export async function deleteAnswer(
  session: Session,
  me: NodeId,
  { owner }: GlobalLockRow,
): Promise<void> {
  await whileNode(session, () =>
    session.run(
      /* sql */ `
        DELETE FROM bdr.bdr_global_locks WHERE (${KEY}) = ($1, $2::oid, $3::oid, $4, $5::oid, $6::oid)
      `,
      [owner.sysid, owner.timeline, owner.dboid, me.sysid, me.timeline, me.dboid],
    ),
  );
}
