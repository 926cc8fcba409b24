import type { Session } from '../postgres/session.ts';

/** A peer because of which deletions are remembered, and how many at least. */
export interface AbsentHolder {
  readonly name: string;
  /** All that it had committed up to then is here; null while nothing is known. */
  readonly upTo: string | null;
}

/**
 * The peer that is away and because of which more than `most` deletions are remembered; undefined while there are fewer, or while what
 * holds them is here, or a peer that is there. Away is whose link does not stream and of whom nothing was heard for `awaySeconds`.
 */
export async function findAbsentHolder(
  session: Session,
  most: number,
  awaySeconds: number,
): Promise<AbsentHolder | undefined> {
  const [row] = await session.query<{ name: string; up_to: string | null }>(
    /* sql */ `
      SELECT n.node_name AS name, l.watermark_at AS up_to
      FROM bdr.bdr_links AS l
      JOIN bdr.bdr_nodes AS n
        ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.provider_sysid, l.provider_timeline, l.provider_dboid)
      WHERE n.node_status = 'r'
        AND l.status IN ('down', 'connecting', 'failed')
        AND l.watermark_at < clock_timestamp() - make_interval(secs => $2)
        -- It is the one that holds them, and not this node's own log, or a peer that is there.
        AND l.watermark_at < (SELECT o.watermark_at FROM bdr.own_stream AS o)
        AND l.watermark_at <= ALL (SELECT coalesce(x.watermark_at, '-infinity') FROM bdr.bdr_links AS x)
        AND (SELECT count(*) FROM (SELECT FROM bdr.tombstone LIMIT $1 + 1) AS t) > $1
      LIMIT 1
    `,
    [most, awaySeconds],
  );
  return row && { name: row.name, upTo: row.up_to };
}

/** Takes the node out of the group, as an administrator would. */
export async function partNode(session: Session, name: string): Promise<void> {
  await session.query('SELECT bdr.bdr_part_by_node_names(ARRAY[$1])', [name]);
}
