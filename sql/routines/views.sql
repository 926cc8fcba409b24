-- Views for monitoring.

CREATE OR REPLACE VIEW bdr.bdr_node_slots AS
SELECT n.node_name,
       s.slot_name,
       s.restart_lsn AS slot_restart_lsn,
       s.confirmed_flush_lsn AS slot_confirmed_lsn,
       s.active AS walsender_active,
       s.active_pid AS walsender_pid,
       r.sent_lsn,
       r.write_lsn,
       r.flush_lsn,
       r.replay_lsn
FROM pg_catalog.pg_replication_slots AS s
CROSS JOIN LATERAL bdr.bdr_parse_slot_name(s.slot_name) AS p
JOIN bdr.bdr_nodes AS n
  ON (n.node_sysid, n.node_timeline, n.node_dboid) = (p.remote_sysid, p.remote_timeline, p.remote_dboid)
LEFT JOIN pg_catalog.pg_stat_replication AS r ON r.pid = s.active_pid
WHERE s.plugin = 'pgoutput' AND s.database = pg_catalog.current_database();
COMMENT ON VIEW bdr.bdr_node_slots IS 'The slots of this node, one a peer that reads from it';

CREATE OR REPLACE VIEW bdr.pg_stat_bdr AS
SELECT o.roident AS rep_node_id,
       o.roident AS rilocalid,
       l.origin_name AS riremoteid,
       l.nr_commit, l.nr_rollback,
       l.nr_insert, l.nr_insert_conflict,
       l.nr_update, l.nr_update_conflict,
       l.nr_delete, l.nr_delete_conflict,
       l.nr_disconnect
FROM bdr.bdr_links AS l
LEFT JOIN pg_catalog.pg_replication_origin AS o ON o.roname = l.origin_name;
COMMENT ON VIEW bdr.pg_stat_bdr IS 'What this node has applied, one row a peer it reads from; survives restarts';

CREATE OR REPLACE VIEW bdr.bdr_parted_positions AS
SELECT p.node_name,
       a.node_name AS at_node,
       p.applied_lsn,
       p.applied_commit_at,
       p.applied_lsn < max(p.changes_lsn) OVER (
           PARTITION BY p.node_sysid, p.node_timeline, p.node_dboid, p.node_joined_at
       ) AS is_behind
FROM bdr.parted_position AS p
JOIN bdr.bdr_nodes AS a
  ON (a.node_sysid, a.node_timeline, a.node_dboid) = (p.at_sysid, p.at_timeline, p.at_dboid)
WHERE a.node_status <> 'k';
COMMENT ON VIEW bdr.bdr_parted_positions IS
    'How far each node had come in the logs of parted nodes; who is behind lacks changes that another one has';

REVOKE ALL ON bdr.bdr_node_slots, bdr.pg_stat_bdr, bdr.bdr_parted_positions FROM PUBLIC;
