import { pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { Session } from '../postgres/session.ts';
import type { DueStep } from './clock-steps.ts';
import { TOLD, tellSql } from './outbox.ts';

/**
 * SQL on bdr.late_deletion: what users of this node deleted while its clock was behind (DESIGN 4.7). Keys stand there as in
 * bdr.tombstone, noted by noteLateSql().
 */

/** Notes that a table was truncated. Parameters: oid, the heartbeat's id. */
export const noteLateTruncateSql = /* sql */ `
  INSERT INTO bdr.late_deletion (relation, heartbeat_xid) VALUES ($1::oid, $2::xid8)
`;

/** What is noted of one table, at one step. */
export interface LateTable {
  /** OID. */
  readonly relation: string;
  readonly isTruncated: boolean;
}

/** The tables of which anything is noted: those that were truncated first, since all their rows go. */
export async function readLateTables(
  session: Session,
  { heartbeatXid }: DueStep,
): Promise<LateTable[]> {
  const rows = await session.query<{ relation: string; truncated: string }>(
    /* sql */ `
      SELECT DISTINCT relation, row_key IS NULL AS truncated
      FROM bdr.late_deletion
      WHERE heartbeat_xid = $1::xid8
      ORDER BY truncated DESC, relation
    `,
    [heartbeatXid],
  );
  return rows.map(({ relation, truncated }) => ({ relation, isTruncated: truncated === 't' }));
}

/** A key that is noted. */
export interface LateKey {
  readonly id: string;
  /** As in RememberedKey; an empty array where the row has none. */
  readonly key: string;
}

/** Some keys of a table that are noted. */
export async function readLateKeys(
  session: Session,
  { heartbeatXid }: DueStep,
  relation: string,
  most: number,
): Promise<LateKey[]> {
  return session.query<{ id: string; key: string }>(
    /* sql */ `
      SELECT late_id AS id, array_to_json(row_key)::text AS key
      FROM bdr.late_deletion
      WHERE heartbeat_xid = $1::xid8 AND relation = $2::oid AND row_key IS NOT NULL
      ORDER BY late_id
      LIMIT $3
    `,
    [heartbeatXid, relation, most],
  );
}

/** When a table that was truncated late was truncated again, if it was. */
export async function readTruncatedAgain(
  session: Session,
  { heartbeatXid }: DueStep,
  relation: string,
): Promise<PgTime | undefined> {
  const [row] = await session.query<{ time: string | null }>(
    /* sql */ `
      SELECT max(${pgTimeSql('again_at')}) AS time
      FROM bdr.late_deletion
      WHERE heartbeat_xid = $1::xid8 AND relation = $2::oid AND row_key IS NULL
    `,
    [heartbeatXid, relation],
  );
  return row?.time ? (Number(row.time) as PgTime) : undefined;
}

/** Takes what is dealt with out of the notes, in the caller's transaction. */
export async function forgetLateKeys(session: Session, keys: readonly LateKey[]): Promise<void> {
  await session.run('DELETE FROM bdr.late_deletion WHERE late_id = ANY ($1::bigint[])', [
    idArray(keys),
  ]);
}

export async function forgetLateTruncates(
  session: Session,
  { heartbeatXid }: DueStep,
  relation: string,
): Promise<void> {
  await session.run(
    `DELETE FROM bdr.late_deletion WHERE heartbeat_xid = $1::xid8 AND relation = $2::oid AND row_key IS NULL`,
    [heartbeatXid, relation],
  );
}

/**
 * Ends the open transaction, which has no origin and holds all apply, by deletions of these keys as of now: peers are told, and this
 * node remembers them. They stay in the outbox, for its sender to look after.
 *
 * All of it is one message to the server. The time is read between the transaction's id and its commit, while the session is seen to
 * be active: no heartbeat that tells a later one passes it over (docs/decisions/0023-idle-transactions-hold-nothing.md).
 */
export async function commitKeysAgain(session: Session, keys: readonly LateKey[]): Promise<void> {
  const which = `late_id = ANY ('${idArray(keys)}'::bigint[])`;
  await session.script(/* sql */ `
    ${stampAgain(which)};
    ${rememberAgain(which)};
    WITH told AS (
        INSERT INTO bdr.outbox (kind, relation, row_key, commit_time, node_sysid, node_timeline, node_dboid, is_sent)
        SELECT 'kill', d.relation, d.row_key, ${pgTimeSql('d.again_at')}, me.node_sysid, me.node_timeline, me.node_dboid, true
        FROM bdr.late_deletion AS d, bdr.bdr_local_node AS me
        WHERE ${which}
        RETURNING *
    )
    INSERT INTO bdr.kill (${TOLD}) ${tellSql('told', true)};
    DELETE FROM bdr.kill;
    DELETE FROM bdr.late_deletion WHERE ${which};
    NOTIFY bdr;
    COMMIT
  `);
}

/** As commitKeysAgain(), for a table that was truncated. It stays noted: rows that are here are still to be written again. */
export async function commitTruncateAgain(
  session: Session,
  { heartbeatXid }: DueStep,
  relation: string,
): Promise<void> {
  const which = `heartbeat_xid = '${heartbeatXid}'::xid8 AND relation = ${relation}::oid AND row_key IS NULL`;
  await session.script(/* sql */ `
    ${stampAgain(which)};
    ${rememberAgain(which)};
    INSERT INTO bdr.kill (${TOLD}) ${tellSql(
      `(
        SELECT DISTINCT ON (d.relation) nextval(pg_get_serial_sequence('bdr.outbox', 'message_id')) AS message_id,
               d.relation, d.row_key, ${pgTimeSql('d.again_at')} AS commit_time,
               me.node_sysid, me.node_timeline, me.node_dboid
        FROM bdr.late_deletion AS d, bdr.bdr_local_node AS me
        WHERE ${which}
      )`,
      true,
    )};
    DELETE FROM bdr.kill;
    COMMIT
  `);
}

/** Forgets what turned out not to belong to a step of the clock, or to one that nobody wants to hear of any more. */
export async function forgetPunctualDeletions(session: Session): Promise<void> {
  await session.run(/* sql */ `
    DELETE FROM bdr.late_deletion AS d
    USING bdr.own_stream AS o
    WHERE d.heartbeat_xid < o.heartbeat_xid
      AND NOT EXISTS (SELECT FROM bdr.bdr_clock_steps AS s WHERE s.heartbeat_xid = d.heartbeat_xid)
  `);
}

/** One time for all, read once the transaction has an id. */
function stampAgain(which: string): string {
  return (
    `SELECT pg_current_xact_id();` +
    ` UPDATE bdr.late_deletion SET again_at = (SELECT clock_timestamp()) WHERE ${which}`
  );
}

function rememberAgain(which: string): string {
  return (
    `INSERT INTO bdr.tombstone (relation, key_hash, row_key, committed_at, node_sysid, node_timeline, node_dboid)` +
    ` SELECT d.relation, d.key_hash, d.row_key, d.again_at, me.node_sysid, me.node_timeline, me.node_dboid` +
    ` FROM bdr.late_deletion AS d, bdr.bdr_local_node AS me WHERE ${which}`
  );
}

function idArray(keys: readonly LateKey[]): string {
  return `{${keys.map(({ id }) => id).join(',')}}`;
}
