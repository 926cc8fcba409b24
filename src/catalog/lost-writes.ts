import { formatLsn, parseLsn, type Lsn } from '../base/lsn.ts';
import { formatPgTime, LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { ChangeKind } from '../conflict/decide.ts';
import type { NodeId } from '../model/node.ts';
import type { Param, Session } from '../postgres/session.ts';
import type { RememberedKey } from './tombstones.ts';

/**
 * SQL on bdr.lost_write: what this node's users wrote and a concurrent change of a peer has overwritten, until the table's conflict
 * policy was asked about it (docs/decisions/0029-conflict-policies.md).
 */
export interface LostWrite extends RememberedKey {
  readonly id: string;
  /** The row by columns, as a JSON object of texts; null where it had been deleted, by this node's users perhaps. */
  readonly localRow: string | null;
  /** When the row was committed, or the deletion, as far as that is known. */
  readonly localTime: PgTime | null;
  readonly notedAt: PgTime;
  readonly remote: RemoteChange;
  /** The commit time that the transaction gave to what it wrote; null once nobody knows it any more. */
  readonly stampedAt: PgTime | null;
}

/** The change of a peer that has overwritten it. */
export interface RemoteChange {
  readonly kind: ChangeKind;
  readonly xid: number;
  readonly time: PgTime;
  readonly lsn: Lsn;
  /** Up to here its node had applied this node's writes, at least. */
  readonly seenUpTo: PgTime;
}

/** Parameters: those of `noteWriteParams`. */
export const noteLostWriteSql = /* sql */ `
  INSERT INTO bdr.lost_write (
      relation, row_key, local_row, local_time,
      node_sysid, node_timeline, node_dboid, remote_change, remote_txid, remote_time, remote_lsn, remote_seen
  )
  VALUES (
      $1::oid, $2::text[], $3::json, $4::timestamptz,
      $5, $6::oid, $7::oid, $8, $9::xid, $10::timestamptz, $11::pg_lsn, $12::timestamptz
  )
`;

/** `key` is the text of an array; `row` and `time` as in LostWrite. */
export function noteWriteParams(
  relation: string,
  key: string,
  local: { readonly row: string | null; readonly time: PgTime | null },
  node: NodeId,
  { kind, xid, time, lsn, seenUpTo }: RemoteChange,
): Param[] {
  return [
    relation,
    key,
    local.row,
    local.time === null ? null : formatPgTime(local.time),
    node.sysid,
    node.timeline,
    node.dboid,
    kind,
    String(xid),
    formatPgTime(time),
    formatLsn(lsn),
    formatPgTime(seenUpTo),
  ];
}

/** The oldest of those that lost to changes of a node. */
export async function readLostWrites(
  session: Session,
  node: NodeId,
  most: number,
): Promise<LostWrite[]> {
  const { rows } = await session.execute<{
    id: string;
    relation: string;
    key: string;
    local: string | null;
    local_time: string | null;
    noted_at: string;
    kind: ChangeKind;
    xid: string;
    time: string;
    lsn: string;
    seen: string | null;
    stamped_at: string | null;
  }>(
    'bdr_read_lost_writes',
    /* sql */ `
      SELECT w.lost_id AS id, w.relation, array_to_json(w.row_key)::text AS key, w.local_row::text AS local,
             ${pgTimeSql('w.local_time')} AS local_time, ${pgTimeSql('w.noted_at')} AS noted_at,
             w.remote_change AS kind, w.remote_txid AS xid, ${pgTimeSql('w.remote_time')} AS time, w.remote_lsn AS lsn,
             CASE WHEN isfinite(w.remote_seen) THEN ${pgTimeSql('w.remote_seen')} END AS seen,
             ${pgTimeSql('pg_xact_commit_timestamp(w.xmin)')} AS stamped_at
      FROM bdr.lost_write AS w
      WHERE (w.node_sysid, w.node_timeline, w.node_dboid) = ($1, $2::oid, $3::oid)
      ORDER BY w.lost_id
      LIMIT $4
    `,
    [node.sysid, node.timeline, node.dboid, most],
  );
  return rows.map((row) => ({
    id: row.id,
    relation: row.relation,
    key: row.key,
    localRow: row.local,
    localTime: timeOf(row.local_time),
    notedAt: Number(row.noted_at) as PgTime,
    remote: {
      kind: row.kind,
      xid: Number(row.xid),
      time: Number(row.time) as PgTime,
      lsn: parseLsn(row.lsn),
      seenUpTo: timeOf(row.seen) ?? LONG_AGO,
    },
    stampedAt: timeOf(row.stamped_at),
  }));
}

function timeOf(text: string | null): PgTime | null {
  return text === null ? null : (Number(text) as PgTime);
}

/** Takes a note away, in the transaction that does what the policy asks for; false where somebody else has done that. */
export async function forgetLostWrite(session: Session, { id }: LostWrite): Promise<boolean> {
  return (await session.run('DELETE FROM bdr.lost_write WHERE lost_id = $1', [id])) > 0;
}

/** Forgets those that lost to nodes which are parted: their links are no more. */
export async function forgetLostWritesToParted(session: Session): Promise<void> {
  await session.run(/* sql */ `
    DELETE FROM bdr.lost_write AS w
    USING bdr.bdr_nodes AS n
    WHERE (n.node_sysid, n.node_timeline, n.node_dboid) = (w.node_sysid, w.node_timeline, w.node_dboid)
      AND n.node_status = 'k'
  `);
}
