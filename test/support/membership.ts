import { expect } from 'vitest';
import { until, type TestNode } from './cluster.ts';

/** Waits until each of the nodes knows exactly these as ready, reads from each other one and is read by it. */
export async function fullMesh(nodes: readonly TestNode[]): Promise<void> {
  const others = nodes.length - 1;
  const names = nodes.map(({ name }) => name).toSorted();
  for (const node of nodes) {
    await until(`${node.name} to be in a full mesh of ${names.join(', ')}`, async () => {
      const [row] = await node.sql(`
        SELECT (SELECT array_agg(node_name ORDER BY node_name COLLATE "C") FROM bdr.bdr_nodes WHERE node_status = 'r'),
               (SELECT count(*)::integer FROM bdr.bdr_links WHERE status = 'streaming'),
               (SELECT count(*)::integer FROM bdr.bdr_node_slots WHERE walsender_active)`);
      return JSON.stringify(row) === JSON.stringify([names, others, others]);
    });
  }
}

/** Waits until nothing of a parted node is left on one that stays: no link, no slot. */
export async function noTraceOf(name: string, on: TestNode): Promise<void> {
  await until(`${on.name} to drop link and slot of ${name}`, async () => {
    const left = await on.sql(
      `SELECT FROM bdr.bdr_nodes AS n
       WHERE n.node_name = $1
         AND (n.node_status <> 'k'
              OR EXISTS (SELECT FROM bdr.bdr_links AS l
                         WHERE (l.provider_sysid, l.provider_timeline, l.provider_dboid)
                             = (n.node_sysid, n.node_timeline, n.node_dboid))
              OR EXISTS (SELECT FROM bdr.bdr_node_slots AS s WHERE s.node_name = n.node_name))`,
      [name],
    );
    return left.length === 0;
  });
}

/** What remove_bdr_from_local_node() must leave: nothing. */
export async function nothingLeft(node: TestNode): Promise<void> {
  const [row] = await node.sql(`
    SELECT bdr.bdr_is_active_in_db(),
           (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()),
           (SELECT count(*) FROM pg_replication_origin AS o, pg_database AS d
            WHERE d.datname = current_database() AND o.roname ~ format('^bdr_(.*_%s_|copy_%s_\\d+)$', d.oid, d.oid)),
           (SELECT count(*) FROM pg_publication),
           (SELECT count(*) FROM pg_event_trigger WHERE evtname = 'bdr_guard'),
           (SELECT count(*) FROM pg_namespace WHERE nspname = 'bdr_guard'),
           (SELECT count(*) FROM bdr.bdr_nodes) + (SELECT count(*) FROM bdr.bdr_connections)
             + (SELECT count(*) FROM bdr.bdr_links) + (SELECT count(*) FROM bdr.bdr_local_node)`);
  expect(row).toEqual([false, '0', '0', '0', '0', '0', '0']);
}
