import { textArray } from '../base/text-array.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';
import type { RememberedKey } from './tombstones.ts';

/** SQL on bdr.open_ask: asks that sendOutbox() has sent, until they are answered. */
export interface OpenAsk extends RememberedKey {
  /** ctid. */
  readonly id: string;
}

/** Those to nodes that are parted by now: nobody is left who could answer. */
export async function readAsksToParted(session: Session, most: number): Promise<OpenAsk[]> {
  return session.query<{ id: string; relation: string; key: string }>(
    /* sql */ `
      SELECT a.ctid AS id, a.relation, array_to_json(a.row_key)::text AS key
      FROM bdr.open_ask AS a
      WHERE NOT EXISTS (
          SELECT FROM bdr.bdr_nodes AS n
          WHERE (n.node_sysid, n.node_timeline, n.node_dboid) = (a.node_sysid, a.node_timeline, a.node_dboid)
            AND n.node_status <> 'k'
      )
      LIMIT $1
    `,
    [most],
  );
}

/** In the caller's transaction. */
export async function forgetAsk(session: Session, { id }: OpenAsk): Promise<void> {
  await session.run('DELETE FROM bdr.open_ask WHERE ctid = $1::tid', [id]);
}

/** A node has answered, in the caller's transaction. `key`: as storedKey(). */
export async function askAnswered(
  session: Session,
  relation: string,
  key: readonly (string | null)[],
  { sysid, timeline, dboid }: NodeId,
): Promise<void> {
  await session.run(
    /* sql */ `
      DELETE FROM bdr.open_ask
      WHERE relation = $1::oid AND row_key = $2::text[]
        AND (node_sysid, node_timeline, node_dboid) = ($3, $4::oid, $5::oid)
    `,
    [relation, textArray(key), sysid, timeline, dboid],
  );
}

/** How long a node takes at most to send what it has to answer, once it goes on at all. */
const PATIENCE = "interval '1 min'";

/**
 * Forgets those that need no answer any more: the node has seen the ask, and what it sent since is here. `upTo`: up to then all peers have
 * applied what this node wrote, and this node what they wrote.
 */
export async function forgetSettledAsks(session: Session, upTo: PgTime): Promise<void> {
  await session.run(
    /* sql */ `
      DELETE FROM bdr.open_ask AS a
      USING bdr.bdr_nodes AS n
      WHERE (n.node_sysid, n.node_timeline, n.node_dboid) = (a.node_sysid, a.node_timeline, a.node_dboid)
        AND n.node_status <> 'k' AND a.asked_at + ${PATIENCE} <= $1::timestamptz
    `,
    [formatPgTime(upTo)],
  );
}
