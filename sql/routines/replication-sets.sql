-- Replication sets: a table is in sets, a node takes part in sets, and a change is sent to a node if one of the sets that both are in
-- sends changes of its kind (docs/concepts/replication-sets.md). What follows from that is published: publication.sql.

-- The permanent ordinary tables of the user, partitions included; not the members of extensions. `only_one`: that one, if it is one of them.
CREATE OR REPLACE FUNCTION bdr.internal_replicated_tables(only_one oid DEFAULT NULL)
RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid::regclass
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    -- So that one is found by an index.
    WHERE c.oid = ANY (
            CASE WHEN only_one IS NULL THEN ARRAY(SELECT t.oid FROM pg_class AS t WHERE t.relkind = 'r') ELSE ARRAY[only_one] END
        )
      AND c.relkind = 'r'
      AND c.relpersistence = 'p'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'bdr', 'bdr_guard')
      -- A table that belongs to an extension is filled by the extension's script on every node.
      AND NOT EXISTS (
          SELECT FROM pg_depend AS d
          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
      )
$$;
COMMENT ON FUNCTION bdr.internal_replicated_tables(oid) IS
    'Permanent ordinary tables of the user, partitions included; not the members of extensions';

-- What sets there are ------------------------------------------------------------------------------------------------------

-- BDR's rules, texts and SQLSTATEs. A node may take part in the sets that no table can be put into.
CREATE OR REPLACE FUNCTION bdr.internal_check_set_name(name text, is_of_table boolean)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF coalesce(name, '') = '' THEN
        RAISE EXCEPTION 'replication set name "%" is too short', coalesce(name, '') USING ERRCODE = 'invalid_name';
    END IF;
    IF octet_length(name) > 63 THEN
        RAISE EXCEPTION 'replication set name "%" is too long', name
            USING ERRCODE = 'name_too_long', HINT = 'Names of replication sets have 63 bytes at most.';
    END IF;
    IF name !~ '^[a-z0-9_-]+$' THEN
        RAISE EXCEPTION 'replication set name "%" contains invalid character', name
            USING ERRCODE = 'invalid_name',
                  HINT = 'Names of replication sets may only contain lower-case letters, digits, the underscore and the hyphen.';
    END IF;
    IF is_of_table AND name IN ('default', 'all') THEN
        RAISE EXCEPTION 'replication set name "%" is reserved', name
            USING ERRCODE = 'name_too_long',
                  HINT = CASE name
                      WHEN 'all' THEN 'Every table is in the set all.'
                      ELSE 'A table is in the set default as long as it is given no sets: NULL sets it back.'
                  END;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_set_name(text, boolean) FROM PUBLIC;

-- The sets that a table is in: its own, else those of the partitioned table above it, else the default.
CREATE OR REPLACE FUNCTION bdr.internal_sets_of(relation oid)
RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(
        (
            SELECT s.sets
            FROM (
                SELECT $1 AS relid, 0 AS level
                UNION ALL
                SELECT a.relid, a.level FROM pg_partition_ancestors($1) WITH ORDINALITY AS a (relid, level)
            ) AS above
            JOIN bdr.table_replication_sets AS s ON s.relation = above.relid
            ORDER BY above.level
            LIMIT 1
        ),
        ARRAY['default']
    ) || 'all'::text
$$;
REVOKE ALL ON FUNCTION bdr.internal_sets_of(oid) FROM PUBLIC;

-- Of all replicated tables, or of one.
CREATE OR REPLACE FUNCTION bdr.internal_table_sets(only_one oid DEFAULT NULL, OUT relation regclass, OUT sets text[], OUT filters jsonb)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    -- Where no table was given any, none is looked up.
    SELECT t, CASE
        WHEN EXISTS (SELECT FROM bdr.table_replication_sets) THEN bdr.internal_sets_of(t)
        ELSE ARRAY['default', 'all']
    END, CASE
        WHEN EXISTS (SELECT FROM bdr.table_row_filter) THEN bdr.internal_filters_of(t)
        ELSE '{}'
    END
    FROM bdr.internal_replicated_tables(only_one) AS t
$$;
REVOKE ALL ON FUNCTION bdr.internal_table_sets(oid) FROM PUBLIC;

