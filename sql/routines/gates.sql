-- Gates: triggers by which a node holds its users back from writing, while what peers send passes, because it is applied with
-- session_replication_role = replica. One for each reason, named bdr_gate_<reason>. The agent puts them on tables and takes them away; a
-- copy of the schema leaves them out.

-- Whether this node's users may only read.
CREATE OR REPLACE FUNCTION bdr.internal_is_read_only()
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM bdr.bdr_nodes AS n
        JOIN bdr.bdr_local_node AS me USING (node_sysid, node_timeline, node_dboid)
        WHERE n.node_read_only
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_read_only() FROM PUBLIC;

-- Reason read_only: what users write is refused, as in BDR. The node's row counts, and not that the trigger is still there.
CREATE OR REPLACE FUNCTION bdr.internal_refuse_write()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT bdr.internal_is_read_only() THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION 'Cannot run TRUNCATE TABLE on read-only BDR node.' USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    RAISE EXCEPTION '% may only affect UNLOGGED or TEMPORARY tables on read-only BDR node; % is a regular table', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'read_only_sql_transaction';
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_write() FROM PUBLIC;

-- Tables that users write to: those that are replicated, and the partitioned ones above them.
CREATE OR REPLACE FUNCTION bdr.internal_gated_tables(reason text, OUT relation regclass, OUT is_shut boolean)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.relation, EXISTS (
        SELECT FROM pg_trigger AS g
        WHERE g.tgrelid = t.relation AND g.tgname = 'bdr_gate_' || reason AND NOT g.tgisinternal AND g.tgenabled = 'O'
          AND g.tgfoid = 'bdr.internal_refuse_write()'::regprocedure
          -- BEFORE, for each statement, INSERT, DELETE, UPDATE and TRUNCATE; without a condition.
          AND g.tgtype = 2 + 4 + 8 + 16 + 32 AND g.tgqual IS NULL AND g.tgattr = ''::int2vector
    )
    FROM (
        SELECT r FROM bdr.internal_replicated_tables() AS r
        UNION
        SELECT a.relid
        FROM bdr.internal_replicated_tables() AS r
        JOIN pg_class AS c ON c.oid = r AND c.relispartition
        CROSS JOIN LATERAL pg_partition_ancestors(r) AS a (relid)
    ) AS t (relation)
$$;
REVOKE ALL ON FUNCTION bdr.internal_gated_tables(text) FROM PUBLIC;

-- Waits for those who are writing, so that once it is committed nobody's writes are on their way: lock_timeout says how long.
CREATE OR REPLACE FUNCTION bdr.internal_shut_gate(relation regclass, reason text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- A gate is this node's own.
SET bdr.skip_ddl_replication = on
AS $$
DECLARE
    gate name := 'bdr_gate_' || reason;
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER %I BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
            || 'FOR EACH STATEMENT EXECUTE FUNCTION bdr.internal_refuse_write()',
        gate, relation
    );
    EXECUTE format('ALTER TABLE ONLY %s ENABLE TRIGGER %I', relation, gate);
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_shut_gate(regclass, text) FROM PUBLIC;

-- The tables that have a gate, whether it is whole or not.
CREATE OR REPLACE FUNCTION bdr.internal_gates(reason text)
RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT g.tgrelid::regclass FROM pg_trigger AS g
    WHERE g.tgname = 'bdr_gate_' || reason AND NOT g.tgisinternal AND g.tgparentid = 0
$$;
REVOKE ALL ON FUNCTION bdr.internal_gates(text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_open_gate(relation regclass, reason text)
RETURNS void
-- STRICT: of a table that is gone there is none.
LANGUAGE plpgsql STRICT
SET search_path = pg_catalog, pg_temp
-- A gate is this node's own.
SET bdr.skip_ddl_replication = on
AS $$
BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', 'bdr_gate_' || reason, relation);
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_open_gate(regclass, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.bdr_node_set_read_only(node_name text, read_only boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    asked ALIAS FOR $1;
    is_wanted ALIAS FOR $2;
BEGIN
    IF is_wanted IS NULL THEN
        RAISE EXCEPTION 'read_only may not be null' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM bdr.internal_lock_membership();
    IF NOT EXISTS (
        SELECT FROM bdr.bdr_nodes AS n
        JOIN bdr.bdr_local_node AS me USING (node_sysid, node_timeline, node_dboid)
        WHERE n.node_status IN ('r', 'k')
    ) THEN
        RAISE EXCEPTION 'local node is still starting up, cannot change read-only status'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE bdr.bdr_nodes AS n SET node_read_only = is_wanted WHERE n.node_name = asked AND n.node_status <> 'k';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node % not found.', asked USING ERRCODE = 'no_data_found';
    END IF;
    PERFORM bdr.internal_tell_agent();
END
$$;
COMMENT ON FUNCTION bdr.bdr_node_set_read_only(text, boolean) IS
    'Lets a node refuse what its users write to replicated tables, or no longer; what peers send is applied. Called on any node';
REVOKE ALL ON FUNCTION bdr.bdr_node_set_read_only(text, boolean) FROM PUBLIC;
