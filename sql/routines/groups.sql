-- Creating, joining and leaving a group. Each function only writes rows; what needs a network is done by the agent after
-- COMMIT, and what it finds is raised by bdr_node_join_wait_for_ready() and shown in bdr_nodes.

CREATE OR REPLACE FUNCTION bdr.internal_lock_membership()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- In this order, as remove_bdr_from_local_node() takes them: it locks out everybody else by the first.
    LOCK TABLE bdr.bdr_local_node IN ACCESS SHARE MODE;
    LOCK TABLE bdr.bdr_nodes, bdr.bdr_connections IN EXCLUSIVE MODE;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_lock_membership() FROM PUBLIC;

-- Whatever this database knows of a group, and of itself as a node. Its history stays.
CREATE OR REPLACE FUNCTION bdr.internal_forget_group()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- First: what goes with the rows below looks whether the database is still a node.
    DELETE FROM bdr.bdr_local_node;
    DELETE FROM bdr.bdr_nodes;
    DELETE FROM bdr.bdr_connections;
    DELETE FROM bdr.bdr_links;
    DELETE FROM bdr.tombstone;
    DELETE FROM bdr.lost_value;
    DELETE FROM bdr.outbox;
    DELETE FROM bdr.open_ask;
    DELETE FROM bdr.lost_write;
    DELETE FROM bdr.committed_position;
    DELETE FROM bdr.index_build;
    DELETE FROM bdr.own_stream;
    DELETE FROM bdr.record_mark;
    DELETE FROM bdr.bdr_clock_steps;
    DELETE FROM bdr.late_deletion;
    DELETE FROM bdr.definition_change;
    DELETE FROM bdr.conflict_policy;
    DELETE FROM bdr.bdr_conflict_handlers;
    DELETE FROM bdr.bdr_global_locks;
    DELETE FROM bdr.sequence_kind;
    DELETE FROM bdr.bdr_replication_set_config;
    DELETE FROM bdr.parted_position;
    DELETE FROM bdr.table_replication_sets;
    DELETE FROM bdr.table_row_filter;
    DELETE FROM bdr.table_local_columns;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_forget_group() FROM PUBLIC;

-- Writes the rows that make this database a node. remote_dsn is NULL for the first node of a group.
CREATE OR REPLACE FUNCTION bdr.internal_begin_join(
    caller text, local_node_name text, node_external_dsn text, node_local_dsn text, remote_dsn text,
    apply_delay integer, replication_sets text[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
    me record;
    kept jsonb;
BEGIN
    PERFORM bdr.internal_lock_membership();
    SELECT * INTO me FROM bdr.bdr_get_local_nodeid();

    IF EXISTS (
        SELECT FROM bdr.bdr_local_node AS l
        JOIN bdr.bdr_nodes AS n
          ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.node_sysid, l.node_timeline, l.node_dboid)
        WHERE l.node_dboid = me.dboid
          -- A join that was refused by the agent's checks has changed nothing and may be asked for anew.
          AND NOT (n.node_status = 'b' AND l.join_error IS NOT NULL)
    ) THEN
        RAISE EXCEPTION 'This node is already a member of a BDR group'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('Connect to the node you wish to add and run %s from it instead', caller);
    END IF;
    PERFORM bdr.internal_check_set_name(s.name, false) FROM unnest(replication_sets) AS s (name);
    IF current_setting('wal_level') <> 'logical' THEN
        RAISE EXCEPTION 'wal_level is "%", replication needs "logical"', current_setting('wal_level')
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'ALTER SYSTEM SET wal_level = ''logical''; then restart this server.';
    END IF;
    IF NOT current_setting('track_commit_timestamp')::boolean THEN
        RAISE EXCEPTION 'track_commit_timestamp is off, conflicts could not be resolved'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'ALTER SYSTEM SET track_commit_timestamp = on; then restart this server.';
    END IF;

    -- A refused join may have been refused just after the group had heard of it: the next call goes on with that registration.
    SELECT CASE WHEN l.join_state ? 'registering' THEN jsonb_build_object('registering', l.join_state -> 'registering') END
    INTO kept
    FROM bdr.bdr_local_node AS l
    WHERE l.node_dboid = me.dboid;
    PERFORM bdr.internal_forget_group();

    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid, join_state, created_at)
    VALUES (me.sysid, me.timeline, me.dboid, kept, clock_timestamp());
    INSERT INTO bdr.bdr_nodes (
        node_sysid, node_timeline, node_dboid, node_status, node_name, node_local_dsn, node_init_from_dsn, node_server_major
    )
    VALUES (
        me.sysid, me.timeline, me.dboid, 'b', local_node_name, coalesce(node_local_dsn, node_external_dsn), remote_dsn,
        bdr.internal_server_major()
    );
    INSERT INTO bdr.bdr_connections (
        conn_sysid, conn_timeline, conn_dboid, conn_dsn, conn_apply_delay, conn_replication_sets
    )
    VALUES (me.sysid, me.timeline, me.dboid, node_external_dsn, apply_delay, replication_sets);

    PERFORM bdr.internal_renew_secret();

    -- Shared by all databases of the server: how the agent finds its nodes without opening every database.
    EXECUTE format('ALTER DATABASE %I SET bdr.active = ''on''', current_database());
    -- The publication must exist before any slot that is to be read with it.
    PERFORM bdr.internal_sync_publication();
    PERFORM bdr.internal_make_guard();
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_begin_join(text, text, text, text, text, integer, text[]) FROM PUBLIC;

