import { subscriberPrefix } from '../model/link.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE, sqlstateOf } from '../postgres/sqlstate.ts';

/** For so long others wait behind a table that goes into another publication, which waits for those who write to it. */
const MOST_WAIT = '50ms';

/** Makes what a subscriber is to read from this node, as far as it is not there: to be called before its slot is made. */
export async function publishTo(session: Session, subscriber: NodeId): Promise<void> {
  await session.query('SELECT bdr.internal_publish_to($1)', [subscriberPrefix(subscriber)]);
}

export async function isPublishedTo(session: Session, subscriber: NodeId): Promise<boolean> {
  const found = await session.query('SELECT FROM pg_publication WHERE starts_with(pubname, $1)', [
    `${subscriberPrefix(subscriber)}_`,
  ]);
  return found.length > 0;
}

/** Takes away what a subscriber was reading from this node. */
export async function stopPublishingTo(session: Session, subscriber: NodeId): Promise<void> {
  await session.query('SELECT bdr.internal_stop_publishing($1)', [subscriberPrefix(subscriber)]);
}

/** A table that is published otherwise than its replication sets ask for. */
export interface UnsettledTable {
  readonly name: string;
  /** No event trigger has seen how it was made, so other nodes do not have it. */
  readonly isUnknown: boolean;
}

/** These tables, in the order of their OIDs. */
export async function readUnsettledTables(session: Session): Promise<UnsettledTable[]> {
  const rows = await session.query<{ name: string; unknown: string }>(/* sql */ `
    SELECT c.relation::text AS name, bool_or(c.publication = 'bdr_own' AND c.is_wanted) AS unknown
    FROM bdr.internal_publication_changes() AS c
    GROUP BY c.relation
    ORDER BY c.relation::oid
  `);
  return rows.map(({ name, unknown }) => ({ name, isUnknown: unknown === 't' }));
}

export interface SettleOptions {
  /** So long at most; without an end where it is left out. */
  readonly mostMs?: number;
  /** What the last call has left: tables that are held keep no others from their turn. */
  readonly before?: readonly string[];
  /** Those of which no event trigger knows, too: as while a node joins. */
  readonly takesUnknown?: boolean;
  /** The server refuses a table for another reason than that it is held. If this returns, the table counts as held; else it is thrown. */
  readonly onRefused?: (relation: string, error: unknown) => void;
}

/**
 * Publishes each table as its replication sets ask for, to all subscribers that this node knows of. Table by table, so that what is
 * held keeps nobody else waiting. Returns those that are left: first what was not looked at, then what somebody writes to.
 */
export async function settlePublications(
  session: Session,
  { mostMs = Infinity, before = [], takesUnknown = true, onRefused }: SettleOptions = {},
): Promise<readonly string[]> {
  const end = performance.now() + mostMs;
  const unsettled = (await readUnsettledTables(session))
    .filter(({ isUnknown }) => takesUnknown || !isUnknown)
    .map(({ name }) => name);
  const held: string[] = [];
  const tables = inTurn(unsettled, before);
  for (const [index, relation] of tables.entries()) {
    // One in any case, so that it comes to an end.
    if (index > 0 && performance.now() > end) return [...tables.slice(index), ...held];
    try {
      await session.transaction(async () => {
        await session.script(`SET LOCAL lock_timeout = '${MOST_WAIT}'`);
        await session.query('SELECT bdr.internal_sync_publication($1::regclass)', [relation]);
      });
    } catch (error) {
      if (sqlstateOf(error) === undefined) throw error;
      // Dropped meanwhile: there is none to publish.
      if (!(await isThere(session, relation))) continue;
      if (!hasSqlstate(error, SQLSTATE.lockNotAvailable, SQLSTATE.deadlockDetected)) {
        if (!onRefused) throw error;
        onRefused(relation, error);
      }
      held.push(relation);
    }
  }
  return held;
}

async function isThere(session: Session, relation: string): Promise<boolean> {
  const found = await session.query('SELECT WHERE to_regclass($1) IS NOT NULL', [relation]);
  return found.length > 0;
}

function inTurn(unsettled: readonly string[], before: readonly string[]): string[] {
  const left = new Set(unsettled);
  const first = before.filter((name) => left.has(name));
  return [...new Set([...first, ...unsettled])];
}

/** Who gets what, in one text that is another one after a change; which tables there are is not in it. */
export async function readSetsInForce(session: Session): Promise<string> {
  const [row] = await session.query<{ facts: string }>(/* sql */ `
    SELECT jsonb_build_array(
        (SELECT jsonb_agg(jsonb_build_array(s.prefix, s.sets) ORDER BY s.prefix) FROM bdr.internal_subscribers() AS s),
        (SELECT jsonb_agg(to_jsonb(c) ORDER BY c.set_name) FROM bdr.bdr_replication_set_config AS c),
        (SELECT md5(string_agg(t.relation::text || t.sets::text, ' ' ORDER BY t.relation)) FROM bdr.table_replication_sets AS t),
        (SELECT md5(string_agg(to_jsonb(f)::text, ' ' ORDER BY f.relation, f.set_name)) FROM bdr.table_row_filter AS f)
    )::text AS facts
  `);
  return row?.facts ?? '';
}
