import type { Session } from '../../src/postgres/session.ts';

/**
 * Makes the session's database a node that has no agent. Others of the group, which are not there, get the set default from it: `peers` by name,
 * with the system identifiers 8, 9 …; and there was one that is parted, 7. `major` of all servers: unknown, if none is given.
 */
export async function becomeLoneNode(
  session: Session,
  peers: readonly string[],
  major: number | null = null,
): Promise<void> {
  const others = peers.map((name, at) => `('${8 + at}', 1, 1, 'r', '${name}', ${major})`);
  await session.script(`
    SELECT bdr.internal_renew_secret();
    -- No agent is there to settle the lock.
    SET bdr.skip_ddl_locking = on;
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
    SELECT sysid, timeline, dboid FROM bdr.bdr_get_local_nodeid();
    INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name, node_server_major)
    SELECT sysid, timeline, dboid, 'r', 'here', ${major} FROM bdr.bdr_get_local_nodeid();
    INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name, node_server_major)
    VALUES ${others.join(', ')}, ('7', 1, 1, 'k', 'gone', NULL);
    INSERT INTO bdr.bdr_connections (conn_sysid, conn_timeline, conn_dboid, conn_dsn, conn_replication_sets)
    SELECT node_sysid, node_timeline, node_dboid, 'x', '{default}' FROM bdr.bdr_nodes;
    SELECT bdr.internal_sync_publication()`);
}
