import type { Link } from '../model/link.ts';
import type { Node } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';
import { COMMITTED } from './committed-positions.ts';

/** How far a node had come in a parted node's log. */
export interface PartedPosition {
  /** The name of the parted node. */
  readonly node: string;
  /** The name of the one that says how far it is. */
  readonly at: string;
  /** All up to there is applied over there: a pg_lsn's text. */
  readonly applied: string;
  /** The time of the last commit that is, as the server's text. */
  readonly committedAt: string | null;
  /** Another node has changes of the parted one that this one lacks. */
  readonly isBehind: boolean;
}

/**
 * Tells the group how far this node has come in the log of one that was parted. Call it when nothing is applied from there any more, while
 * the link still stands in the catalog. `isKnown` says whether the link was run by this agent: else what stands there of its last change may
 * be older than a crash.
 */
export async function notePartedPosition(
  session: Session,
  { provider, subscriber }: Link,
  { name, joinedAt }: Pick<Node, 'name' | 'joinedAt'>,
  isKnown: boolean,
): Promise<void> {
  await session.run(
    /* sql */ `
      INSERT INTO bdr.parted_position (
          node_sysid, node_timeline, node_dboid, node_joined_at, node_name,
          at_sysid, at_timeline, at_dboid, applied_lsn, changes_lsn, applied_commit_at
      )
      SELECT l.provider_sysid, l.provider_timeline, l.provider_dboid, $4::timestamptz, $5,
             $6, $7::oid, $8::oid, o.progress,
             CASE WHEN $9::boolean THEN least(l.changes_lsn, o.progress) ELSE o.progress END,
             l.applied_commit_at
      FROM bdr.bdr_links AS l
      CROSS JOIN LATERAL (
          SELECT greatest(pg_replication_origin_progress(l.origin_name, true), ${COMMITTED})
          FROM (SELECT l.origin_name) AS o (roname)
      ) AS o (progress)
      WHERE (l.provider_sysid, l.provider_timeline, l.provider_dboid) = ($1, $2::oid, $3::oid)
        AND l.start_lsn IS NOT NULL
        AND l.provider_joined_at IS NOT DISTINCT FROM $4::timestamptz
        AND o.progress IS NOT NULL
      ON CONFLICT (node_sysid, node_timeline, node_dboid, at_sysid, at_timeline, at_dboid) DO UPDATE
      SET node_joined_at = EXCLUDED.node_joined_at, node_name = EXCLUDED.node_name, applied_lsn = EXCLUDED.applied_lsn,
          changes_lsn = EXCLUDED.changes_lsn, applied_commit_at = EXCLUDED.applied_commit_at
    `,
    [
      provider.sysid,
      provider.timeline,
      provider.dboid,
      joinedAt,
      name,
      subscriber.sysid,
      subscriber.timeline,
      subscriber.dboid,
      isKnown,
    ],
  );
}

/** What all nodes have told of parted ones. */
export async function readPartedPositions(session: Session): Promise<PartedPosition[]> {
  const rows = await session.query<{
    node: string;
    at: string;
    applied: string;
    committed_at: string | null;
    is_behind: string;
  }>(/* sql */ `
    SELECT node_name AS node, at_node AS at, applied_lsn AS applied, applied_commit_at AS committed_at, is_behind
    FROM bdr.bdr_parted_positions
    ORDER BY node_name, at_node
  `);
  return rows.map(({ node, at, applied, committed_at: committedAt, is_behind: behind }) => ({
    node,
    at,
    applied,
    committedAt,
    isBehind: behind === 't',
  }));
}
