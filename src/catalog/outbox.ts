import type { QualifiedName } from '../base/names.ts';
import { textArray } from '../base/text-array.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { Death } from '../conflict/unique.ts';
import type { NodeId } from '../model/node.ts';
import { textOf, type RowChange } from '../pgoutput/transaction.ts';
import type { Session } from '../postgres/session.ts';
import type { RememberedKey } from './tombstones.ts';

/**
 * SQL on bdr.outbox, bdr.kill and bdr.ask: how a row's death in a unique index is spread (DESIGN 4.2, rule 10).
 *
 * An apply transaction is not sent to the peers, so it leaves what it has to say in the outbox, and a transaction of the node's own
 * moves that on into the published tables bdr.kill and bdr.ask. Those are emptied by the same transaction: what counts is the
 * insert that the peers receive. Keys stand in the outbox as in bdr.tombstone; commit times are PgTimes.
 */
export interface OutgoingDeath extends Death {
  /** OID of the local table. */
  readonly relation: string;
  /** As storedKey(). */
  readonly key: readonly (string | null)[];
}

/** Puts into the outbox, in the caller's transaction, and wakes who sends it, by NOTIFY. */
export async function putIntoOutbox(
  session: Session,
  deaths: readonly OutgoingDeath[],
): Promise<void> {
  const rows = deaths.map(({ kind, relation, key, version: { time, writer } }) => ({
    kind,
    relation,
    row_key: textArray(key),
    commit_time: time,
    sysid: writer.id.sysid,
    timeline: writer.id.timeline,
    dboid: writer.id.dboid,
  }));
  await session.run(
    /* sql */ `
      INSERT INTO bdr.outbox (kind, relation, row_key, commit_time, node_sysid, node_timeline, node_dboid)
      SELECT x.kind, x.relation, x.row_key::text[], x.commit_time, x.sysid, x.timeline, x.dboid
      FROM json_to_recordset($1::json) AS x (
          kind text, relation oid, row_key text, commit_time bigint, sysid text, timeline oid, dboid oid
      )
    `,
    [JSON.stringify(rows)],
  );
  await session.script('NOTIFY bdr');
}

/** A kill that is in the outbox. */
export interface OutboxKill extends RememberedKey {
  readonly id: string;
}

/** Whether anything is in the outbox. */
export async function hasOutbox(session: Session): Promise<boolean> {
  const [row] = await session.query<{ any: string }>(
    'SELECT EXISTS (SELECT FROM bdr.outbox) AS any',
  );
  return row?.any === 't';
}

/**
 * Sends what is new in the outbox. Kills stay there, as sent, until forgetKill(); of asks it is kept who was asked. One script is one transaction, and it must be one
 * without origin.
 */
export async function sendOutbox(session: Session): Promise<void> {
  await session.script(/* sql */ `
    WITH taken AS (UPDATE bdr.outbox SET is_sent = true WHERE kind = 'kill' AND NOT is_sent RETURNING *)
    INSERT INTO bdr.kill (${TOLD}) ${tellSql('taken', false)};
    WITH taken AS (DELETE FROM bdr.outbox WHERE kind = 'ask' RETURNING *), kept AS (
        INSERT INTO bdr.open_ask (relation, row_key, node_sysid, node_timeline, node_dboid)
        SELECT x.relation, x.row_key, x.node_sysid, x.node_timeline, x.node_dboid FROM taken AS x
    )
    INSERT INTO bdr.ask (${TOLD}) ${tellSql('taken', false)};
    DELETE FROM bdr.kill;
    DELETE FROM bdr.ask
  `);
}

/** The columns of bdr.kill, and of bdr.ask. */
export const TOLD =
  'message_id, schema_name, table_name, row_key, commit_time, node_sysid, node_timeline, node_dboid, is_late';

/** What peers are told of rows like those of bdr.outbox: a query, for an INSERT of TOLD. */
export function tellSql(source: string, isLate: boolean): string {
  return (
    `SELECT x.message_id, n.nspname, c.relname, array_to_json(x.row_key),` +
    ` x.commit_time, x.node_sysid, x.node_timeline, x.node_dboid, ${isLate}` +
    ` FROM ${source} AS x JOIN pg_class AS c ON c.oid = x.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace`
  );
}

/** Kills that were sent. */
export async function readSentKills(session: Session): Promise<OutboxKill[]> {
  return session.query<{ id: string; relation: string; key: string }>(/* sql */ `
    SELECT message_id AS id, relation, array_to_json(row_key)::text AS key
    FROM bdr.outbox
    WHERE kind = 'kill' AND is_sent
    ORDER BY message_id
    LIMIT 1000
  `);
}

/** Takes a kill out of the outbox, in the caller's transaction. */
export async function forgetKill(session: Session, { id }: OutboxKill): Promise<void> {
  await session.run('DELETE FROM bdr.outbox WHERE message_id = $1', [id]);
}

/** A kill or an ask, as a peer has sent it. */
export interface DeathNotice {
  readonly kind: Death['kind'];
  readonly table: QualifiedName;
  /** A JSON array, as in RememberedKey. Null where the sender has truncated the table. */
  readonly key: string | null;
  /** Users had deleted the row, or truncated the table, while the sender's clock was behind. */
  readonly isLate: boolean;
  readonly time: PgTime;
  readonly writer: NodeId;
}

/** Whether a change is one of the tables by which deaths are told. */
export function isAboutDeath({ relation: { schema, name } }: RowChange): boolean {
  return schema === 'bdr' && (name === 'kill' || name === 'ask');
}

/** Reads such a change; undefined for a deletion, which says nothing. */
export function readDeathNotice(change: RowChange): DeathNotice | undefined {
  if (change.kind !== 'insert') return undefined;
  const value = (name: string) => textOf(change, name) ?? '';
  return {
    kind: change.relation.name === 'kill' ? 'kill' : 'ask',
    table: { schema: value('schema_name'), name: value('table_name') },
    key: textOf(change, 'row_key'),
    isLate: value('is_late') === 't',
    time: Number(value('commit_time')) as PgTime,
    writer: {
      sysid: value('node_sysid'),
      timeline: Number(value('node_timeline')),
      dboid: Number(value('node_dboid')),
    },
  };
}
