-- Waiting for peers.

CREATE OR REPLACE FUNCTION bdr.wait_slot_confirm_lsn(slotname name, target pg_lsn)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    upto pg_lsn := coalesce(target, pg_current_wal_lsn());
BEGIN
    IF slotname IS NOT NULL AND NOT EXISTS (SELECT FROM pg_replication_slots AS s WHERE s.slot_name = slotname) THEN
        RAISE EXCEPTION 'replication slot "%" does not exist', slotname USING ERRCODE = 'undefined_object';
    END IF;
    -- Bounded by statement_timeout, as in BDR. With no slot at all there is nobody to wait for.
    WHILE EXISTS (
        SELECT FROM pg_replication_slots AS s
        WHERE s.slot_type = 'logical' AND (slotname IS NULL OR s.slot_name = slotname)
          AND s.confirmed_flush_lsn < upto
    ) LOOP
        PERFORM pg_sleep(0.05);
    END LOOP;
END
$$;
COMMENT ON FUNCTION bdr.wait_slot_confirm_lsn(name, pg_lsn) IS
    'Returns when the slot, or every logical slot of the server if NULL, has confirmed the position, or the current one if NULL';

CREATE OR REPLACE FUNCTION bdr.bdr_wait_for_apply(timeout interval DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target pg_lsn := pg_current_wal_insert_lsn();
    deadline timestamptz := clock_timestamp() + timeout;
    behind text;
    me record;
BEGIN
    SELECT n.node_sysid AS sysid, n.node_timeline AS timeline, n.node_dboid AS dboid, n.node_name, n.node_status INTO me
    FROM bdr.bdr_nodes AS n
    JOIN bdr.bdr_get_local_nodeid() AS l ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.sysid, l.timeline, l.dboid);
    IF NOT FOUND OR NOT bdr.bdr_is_active_in_db() THEN
        RAISE EXCEPTION 'BDR is not active in this database' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF me.node_status = 'k' THEN
        RAISE EXCEPTION 'node % was parted from the group', me.node_name USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- Something behind the target for the peers to confirm, so that an idle node need not wait for its next heartbeat; before 17 it is
    -- that which puts it on disk.
    PERFORM bdr.internal_emit_message(bdr.internal_sign_message(jsonb_build_object('confirm', target)));
    LOOP
        SELECT string_agg(n.node_name, ', ' ORDER BY n.node_name) INTO behind
        FROM bdr.bdr_nodes AS n
        -- A node that still joins will have it when it is ready.
        WHERE n.node_status = 'r'
          AND (n.node_sysid, n.node_timeline, n.node_dboid) <> (me.sysid, me.timeline, me.dboid)
          AND NOT EXISTS (
              SELECT FROM pg_replication_slots AS s
              WHERE s.slot_name = bdr.bdr_format_slot_name(n.node_sysid, n.node_timeline, n.node_dboid, me.dboid)
                AND s.confirmed_flush_lsn >= target
          );
        EXIT WHEN behind IS NULL;
        IF clock_timestamp() > deadline THEN
            RAISE EXCEPTION 'timed out waiting for peers to apply up to %', target
                USING ERRCODE = 'query_canceled',
                      DETAIL = format('Not there yet: %s.', behind),
                      HINT = 'SELECT * FROM bdr.bdr_node_slots shows who reads how far; "bdr status" says why.';
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
COMMENT ON FUNCTION bdr.bdr_wait_for_apply(interval) IS
    'Returns when every ready peer has applied, durably, all that was committed on this node before the call; raises after timeout (NULL: never)';

