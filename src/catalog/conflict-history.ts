import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { QualifiedName } from '../base/names.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import type { Conflict } from '../conflict/decide.ts';
import type { Policy } from '../conflict/policy.ts';
import type { Version } from '../conflict/version.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';

/** What became of the local row. */
export type ConflictAction = 'skip' | 'insert' | 'update' | 'delete';

/** A conflict as it was met and resolved; rows and keys are JSON text. */
export interface ConflictRecord extends Conflict {
  readonly table: QualifiedName;
  /** The columns of the key with their values; null for a table whose rows have none. */
  readonly key: string | null;
  readonly policy: Policy;
  readonly action: ConflictAction;
  readonly certainlyConcurrent: boolean;
  readonly local: {
    readonly row: string | null;
    readonly xmin: string | null;
    /** Of the row, or of the deletion that is remembered in its place. */
    readonly version: Version | null;
  };
  readonly remote: {
    readonly row: string | null;
    readonly node: NodeId;
    readonly xid: number;
    readonly commitTime: PgTime;
    readonly commitLsn: Lsn;
  };
}

/** Keeps conflicts in bdr.bdr_conflict_history, in the apply transaction that resolves them: if that is undone, so is this. */
export async function recordConflicts(
  session: Session,
  localNode: NodeId,
  conflicts: readonly ConflictRecord[],
): Promise<void> {
  await session.execute(
    'bdr_record_conflicts',
    /* sql */ `
      INSERT INTO bdr.bdr_conflict_history (
          local_node_sysid, local_conflict_xid, local_conflict_lsn, local_conflict_time,
          object_schema, object_name,
          remote_node_sysid, remote_node_timeline, remote_node_dboid,
          remote_txid, remote_commit_time, remote_commit_lsn,
          conflict_type, conflict_resolution, local_tuple, remote_tuple,
          local_tuple_xmin, local_tuple_origin_sysid, local_tuple_origin_timeline, local_tuple_origin_dboid,
          local_commit_time,
          row_key, policy, rule, action, certainly_concurrent
      )
      SELECT $1, pg_current_xact_id()::xid, pg_current_wal_insert_lsn(), clock_timestamp(),
             c.object_schema, c.object_name,
             c.remote_sysid, c.remote_timeline, c.remote_dboid,
             c.remote_xid, c.remote_time, c.remote_lsn,
             c.type, c.resolution, c.local_row::json, c.remote_row::json,
             c.local_xmin, c.local_sysid, c.local_timeline, c.local_dboid,
             c.local_time,
             c.key::json, c.policy, c.rule, c.action, c.certain
      FROM json_to_recordset($2::json) AS c (
          object_schema text, object_name text,
          remote_sysid text, remote_timeline oid, remote_dboid oid,
          remote_xid xid, remote_time timestamptz, remote_lsn pg_lsn,
          type bdr.bdr_conflict_type, resolution bdr.bdr_conflict_resolution, local_row text, remote_row text,
          local_xmin xid, local_sysid text, local_timeline oid, local_dboid oid,
          local_time timestamptz,
          key text, policy text, rule text, action text, certain boolean
      )
    `,
    [localNode.sysid, JSON.stringify(conflicts.map(columnsOf))],
  );
}

function columnsOf(conflict: ConflictRecord): Readonly<Record<string, unknown>> {
  const { table, key, type, resolution, policy, rule, action, local, remote } = conflict;
  const writer = local.version?.writer.id;
  return {
    object_schema: table.schema,
    object_name: table.name,
    remote_sysid: remote.node.sysid,
    remote_timeline: remote.node.timeline,
    remote_dboid: remote.node.dboid,
    remote_xid: remote.xid,
    remote_time: formatPgTime(remote.commitTime),
    remote_lsn: formatLsn(remote.commitLsn),
    type,
    resolution,
    local_row: local.row,
    remote_row: remote.row,
    local_xmin: local.xmin,
    local_sysid: writer?.sysid ?? null,
    local_timeline: writer?.timeline ?? null,
    local_dboid: writer?.dboid ?? null,
    local_time: local.version ? formatPgTime(local.version.time) : null,
    key,
    policy,
    rule,
    action,
    certain: conflict.certainlyConcurrent,
  };
}

/**
 * Forgets the oldest conflicts that are older than they are to be kept, in a transaction that waits for nobody: what somebody holds
 * is left. None is removed that is older than `from`. Returns how many it was, and the time of the last one.
 */
export async function purgeConflicts(
  session: Session,
  { retentionMs, from, most }: { retentionMs: number; from: string | null; most: number },
): Promise<{ count: number; upTo: string | null }> {
  return session.transaction(async () => {
    const [row] = await session.query<{ count: string; upto: string | null }>(
      /* sql */ `
          WITH gone AS (
              DELETE FROM bdr.bdr_conflict_history
              WHERE ctid = ANY (ARRAY(
                  SELECT ctid FROM bdr.bdr_conflict_history
                  WHERE local_conflict_time < clock_timestamp() - make_interval(secs => $1::float8 / 1000)
                    AND local_conflict_time >= coalesce($2::timestamptz, '-infinity')
                  ORDER BY local_conflict_time
                  LIMIT $3
                  FOR UPDATE SKIP LOCKED
              ))
              RETURNING local_conflict_time
          )
          SELECT count(*) AS count, max(local_conflict_time) AS upto FROM gone
        `,
      [retentionMs, from, most],
    );
    return { count: Number(row?.count), upTo: row?.upto ?? null };
  }, `BEGIN; SET LOCAL lock_timeout = '50ms'; SET LOCAL synchronous_commit = off`);
}
