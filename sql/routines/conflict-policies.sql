-- How conflicts of a table are resolved (docs/concepts/conflicts.md). The same on all nodes: what is set here travels as a row.

-- Permanent ordinary tables that can have a policy: rows are found by a key that no transaction holds twice.
CREATE OR REPLACE FUNCTION bdr.internal_check_policy_table(relation regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
BEGIN
    SELECT c.relkind, c.relreplident, n.nspname INTO found
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = relation;
    IF found.nspname IN ('pg_catalog', 'information_schema') THEN
        RAISE EXCEPTION 'permission denied: % is a system catalog', relation USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF found.relkind = 'p' THEN
        RAISE EXCEPTION '% is a partitioned table', relation
            USING ERRCODE = 'wrong_object_type', HINT = 'Rows are those of its partitions: name each of them.';
    END IF;
    IF NOT EXISTS (SELECT FROM bdr.internal_replicated_tables() AS t WHERE t = relation) THEN
        RAISE EXCEPTION '% is not a table that is replicated', relation USING ERRCODE = 'wrong_object_type';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = relation AND i.indisprimary AND i.indimmediate) THEN
        RAISE EXCEPTION 'table % has no PRIMARY KEY that is checked at once', relation
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Add a PRIMARY KEY that is not DEFERRABLE.';
    END IF;
    -- From 18 on a published table with REPLICA IDENTITY FULL and such a column takes no UPDATE.
    IF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attgenerated <> '' AND NOT a.attisdropped) THEN
        RAISE EXCEPTION 'table % has generated columns', relation
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Conflict policies need REPLICA IDENTITY FULL, which PostgreSQL 18 does not take together with generated columns.';
    END IF;
    IF found.relreplident NOT IN ('d', 'f') THEN
        RAISE EXCEPTION 'table % has a REPLICA IDENTITY of its own', relation
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('ALTER TABLE %s REPLICA IDENTITY DEFAULT; a conflict policy makes it FULL.', relation);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_policy_table(regclass) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.bdr_set_conflict_policy(relation regclass, policy text, nodes text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    chosen ALIAS FOR $2;
    ranked ALIAS FOR $3;
    place record;
BEGIN
    IF relation IS NULL OR chosen IS NULL THEN
        RAISE EXCEPTION 'neither relation nor policy may be null' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF chosen IN ('column_merge', 'delta') THEN
        RAISE EXCEPTION 'conflict policy "%" is not supported yet', chosen
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'A conflict handler can merge both rows: bdr.bdr_create_conflict_handler(...).';
    END IF;
    IF chosen NOT IN ('last_update_wins', 'first_update_wins', 'node_priority', 'update_wins', 'delete_wins', 'handler') THEN
        RAISE EXCEPTION 'conflict policy "%" is not known', chosen
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Policies are last_update_wins, first_update_wins, node_priority, update_wins, delete_wins and handler.';
    END IF;
    IF (chosen = 'node_priority') <> (ranked IS NOT NULL) THEN
        RAISE EXCEPTION 'nodes are given for node_priority, and for no other conflict policy'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'bdr.bdr_set_conflict_policy(''t'', ''node_priority'', ARRAY[''first'', ''second'']), the highest first.';
    END IF;
    IF NOT bdr.bdr_is_active_in_db() THEN
        RAISE EXCEPTION 'BDR is not active in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Call bdr.bdr_group_create(...) or bdr.bdr_group_join(...) first.';
    END IF;
    PERFORM bdr.internal_check_owner(relation);
    SELECT n.nspname, c.relname, c.relreplident INTO place
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = relation;
    IF chosen = 'last_update_wins' THEN
        DELETE FROM bdr.conflict_policy AS p WHERE (p.schema_name, p.table_name) = (place.nspname, place.relname);
    ELSE
        INSERT INTO bdr.conflict_policy AS p (schema_name, table_name, policy, nodes, replica_identity)
        VALUES (place.nspname, place.relname, chosen, ranked, place.relreplident)
        ON CONFLICT ON CONSTRAINT conflict_policy_pkey DO UPDATE
        SET policy = EXCLUDED.policy, nodes = EXCLUDED.nodes;
    END IF;
END
$$;
COMMENT ON FUNCTION bdr.bdr_set_conflict_policy(regclass, text, text[]) IS
    'Sets how conflicts of a table are resolved, on all nodes; nodes: for node_priority, names of nodes, the highest first';

-- The checks that need more rights than the table's owner has; also of what he writes without the function. What arrives from a peer was
-- checked there.
CREATE OR REPLACE FUNCTION bdr.internal_admit_policy()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found regclass := to_regclass(format('%I.%I', NEW.schema_name, NEW.table_name));
    unknown text;
BEGIN
    IF found IS NULL THEN
        RAISE EXCEPTION 'relation "%.%" does not exist', NEW.schema_name, NEW.table_name USING ERRCODE = 'undefined_table';
    END IF;
    SELECT string_agg(coalesce(asked.name, 'NULL'), ', ' ORDER BY asked.name) INTO unknown
    FROM unnest(NEW.nodes) AS asked (name)
    WHERE NOT EXISTS (SELECT FROM bdr.bdr_nodes AS n WHERE n.node_name = asked.name AND n.node_status <> 'k');
    IF unknown IS NOT NULL OR cardinality(NEW.nodes) = 0 THEN
        RAISE EXCEPTION 'No node(s) named % found', coalesce(unknown, '{}') USING ERRCODE = 'no_data_found';
    END IF;
    PERFORM bdr.internal_check_policy_table(found);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_admit_policy() FROM PUBLIC;

-- By its name the first.
CREATE OR REPLACE TRIGGER admit_policy AFTER INSERT OR UPDATE ON bdr.conflict_policy
    FOR EACH ROW EXECUTE FUNCTION bdr.internal_admit_policy();

-- On every node, where the row is written and where it arrives: from now on each change of the table comes with the row that its
-- writer had, which tells whether he knew what it meets. A table that is not here yet is made with the rest of the schema.
CREATE OR REPLACE FUNCTION bdr.internal_policy_changed()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Each node's own trigger does that.
SET bdr.skip_ddl_replication = on
AS $$
DECLARE
    changed record;
    is_set boolean := TG_OP <> 'DELETE';
    found regclass;
    now "char";
BEGIN
    IF is_set THEN
        changed := NEW;
    ELSE
        changed := OLD;
    END IF;
    SELECT c.oid, c.relreplident INTO found, now
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = changed.schema_name AND c.relname = changed.table_name AND c.relkind = 'r';
    IF is_set AND now <> 'f' THEN
        EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY FULL', found);
    ELSIF NOT is_set AND now = 'f' AND changed.replica_identity = 'd' THEN
        EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY DEFAULT', found);
    END IF;
    -- What apply knows of tables, their policies included, is read anew.
    INSERT INTO bdr.definition_change DEFAULT VALUES;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_policy_changed() FROM PUBLIC;

CREATE OR REPLACE TRIGGER policy_changed AFTER INSERT OR UPDATE OR DELETE ON bdr.conflict_policy
    FOR EACH ROW EXECUTE FUNCTION bdr.internal_policy_changed();
ALTER TABLE bdr.conflict_policy ENABLE ALWAYS TRIGGER policy_changed;

CREATE OR REPLACE VIEW bdr.bdr_conflict_policies AS
SELECT p.schema_name, p.table_name, p.policy, p.nodes,
       -- Without the table there is nothing to resolve.
       coalesce(c.relreplident = 'f', false) AS is_in_effect
FROM bdr.conflict_policy AS p
LEFT JOIN (
    pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND c.relkind = 'r'
) ON n.nspname = p.schema_name AND c.relname = p.table_name;
COMMENT ON VIEW bdr.bdr_conflict_policies IS
    'Tables whose conflicts are not resolved by last_update_wins; is_in_effect: this node''s changes tell peers what their writers knew';
REVOKE ALL ON bdr.bdr_conflict_policies FROM PUBLIC;