-- What create and join ask of their arguments, before they look at anything else.
CREATE OR REPLACE FUNCTION bdr.internal_check_node_arguments(local_node_name text, node_external_dsn text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF node_external_dsn IS NULL THEN
        RAISE EXCEPTION 'dsn may not be null' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF coalesce(local_node_name, '') = '' OR octet_length(local_node_name) > 63 THEN
        RAISE EXCEPTION 'local_node_name must have 1 to 63 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_node_arguments(text, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.bdr_group_join(
    local_node_name text,
    node_external_dsn text,
    join_using_dsn text,
    node_local_dsn text DEFAULT NULL,
    apply_delay integer DEFAULT NULL,
    replication_sets text[] DEFAULT ARRAY['default']
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    user_tables text;
BEGIN
    PERFORM bdr.internal_check_node_arguments(local_node_name, node_external_dsn);
    IF join_using_dsn IS NULL THEN
        RAISE EXCEPTION 'join_using_dsn may not be null'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'To create a new group with this node as its first, use bdr.bdr_group_create(...)';
    END IF;
    PERFORM bdr.internal_begin_join(
        'bdr.bdr_group_join', local_node_name, node_external_dsn, node_local_dsn, join_using_dsn, apply_delay,
        replication_sets
    );
    SELECT string_agg(t::text, ', ' ORDER BY t::text) INTO user_tables FROM bdr.internal_replicated_tables() AS t;
    IF user_tables IS NOT NULL THEN
        RAISE EXCEPTION 'database joining BDR group has existing user tables'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Tables: %s', user_tables),
                  HINT = 'Tables and rows are copied from the group: join from an empty database.';
    END IF;
    PERFORM bdr.internal_tell_agent();
END
$$;
COMMENT ON FUNCTION bdr.bdr_group_join(text, text, text, text, integer, text[]) IS
    'Adds this database to the group of the node at join_using_dsn; returns at once, see bdr_node_join_wait_for_ready()';
REVOKE ALL ON FUNCTION bdr.bdr_group_join(text, text, text, text, integer, text[]) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.bdr_group_create(
    local_node_name text,
    node_external_dsn text,
    node_local_dsn text DEFAULT NULL,
    apply_delay integer DEFAULT NULL,
    replication_sets text[] DEFAULT ARRAY['default']
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
    secondary text;
BEGIN
    PERFORM bdr.internal_check_node_arguments(local_node_name, node_external_dsn);
    FOR found IN
        SELECT n.nspname, c.relname, x.conname
        FROM bdr.internal_replicated_tables() AS t
        JOIN pg_class AS c ON c.oid = t
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_constraint AS x ON x.conrelid = c.oid
        WHERE bdr.internal_excludes_rows(x)
        ORDER BY 1, 2, 3
    LOOP
        RAISE EXCEPTION 'BDR can''t be enabled because exclusion constraints exist on persistent tables that are not excluded from replication'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Table %I.%I has exclusion constraint %I', found.nspname, found.relname, found.conname);
    END LOOP;

    FOR found IN
        SELECT t AS "table", bdr.internal_generated_key_column(t) AS "column"
        FROM bdr.internal_replicated_tables() AS t
        WHERE bdr.internal_generated_key_column(t) IS NOT NULL
        ORDER BY 1
    LOOP
        RAISE EXCEPTION 'BDR can''t be enabled because the key of table % has a generated column', found."table"
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Its rows would be told apart by column %I, which is not sent.', found."column"),
                  HINT = 'Choose another PRIMARY KEY or REPLICA IDENTITY.';
    END LOOP;

    SELECT string_agg(format('%I.%I constraint %I', n.nspname, c.relname, x.conname), ', ' ORDER BY n.nspname, c.relname, x.conname)
    INTO secondary
    FROM bdr.internal_replicated_tables() AS t
    JOIN pg_class AS c ON c.oid = t
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_constraint AS x ON x.conrelid = c.oid
    WHERE x.contype = 'u';
    IF secondary IS NOT NULL THEN
        RAISE WARNING 'Secondary unique constraint(s) exist on replicated table(s)'
            USING DETAIL = format('%s.', secondary),
                  HINT = 'If two nodes insert or update rows with the same value in such a constraint at the same time, '
                      || 'the earlier row is removed on all nodes; bdr.bdr_restore_conflict_loser() brings it back.';
    END IF;

    FOR found IN
        SELECT n.nspname, c.relname
        FROM bdr.internal_replicated_tables() AS t
        JOIN pg_class AS c ON c.oid = t
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relreplident = 'd'
          AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
        ORDER BY 1, 2
    LOOP
        RAISE WARNING 'Table %.% has no PRIMARY KEY', quote_ident(found.nspname), quote_ident(found.relname)
            USING HINT = 'Tables without a PRIMARY KEY cannot be UPDATEd or DELETEd from, only INSERTed into. Add a PRIMARY KEY.';
    END LOOP;

    PERFORM bdr.internal_begin_join(
        'bdr.bdr_group_create', local_node_name, node_external_dsn, node_local_dsn, NULL, apply_delay, replication_sets
    );
    PERFORM bdr.internal_tell_agent();
END
$$;
COMMENT ON FUNCTION bdr.bdr_group_create(text, text, text, integer, text[]) IS 'Makes this database the first node of a new group';
REVOKE ALL ON FUNCTION bdr.bdr_group_create(text, text, text, integer, text[]) FROM PUBLIC;

-- Unlike BDR's, this ends when the join has failed, with the reason and the step, and when no agent is there to do the work.
CREATE OR REPLACE FUNCTION bdr.bdr_node_join_wait_for_ready()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    node record;
    shown text := '';
    agent_seen timestamptz := clock_timestamp();
    progress_shown timestamptz := clock_timestamp();
    -- How often the join had failed when this was called.
    failures_before integer;
    failures integer;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'Can only wait for node join in an ISOLATION LEVEL READ COMMITTED transaction, not %',
            current_setting('transaction_isolation');
    END IF;
    IF EXISTS (SELECT FROM bdr.bdr_local_node AS l WHERE l.xmin = pg_current_xact_id_if_assigned()::xid) THEN
        RAISE EXCEPTION 'the agent cannot see a node that is not committed yet'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'COMMIT first, then call this function.';
    END IF;
    LOOP
        SELECT n.node_status, n.node_name, l.join_step, l.join_progress, l.join_error
        INTO node
        FROM bdr.bdr_local_node AS l
        JOIN bdr.bdr_nodes AS n
          ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.node_sysid, l.node_timeline, l.node_dboid);
        IF NOT FOUND THEN
            RAISE EXCEPTION 'BDR is not active in this database'
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Call bdr.bdr_group_create(...) or bdr.bdr_group_join(...) first.';
        END IF;
        EXIT WHEN node.node_status = 'r';
        IF node.node_status = 'k' THEN
            RAISE EXCEPTION 'node % was parted from the group', node.node_name
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Remove it with bdr.remove_bdr_from_local_node(), then join again.';
        END IF;
        -- An error that the agent goes on trying to overcome is raised only once it has come back several times, and an attempt
        -- that began after this call has met it: it may be overcome by now. The first failure seen here may be of an attempt
        -- that began before; the second is not. Where the join got further in between, its failures are counted anew.
        failures := coalesce((node.join_error ->> 'failures')::integer, 0);
        failures_before := least(failures_before, failures);
        IF NOT (node.join_error ->> 'retry')::boolean OR failures >= greatest(3, failures_before + 2) THEN
            RAISE EXCEPTION '%', node.join_error ->> 'message'
                USING ERRCODE = coalesce(node.join_error ->> 'sqlstate', '55000'),
                      DETAIL = concat_ws(' ', format('In step "%s".', node.join_step), node.join_error ->> 'detail'),
                      HINT = concat_ws(' ', node.join_error ->> 'hint',
                          CASE WHEN (node.join_error ->> 'retry')::boolean
                               THEN 'The agent goes on trying: call this function again to wait on.' END);
        END IF;
        -- Else pg_stat_activity shows for the whole transaction who was connected when it was read first: not an agent that came later.
        PERFORM pg_stat_clear_snapshot();
        IF bdr.internal_agent_pid() IS NOT NULL THEN
            agent_seen := clock_timestamp();
        ELSIF clock_timestamp() > agent_seen + interval '10 s' THEN
            RAISE EXCEPTION 'no bdr agent is running for this server'
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Start one beside the server: bdr agent --dsn "..." and call this function again.';
        END IF;
        IF node.join_step IS NOT NULL AND (
            node.join_step <> shown OR clock_timestamp() > progress_shown + interval '10 s'
        ) THEN
            RAISE NOTICE '%', concat_ws(
                ': ', node.join_step, node.join_progress ->> 'text',
                CASE WHEN (node.join_error ->> 'waiting')::boolean THEN node.join_error ->> 'message' END
            );
            shown := node.join_step;
            progress_shown := clock_timestamp();
        END IF;
        PERFORM pg_sleep(0.1);
    END LOOP;
END
$$;
COMMENT ON FUNCTION bdr.bdr_node_join_wait_for_ready() IS
    'Returns when this node is a ready member; raises the reason when its join fails';

CREATE OR REPLACE FUNCTION bdr.bdr_part_by_node_names(p_nodes text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown text;
    node record;
BEGIN
    PERFORM bdr.internal_lock_membership();
    IF bdr.bdr_get_local_node_name() = ANY (p_nodes) THEN
        RAISE EXCEPTION 'Cannot part a node from its self' USING ERRCODE = 'object_in_use';
    END IF;
    SELECT string_agg(asked.name, ', ' ORDER BY asked.name) INTO unknown
    FROM unnest(p_nodes) AS asked (name)
    WHERE NOT EXISTS (SELECT FROM bdr.bdr_nodes AS n WHERE n.node_name = asked.name);
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'No node(s) named % found', unknown USING ERRCODE = 'no_data_found';
    END IF;
    FOR node IN SELECT * FROM bdr.bdr_nodes WHERE node_name = ANY (p_nodes) LOOP
        IF node.node_status = 'k' THEN
            RAISE INFO 'Node % is already parted, ignoring', node.node_name;
            CONTINUE;
        END IF;
        IF node.node_status <> 'r' THEN
            RAISE WARNING 'Node % is in state % not expected ''r''. Attempting to remove anyway.',
                node.node_name, node.node_status;
        END IF;
        UPDATE bdr.bdr_nodes AS n SET node_status = 'k'
        WHERE (n.node_sysid, n.node_timeline, n.node_dboid) = (node.node_sysid, node.node_timeline, node.node_dboid);
    END LOOP;
    PERFORM bdr.internal_tell_agent();
END
$$;
COMMENT ON FUNCTION bdr.bdr_part_by_node_names(text[]) IS 'Removes other nodes from the group; run on any node that stays';
REVOKE ALL ON FUNCTION bdr.bdr_part_by_node_names(text[]) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.remove_bdr_from_local_node(
    force boolean DEFAULT false, convert_global_sequences boolean DEFAULT true
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Peers are not told.
SET bdr.skip_ddl_replication = on
AS $$
DECLARE
    me record;
    status "char";
    target record;
    left_to_try integer;
BEGIN
    SELECT * INTO me FROM bdr.bdr_get_local_nodeid();
    SELECT n.node_status INTO status
    FROM bdr.bdr_nodes AS n
    WHERE (n.node_sysid, n.node_timeline, n.node_dboid) = (me.sysid, me.timeline, me.dboid);

    IF status <> 'k' THEN
        IF NOT force THEN
            RAISE EXCEPTION 'this BDR node might still be active, not removing'
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Part it from another node first: SELECT bdr.bdr_part_by_node_names(ARRAY[...]); or pass force := true.';
        END IF;
        RAISE WARNING 'forcing deletion of possibly active BDR node';
        RAISE NOTICE 'node forced to parted state, now removing';
    END IF;
    RAISE NOTICE 'removing BDR from node';

    -- From here on no session of the agent can begin a transaction on this node; those it has are ended.
    LOCK TABLE bdr.bdr_local_node IN ACCESS EXCLUSIVE MODE;
    PERFORM bdr.internal_lock_membership();
    PERFORM pg_terminate_backend(l.pid, 5000)
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.classid = 1650749952 AND l.objid = 2 AND l.objsubid = 2
      AND l.database = me.dboid AND l.pid <> pg_backend_pid();

    -- Only slots of this node: another tool's slot in this database is not ours to touch.
    FOR target IN
        SELECT s.slot_name FROM pg_replication_slots AS s
        WHERE s.database = current_database() AND s.plugin = 'pgoutput'
          AND ((bdr.bdr_parse_slot_name(s.slot_name)).local_dboid = me.dboid
               OR s.slot_name = format('bdr_%s_own__', me.dboid)::name)
    LOOP
        -- A peer reconnects as soon as its walsender is ended, so this may take more than one try.
        left_to_try := 20;
        LOOP
            PERFORM pg_terminate_backend(s.active_pid, 5000)
            FROM pg_replication_slots AS s WHERE s.slot_name = target.slot_name AND s.active;
            BEGIN
                PERFORM pg_drop_replication_slot(target.slot_name);
                EXIT;
            EXCEPTION
                WHEN undefined_object THEN
                    EXIT;
                WHEN object_in_use THEN
                    left_to_try := left_to_try - 1;
                    IF left_to_try = 0 THEN RAISE; END IF;
            END;
        END LOOP;
    END LOOP;
    PERFORM pg_replication_origin_drop(o.roname)
    FROM pg_replication_origin AS o
    WHERE (bdr.bdr_parse_replident_name(o.roname)).local_dboid = me.dboid
       OR o.roname ~ format(E'^bdr_copy_%s_\\d+$', me.dboid)
       OR o.roname = format('bdr_%s_own', me.dboid);

    PERFORM bdr.internal_remove_lock_gates();
    PERFORM bdr.internal_open_gate(g, 'read_only') FROM bdr.internal_gates('read_only') AS g;
    IF convert_global_sequences THEN
        PERFORM bdr.internal_make_sequences_local();
    ELSE
        RAISE NOTICE 'global sequences are not converted; their columns cannot be filled by default any more';
    END IF;

    EXECUTE format('ALTER DATABASE %I RESET bdr.active', current_database());
    DROP PUBLICATION IF EXISTS bdr;
    DROP PUBLICATION IF EXISTS bdr_own;
    DROP PUBLICATION IF EXISTS bdr_ddl;
    PERFORM bdr.internal_drop_filter_carriers();
    PERFORM bdr.internal_stop_publishing(p.prefix)
    FROM (
        SELECT DISTINCT substring(pubname FROM E'^(bdr_\\d+_\\d+_\\d+)_(?:insert|update|delete)$') AS prefix FROM pg_publication
    ) AS p;
    DROP EVENT TRIGGER IF EXISTS bdr_guard;
    -- By name, or CASCADE would tell every user of it.
    DROP FUNCTION IF EXISTS bdr_guard.refuse_drop();
    DROP SCHEMA IF EXISTS bdr_guard CASCADE;

    PERFORM bdr.internal_forget_group();
    DELETE FROM bdr.message_secret;
    DELETE FROM bdr.row_version;
    DELETE FROM bdr.bdr_conflict_history;
    DELETE FROM bdr.bdr_queued_commands;
    DELETE FROM bdr.bdr_skipped_transactions;
    NOTIFY bdr;
    RAISE NOTICE 'BDR removed from this node. You can now DROP EXTENSION bdr and, if this is the last node in the group, drop the roles and settings made for it.';
END
$$;
COMMENT ON FUNCTION bdr.remove_bdr_from_local_node(boolean, boolean) IS
    'Makes this database an ordinary one again, keeping all user data. Part the node from a peer first: peers are not told. Slots cannot come back: do not roll it back';
REVOKE ALL ON FUNCTION bdr.remove_bdr_from_local_node(boolean, boolean) FROM PUBLIC;