-- What of a table's changes goes to a node. As in BDR a node without sets gets everything. `filters`: of the table, by set. Of each kind
-- the condition that rows must meet: NULL where a set sends all of them. What is sent then is one of the sets' rows or the other's.
CREATE OR REPLACE FUNCTION bdr.internal_sent_actions(
    table_sets text[], filters jsonb, node_sets text[],
    OUT inserts boolean, OUT updates boolean, OUT deletes boolean,
    OUT insert_filter text, OUT update_filter text, OUT delete_filter text
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT everything OR coalesce(bool_or(s.inserts), false),
           everything OR coalesce(bool_or(s.updates), false),
           everything OR coalesce(bool_or(s.deletes), false),
           CASE WHEN NOT everything AND bool_and(s.filter IS NOT NULL) FILTER (WHERE s.inserts)
                THEN bdr.internal_any_filter(array_agg(DISTINCT s.filter) FILTER (WHERE s.inserts)) END,
           CASE WHEN NOT everything AND bool_and(s.filter IS NOT NULL) FILTER (WHERE s.updates)
                THEN bdr.internal_any_filter(array_agg(DISTINCT s.filter) FILTER (WHERE s.updates)) END,
           CASE WHEN NOT everything AND bool_and(s.filter IS NOT NULL) FILTER (WHERE s.deletes)
                THEN bdr.internal_any_filter(array_agg(DISTINCT s.filter) FILTER (WHERE s.deletes)) END
    FROM (SELECT coalesce(cardinality(node_sets), 0) = 0) AS x (everything)
    LEFT JOIN (
        SELECT coalesce(c.replicate_inserts, true) AS inserts, coalesce(c.replicate_updates, true) AS updates,
               coalesce(c.replicate_deletes, true) AS deletes, filters ->> shared.name AS filter
        FROM (SELECT unnest(table_sets) INTERSECT SELECT unnest(node_sets)) AS shared (name)
        LEFT JOIN bdr.bdr_replication_set_config AS c ON c.set_name = shared.name
    ) AS s ON true
    GROUP BY everything
$$;
REVOKE ALL ON FUNCTION bdr.internal_sent_actions(text[], jsonb, text[]) FROM PUBLIC;

-- Tables -------------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION bdr.table_get_replication_sets(relation regclass, OUT sets text[])
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT bdr.internal_sets_of(relation) $$;
COMMENT ON FUNCTION bdr.table_get_replication_sets(regclass) IS 'The replication sets that a table is in; all is always among them';

-- What calls about a table ask first.
CREATE OR REPLACE FUNCTION bdr.internal_check_table_call(p_relation regclass)
RETURNS void
-- Not SECURITY DEFINER: whoever calls is to be the owner.
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_relation IS NULL THEN
        RAISE EXCEPTION 'relation may not be null' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT bdr.bdr_is_active_in_db() THEN
        RAISE EXCEPTION 'BDR is not active in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Call bdr.bdr_group_create(...) or bdr.bdr_group_join(...) first.';
    END IF;
    -- For a message that people understand: row security would say less.
    IF NOT bdr.internal_is_owner(p_relation::oid) THEN
        RAISE EXCEPTION 'must be owner of table %', p_relation USING ERRCODE = 'insufficient_privilege';
    END IF;
END
$$;
COMMENT ON FUNCTION bdr.internal_check_table_call(regclass) IS 'Internal: refuses whoever may not set how a table is replicated';

CREATE OR REPLACE FUNCTION bdr.table_set_replication_sets(p_relation regclass, p_sets text[], synchronize boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- It is off in sessions of the agent, where the call arrives.
SET row_security = on
AS $$
BEGIN
    PERFORM bdr.internal_check_table_call(p_relation);
    IF synchronize THEN
        PERFORM bdr.internal_check_whole(p_relation);
        -- Else rows that arrive while the lock is waited for would not be seen, and not be sent.
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'rows cannot be sent again in a % transaction', upper(current_setting('transaction_isolation'))
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call it in a READ COMMITTED transaction.';
        END IF;
        -- What others are writing is here before anything is sent, and what they write later is newer.
        PERFORM bdr.internal_acquire_lock('write_lock', ARRAY[p_relation]);
    ELSE
        PERFORM bdr.internal_order_definition();
    END IF;
    IF p_sets IS NULL THEN
        DELETE FROM bdr.table_replication_sets AS s WHERE s.relation = p_relation;
    ELSE
        INSERT INTO bdr.table_replication_sets AS s (relation, sets)
        VALUES (p_relation, ARRAY(SELECT DISTINCT u.name FROM unnest(p_sets) AS u (name) ORDER BY u.name))
        ON CONFLICT ON CONSTRAINT table_replication_sets_pkey DO UPDATE SET sets = EXCLUDED.sets;
    END IF;
    IF synchronize THEN
        PERFORM bdr.internal_check_whole(p_relation);
        PERFORM bdr.internal_send_rows(p_relation);
    END IF;
END
$$;
COMMENT ON FUNCTION bdr.table_set_replication_sets(regclass, text[], boolean) IS
    'Puts a table into these replication sets and no others, on all nodes; NULL: into default. Rows that are there are sent only with synchronize';

-- The tables that rows are in.
CREATE OR REPLACE FUNCTION bdr.internal_leaves(relation regclass)
RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t
    FROM (SELECT relation UNION SELECT p.relid FROM pg_partition_tree(relation) AS p) AS below (oid)
    CROSS JOIN LATERAL bdr.internal_replicated_tables(below.oid) AS t
$$;
COMMENT ON FUNCTION bdr.internal_leaves(regclass) IS 'Internal: the replicated tables that the rows of a table are in';

-- Only a node that gets all changes of a table has all its rows; and only by UPDATE can it send them again.
CREATE OR REPLACE FUNCTION bdr.internal_check_whole(relation regclass)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN SELECT l FROM bdr.internal_leaves(relation) AS l ORDER BY l::oid LOOP
        IF EXISTS (
            SELECT FROM bdr.bdr_local_node AS me
            JOIN bdr.bdr_connections AS c
              ON (c.conn_sysid, c.conn_timeline, c.conn_dboid) = (me.node_sysid, me.node_timeline, me.node_dboid)
            CROSS JOIN LATERAL bdr.internal_sent_actions(
                bdr.internal_sets_of(leaf), bdr.internal_filters_of(leaf), c.conn_replication_sets
            ) AS got
            WHERE NOT (got.inserts AND got.updates AND got.deletes)
               OR coalesce(got.insert_filter, got.update_filter, got.delete_filter) IS NOT NULL
        ) THEN
            RAISE EXCEPTION 'this node does not get all changes of table %, before and after', leaf
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Call bdr.table_set_replication_sets(..., synchronize := true) on a node that does.';
        END IF;
        IF EXISTS (
            SELECT FROM bdr.internal_subscribers() AS s
            CROSS JOIN LATERAL bdr.internal_sent_actions(bdr.internal_sets_of(leaf), bdr.internal_filters_of(leaf), s.sets) AS sent
            WHERE sent.inserts AND NOT sent.updates
        ) THEN
            RAISE EXCEPTION 'rows of table % cannot be sent to nodes that get no updates of it', leaf
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION bdr.internal_check_whole(regclass) IS 'Internal: refuses a table that this node has not whole';

-- Writes each row of a table again, unchanged, as the caller's own UPDATE: it goes to all nodes that get the table, and makes the row where
-- it is missing.
CREATE OR REPLACE FUNCTION bdr.internal_send_rows(relation regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Where row security applies to the owner too, an error, and not rows that are left out in silence.
SET row_security = off
AS $$
DECLARE
    leaf regclass;
    name name;
    expected bigint;
    sent bigint;
BEGIN
    FOR leaf IN SELECT l FROM bdr.internal_leaves(relation) AS l ORDER BY l::oid LOOP
        name := (
            SELECT a.attname FROM pg_attribute AS a
            WHERE a.attrelid = leaf AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a'
            ORDER BY a.attnum
            LIMIT 1
        );
        IF name IS NULL THEN
            RAISE EXCEPTION 'table % has no column that can be written again', leaf
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        EXECUTE format('SELECT count(*) FROM ONLY %s', leaf) INTO expected;
        EXECUTE format('UPDATE ONLY %1$s SET %2$I = %2$I', leaf, name);
        GET DIAGNOSTICS sent = ROW_COUNT;
        IF sent < expected THEN
            RAISE EXCEPTION 'only % of % rows of table % could be written again', sent, expected, leaf
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'A trigger or a rule of the table leaves out updates that change nothing.';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION bdr.internal_send_rows(regclass) IS 'Internal: the part of table_set_replication_sets() that sends rows again';

-- Whether the role that asks has the rights of the table's owner. Not SECURITY DEFINER: there it would be another role that asks.
CREATE OR REPLACE FUNCTION bdr.internal_is_owner(relation oid)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = $1 AND pg_has_role(c.relowner, 'USAGE')) $$;
COMMENT ON FUNCTION bdr.internal_is_owner(oid) IS 'Internal: whether the current role has the rights of the owner of a table';

ALTER TABLE bdr.table_replication_sets ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_owners ON bdr.table_replication_sets;
CREATE POLICY of_owners ON bdr.table_replication_sets
    USING (bdr.internal_is_owner(relation)) WITH CHECK (bdr.internal_is_owner(relation));
GRANT SELECT, INSERT, UPDATE (sets), DELETE ON bdr.table_replication_sets TO PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_check_replicated_table(relation oid)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_class AS c
        WHERE c.oid = relation AND c.relkind = 'p'
          AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'bdr', 'bdr_guard')
    ) AND NOT EXISTS (SELECT FROM bdr.internal_replicated_tables(relation)) THEN
        RAISE EXCEPTION '% is not a table that is replicated', relation::regclass USING ERRCODE = 'wrong_object_type';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_replicated_table(oid) FROM PUBLIC;

