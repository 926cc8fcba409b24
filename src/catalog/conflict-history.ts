import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { QualifiedName } from '../base/names.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import type { ConflictType, Resolution } from '../conflict/decide.ts';
import type { Version } from '../conflict/version.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';

/** A conflict as it was met and resolved; rows are JSON text. */
export interface ConflictRecord {
  readonly table: QualifiedName;
  readonly type: ConflictType;
  readonly resolution: Resolution;
  readonly local: {
    readonly row: string | null;
    readonly xmin: string | null;
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

/** Keeps a conflict in bdr.bdr_conflict_history, in the apply transaction that resolves it: if that is undone, so is this. */
export async function recordConflict(
  session: Session,
  localNode: NodeId,
  { table, type, resolution, local, remote }: ConflictRecord,
): Promise<void> {
  await session.execute(
    'bdr_record_conflict',
    /* sql */ `
      INSERT INTO bdr.bdr_conflict_history (
          local_node_sysid, local_conflict_xid, local_conflict_lsn, local_conflict_time,
          object_schema, object_name,
          remote_node_sysid, remote_node_timeline, remote_node_dboid,
          remote_txid, remote_commit_time, remote_commit_lsn,
          conflict_type, conflict_resolution, local_tuple, remote_tuple,
          local_tuple_xmin, local_tuple_origin_sysid, local_tuple_origin_timeline, local_tuple_origin_dboid,
          local_commit_time
      )
      VALUES (
          $1, pg_current_xact_id()::xid, pg_current_wal_insert_lsn(), clock_timestamp(),
          $2, $3,
          $4, $5, $6,
          $7, $8, $9,
          $10::bdr.bdr_conflict_type, $11::bdr.bdr_conflict_resolution, $12, $13,
          $14, $15, $16, $17,
          $18
      )
    `,
    [
      localNode.sysid,
      table.schema,
      table.name,
      remote.node.sysid,
      remote.node.timeline,
      remote.node.dboid,
      remote.xid,
      formatPgTime(remote.commitTime),
      formatLsn(remote.commitLsn),
      type,
      resolution,
      local.row,
      remote.row,
      local.xmin,
      local.version?.writer.id.sysid ?? null,
      local.version?.writer.id.timeline ?? null,
      local.version?.writer.id.dboid ?? null,
      local.version ? formatPgTime(local.version.time) : null,
    ],
  );
}