-- Sessions whose transactions can bring this node's stream no commit time at or below a clock that was read before: what is seen to
-- write elsewhere, in another database, or in a session of the agent that applies what other nodes wrote, because such a commit
-- carries an origin and is not sent. And who is seen idle in his transaction: a client's session says that it works before it begins
-- to commit, and the time is taken after that (docs/decisions/0023-idle-transactions-hold-nothing.md). Names of sessions are
-- anybody's choice, so a session is the agent's only if it has the agent's mark and a superuser's rights.
CREATE OR REPLACE VIEW bdr.internal_harmless_writers AS
SELECT a.backend_xid
FROM pg_stat_activity AS a
WHERE a.backend_xid IS NOT NULL
  AND (a.datid <> (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       OR a.backend_type = 'client backend' AND a.state IN ('idle in transaction', 'idle in transaction (aborted)')
       OR (a.application_name LIKE '%:apply' OR a.application_name = 'bdr:own:write')
          AND (SELECT s.rolsuper FROM pg_roles AS s WHERE s.oid = a.usesysid)
          AND EXISTS (SELECT FROM pg_locks AS l
                      WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted
                        AND l.classid = 1650749952 AND l.objid = 2 AND l.objsubid = 2));
REVOKE ALL ON bdr.internal_harmless_writers FROM PUBLIC;

-- The oldest transaction id of a snapshot, taken in the transaction `own`, that may still bring this node's stream a commit time at
-- or below a clock that was read before. An id that a session is seen with after the snapshot is that session's since before. What
-- is not seen counts: prepared transactions do. Sessions must not have been looked at before in `own`: they would be seen as they
-- were then.
CREATE OR REPLACE FUNCTION bdr.internal_oldest_writer(snapshot pg_snapshot, own xid8)
RETURNS xid8
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    -- Ids from xmax on are not in the snapshot, running or not; xid8 has no least().
    SELECT x.id
    FROM (
        SELECT pg_snapshot_xmax(snapshot)
        UNION ALL SELECT own
        UNION ALL SELECT r.id
        FROM pg_snapshot_xip(snapshot) AS r (id)
        WHERE NOT EXISTS (SELECT FROM bdr.internal_harmless_writers AS a WHERE a.backend_xid = r.id::xid)
    ) AS x (id)
    ORDER BY x.id
    LIMIT 1
$$;
REVOKE ALL ON FUNCTION bdr.internal_oldest_writer(pg_snapshot, xid8) FROM PUBLIC;

-- The least version of this node's rows whose loss in a unique index is still to be told to the peers; NULL without any.
CREATE OR REPLACE FUNCTION bdr.internal_untold()
RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT min(commit_time) FROM bdr.outbox WHERE kind = 'kill' $$;
REVOKE ALL ON FUNCTION bdr.internal_untold() FROM PUBLIC;

-- Emits the heartbeat of DESIGN 4.5: the clock first, then a transaction id, then the oldest one that may still take, or have
-- taken, a time up to that clock. What took one had its id before; once the oldest such id has passed ours, all of it lies before in
-- the stream.
-- SECURITY DEFINER, so that an agent's role need not be able to read the secret.
CREATE OR REPLACE FUNCTION bdr.internal_heartbeat(applied jsonb)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    clock timestamptz := clock_timestamp();
    xid xid8 := pg_current_xact_id();
    -- Before sessions are looked at.
    snapshot pg_snapshot := pg_current_snapshot();
BEGIN
    -- What was seen of sessions before the clock was read does not count.
    PERFORM pg_stat_clear_snapshot();
    PERFORM pg_logical_emit_message(
        true, 'bdr', bdr.internal_sign_message(jsonb_build_object(
            'heartbeat', jsonb_build_object(
                'clock', bdr.internal_pg_time(clock),
                -- Peers compare it with the transaction in which the message arrives: a copy in another one does not count.
                'xid', xid::text::bigint,
                'xmin', bdr.internal_oldest_writer(snapshot, xid)::text::bigint,
                'applied', applied,
                -- By a newer snapshot than what tells of `applied`: what such a row has lost to is in that.
                'untold', bdr.internal_untold()
            )
        ))
    );
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_heartbeat(jsonb) FROM PUBLIC;