-- A table's name and owner; NULLs for one that is gone.
CREATE OR REPLACE FUNCTION bdr.internal_place_of(relation oid, OUT nspname name, OUT relname name, OUT owner name)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT n.nspname, c.relname, pg_get_userbyid(c.relowner)
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = relation
$$;
REVOKE ALL ON FUNCTION bdr.internal_place_of(oid) FROM PUBLIC;

-- Locks a table of which more is to be read. Fails where its name is another's by then.
CREATE OR REPLACE FUNCTION bdr.internal_lock_named(relation oid, nspname name, relname name, lockmode text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named CONSTANT text := format('%I.%I', nspname, relname);
BEGIN
    EXECUTE format('LOCK TABLE ONLY %s IN %s MODE', named, lockmode);
    IF to_regclass(named) IS DISTINCT FROM relation::regclass THEN
        RAISE EXCEPTION 'table % was renamed meanwhile', named USING ERRCODE = 'serialization_failure';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_lock_named(oid, name, name, text) FROM PUBLIC;

-- A table would be looked at as it was before others changed it. `what`: what is about to be set.
CREATE OR REPLACE FUNCTION bdr.internal_refuse_old_snapshot(what text)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION '% cannot be set in a % transaction', what, upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call it in a READ COMMITTED transaction.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_old_snapshot(text) FROM PUBLIC;

-- Sends a call about a table to the other nodes, as a command with the rights of a role.
CREATE OR REPLACE FUNCTION bdr.internal_queue_call(called text, role text, arguments text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT bdr.internal_is_replica() AND bdr.internal_captures_commands()
       AND NOT bdr.internal_superuser_setting('bdr.skip_ddl_replication', session_user)
    THEN
        PERFORM bdr.internal_refuse_read_only(called);
        PERFORM bdr.internal_queue(
            role, 'DO', format('DO %L', format('BEGIN PERFORM %s(%s); END', called, arguments)), NULL, false, NULL
        );
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_queue_call(text, text, text) FROM PUBLIC;

-- Here, and where a peer's command brings it: what is published follows at once. Where somebody set it, the call goes to the others as a
-- command, with the rights of the table's owner: who may write the row has these.
CREATE OR REPLACE FUNCTION bdr.internal_table_sets_changed()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed bdr.table_replication_sets;
    sets text[];
    place record;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
    ELSE
        changed := NEW;
        sets := NEW.sets;
    END IF;
    SELECT p.* INTO place FROM bdr.internal_place_of(changed.relation) AS p;
    -- Of a table that is gone; or BDR is being removed, or the node filled: the join publishes at its end.
    IF place.relname IS NULL OR NOT EXISTS (SELECT FROM bdr.bdr_local_node) OR bdr.internal_is_being_filled() THEN
        RETURN NULL;
    END IF;
    -- For who writes the row himself.
    PERFORM bdr.internal_order_definition();
    IF TG_OP <> 'DELETE' THEN
        PERFORM bdr.internal_check_set_name(s.name, true) FROM unnest(sets) AS s (name);
        PERFORM bdr.internal_check_replicated_table(changed.relation);
    END IF;
    PERFORM bdr.internal_sync_publication(l) FROM bdr.internal_leaves(changed.relation::regclass) AS l;
    PERFORM bdr.internal_queue_call('bdr.table_set_replication_sets', place.owner, format(
        '%L, %L', format('%I.%I', place.nspname, place.relname), sets
    ));
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_table_sets_changed() FROM PUBLIC;

CREATE OR REPLACE TRIGGER table_sets_changed AFTER INSERT OR UPDATE OR DELETE ON bdr.table_replication_sets
    FOR EACH ROW EXECUTE FUNCTION bdr.internal_table_sets_changed();
ALTER TABLE bdr.table_replication_sets ENABLE ALWAYS TRIGGER table_sets_changed;

-- Nodes --------------------------------------------------------------------------------------------------------------------

-- Where the row is written; elsewhere the agent sees to it.
CREATE OR REPLACE FUNCTION bdr.internal_set_config_changed()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM bdr.internal_sync_publication();
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_set_config_changed() FROM PUBLIC;

CREATE OR REPLACE TRIGGER set_config_changed AFTER INSERT OR UPDATE OR DELETE ON bdr.bdr_replication_set_config
    FOR EACH STATEMENT EXECUTE FUNCTION bdr.internal_set_config_changed();

-- BDR's words for a connection that is not there.
CREATE OR REPLACE FUNCTION bdr.internal_no_connection(
    sysid text, timeline oid, dboid oid, origin_sysid text, origin_timeline oid, origin_dboid oid
)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (origin_sysid, origin_timeline, origin_dboid) <> ('0', 0, 0) THEN
        RAISE EXCEPTION 'No bdr.bdr_connections entry found from origin (%,%,%) to (%,%,%)',
                origin_sysid, origin_timeline, origin_dboid, sysid, timeline, dboid
            USING ERRCODE = 'no_data_found',
                  HINT = 'A row with that origin in bdr.bdr_connections says what the node gets from it; without one the default counts.';
    END IF;
    RAISE EXCEPTION 'No bdr.bdr_connections entry found for (%,%,%) with default origin (0,0,0)', sysid, timeline, dboid
        USING ERRCODE = 'no_data_found';
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_no_connection(text, oid, oid, text, oid, oid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_node_named(target_node_name text, what text, OUT sysid text, OUT timeline oid, OUT dboid oid)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT n.node_sysid, n.node_timeline, n.node_dboid INTO sysid, timeline, dboid
    FROM bdr.bdr_nodes AS n
    WHERE n.node_name = target_node_name AND n.node_status <> 'k';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'No node with name % found in bdr.bdr_nodes', target_node_name USING ERRCODE = 'no_data_found';
    END IF;
    IF EXISTS (
        SELECT FROM bdr.bdr_connections AS c
        WHERE (c.conn_sysid, c.conn_timeline, c.conn_dboid) = (sysid, timeline, dboid) AND c.conn_origin_sysid <> '0'
    ) THEN
        RAISE WARNING 'There are node-specific override entries for node % in bdr.bdr_connections. Only the default connection''s replication sets will be %.',
            target_node_name, what;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_node_named(text, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.connection_get_replication_sets(
    sysid text, timeline oid, dboid oid, origin_sysid text DEFAULT '0', origin_timeline oid DEFAULT 0, origin_dboid oid DEFAULT 0
)
RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_sets text[];
BEGIN
    SELECT c.conn_replication_sets INTO found_sets
    FROM bdr.bdr_connections AS c
    WHERE (c.conn_sysid, c.conn_timeline, c.conn_dboid) = (sysid, timeline, dboid)
      AND (c.conn_origin_sysid, c.conn_origin_timeline, c.conn_origin_dboid) = (origin_sysid, origin_timeline, origin_dboid);
    IF NOT FOUND THEN
        PERFORM bdr.internal_no_connection(sysid, timeline, dboid, origin_sysid, origin_timeline, origin_dboid);
    END IF;
    RETURN found_sets;
END
$$;
COMMENT ON FUNCTION bdr.connection_get_replication_sets(text, oid, oid, text, oid, oid) IS
    'The replication sets that a node gets; with an origin: that it gets from that node, where a row of its own says so. NULL or {}: everything';
REVOKE ALL ON FUNCTION bdr.connection_get_replication_sets(text, oid, oid, text, oid, oid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.connection_get_replication_sets(target_node_name text)
RETURNS text[]
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bdr.connection_get_replication_sets(n.sysid, n.timeline, n.dboid)
    FROM bdr.internal_node_named(target_node_name, 'returned') AS n
$$;
COMMENT ON FUNCTION bdr.connection_get_replication_sets(text) IS 'The replication sets that a node gets from the others. NULL or {}: everything';
REVOKE ALL ON FUNCTION bdr.connection_get_replication_sets(text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.connection_set_replication_sets(
    new_replication_sets text[], sysid text, timeline oid, dboid oid,
    origin_sysid text DEFAULT '0', origin_timeline oid DEFAULT 0, origin_dboid oid DEFAULT 0
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM bdr.internal_check_set_name(s.name, false) FROM unnest(new_replication_sets) AS s (name);
    UPDATE bdr.bdr_connections AS c SET conn_replication_sets = new_replication_sets
    WHERE (c.conn_sysid, c.conn_timeline, c.conn_dboid) = (sysid, timeline, dboid)
      AND (c.conn_origin_sysid, c.conn_origin_timeline, c.conn_origin_dboid) = (origin_sysid, origin_timeline, origin_dboid);
    IF NOT FOUND THEN
        PERFORM bdr.internal_no_connection(sysid, timeline, dboid, origin_sysid, origin_timeline, origin_dboid);
    END IF;
    PERFORM bdr.internal_sync_publication();
    PERFORM bdr.internal_tell_agent();
END
$$;
COMMENT ON FUNCTION bdr.connection_set_replication_sets(text[], text, oid, oid, text, oid, oid) IS
    'Sets the replication sets that a node gets; with an origin: that it gets from that node, where it has a row of its own. Rows that are there are not sent';
REVOKE ALL ON FUNCTION bdr.connection_set_replication_sets(text[], text, oid, oid, text, oid, oid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.connection_set_replication_sets(replication_sets text[], target_node_name text)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bdr.connection_set_replication_sets(replication_sets, n.sysid, n.timeline, n.dboid)
    FROM bdr.internal_node_named(
        target_node_name, 'changed. Use the 6-argument form of this function to change others'
    ) AS n
$$;
COMMENT ON FUNCTION bdr.connection_set_replication_sets(text[], text) IS
    'Sets the replication sets that a node gets from the others. Rows that are there are not sent';
REVOKE ALL ON FUNCTION bdr.connection_set_replication_sets(text[], text) FROM PUBLIC;

-- Who gets what ------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE VIEW bdr.replication_set_tables AS
SELECT me.node_name, n.nspname, c.relname, t.sets AS memberships,
       coalesce(bool_or(f.replicate_inserts), true) AS replicate_inserts,
       coalesce(bool_or(f.replicate_updates), true) AS replicate_updates,
       coalesce(bool_or(f.replicate_deletes), true) AS replicate_deletes
FROM bdr.internal_table_sets() AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN (
    SELECT own.node_name FROM bdr.bdr_local_node JOIN bdr.bdr_nodes AS own USING (node_sysid, node_timeline, node_dboid)
) AS me
LEFT JOIN bdr.bdr_replication_set_config AS f ON f.set_name = ANY (t.sets)
GROUP BY me.node_name, n.nspname, c.relname, t.sets;
COMMENT ON VIEW bdr.replication_set_tables IS
    'The replication sets that this node''s tables are in, and what the configuration of these sets lets through';
REVOKE ALL ON bdr.replication_set_tables FROM PUBLIC;

CREATE OR REPLACE VIEW bdr.replication_set_nodes AS
SELECT n.node_name, c.conn_replication_sets, o.node_name AS origin_node_name
FROM bdr.bdr_connections AS c
JOIN bdr.bdr_nodes AS n
  ON (n.node_sysid, n.node_timeline, n.node_dboid) = (c.conn_sysid, c.conn_timeline, c.conn_dboid) AND n.node_status <> 'k'
LEFT JOIN bdr.bdr_nodes AS o
  ON (o.node_sysid, o.node_timeline, o.node_dboid) = (c.conn_origin_sysid, c.conn_origin_timeline, c.conn_origin_dboid);
COMMENT ON VIEW bdr.replication_set_nodes IS
    'The replication sets that each node gets; with an origin: what it gets from that node. NULL or {}: everything';
REVOKE ALL ON bdr.replication_set_nodes FROM PUBLIC;
