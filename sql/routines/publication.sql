-- What a node publishes: publication "bdr" names every replicated table one by one. FOR ALL TABLES would publish this node's
-- own tables in schema bdr too. "bdr_own" is what the node's own stream reads: of the same tables what takes rows away, always
-- whole rows of all of them (a list of columns would make a user's UPDATE fail once the replica identity changes). "bdr_ddl" are
-- the commands that change definitions.

CREATE OR REPLACE FUNCTION bdr.internal_replicated_tables()
RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid::regclass
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r'
      AND c.relpersistence = 'p'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'bdr', 'bdr_guard')
      -- A table that belongs to an extension is filled by the extension's script on every node.
      AND NOT EXISTS (
          SELECT FROM pg_depend AS d
          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
      )
$$;
COMMENT ON FUNCTION bdr.internal_replicated_tables() IS
    'Permanent ordinary tables of the user, partitions included; not the members of extensions';

CREATE OR REPLACE FUNCTION bdr.internal_sync_publication()
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    publication name;
    missing regclass;
    added integer := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM bdr.bdr_local_node) THEN
        RETURN 0;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'bdr_ddl') THEN
        -- Each node forgets old commands by itself.
        CREATE PUBLICATION bdr_ddl FOR TABLE ONLY bdr.bdr_queued_commands WITH (publish = 'insert');
    END IF;
    FOREACH publication IN ARRAY ARRAY['bdr', 'bdr_own'] LOOP
        IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = publication) THEN
            EXECUTE format(
                'CREATE PUBLICATION %I FOR TABLE ONLY bdr.bdr_nodes, ONLY bdr.bdr_connections, ONLY bdr.conflict_policy, '
                    || 'ONLY bdr.bdr_conflict_handlers, ONLY bdr.sequence_kind%s WITH (publish = %L)',
                publication,
                CASE publication WHEN 'bdr' THEN ', ONLY bdr.kill, ONLY bdr.ask, ONLY bdr.bdr_global_locks' ELSE '' END,
                CASE publication
                    WHEN 'bdr' THEN 'insert, update, delete, truncate'
                    ELSE 'update, delete, truncate'
                END
            );
        END IF;
        FOR missing IN
            SELECT t FROM bdr.internal_replicated_tables() AS t
            WHERE NOT EXISTS (
                SELECT FROM pg_publication_rel AS r
                JOIN pg_publication AS p ON p.oid = r.prpubid
                WHERE p.pubname = publication AND r.prrelid = t
            )
        LOOP
            EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %s', publication, missing);
            added := added + 1;
        END LOOP;
    END LOOP;
    RETURN added;
END
$$;
COMMENT ON FUNCTION bdr.internal_sync_publication() IS
    'Adds to publications bdr and bdr_own what they lack; returns how many additions that were. Does nothing while BDR is not active here';
REVOKE ALL ON FUNCTION bdr.internal_sync_publication() FROM PUBLIC;

-- A failing event trigger would break every user's DDL, so this one ends quietly when there is nothing to keep up to date.
CREATE OR REPLACE FUNCTION bdr.internal_publish_new_tables()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM bdr.internal_sync_publication();
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'bdr_publish_new_tables') THEN
        CREATE EVENT TRIGGER bdr_publish_new_tables ON ddl_command_end
            WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE SCHEMA')
            EXECUTE FUNCTION bdr.internal_publish_new_tables();
        -- What a peer's command makes counts as well.
        ALTER EVENT TRIGGER bdr_publish_new_tables ENABLE ALWAYS;
    END IF;
END
$$;

-- DROP EXTENSION and DROP SCHEMA while active are refused by an event trigger that is no member of the extension: a member
-- would be gone before it could fire. It lives from create or join to remove.
CREATE OR REPLACE FUNCTION bdr.internal_make_guard()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DROP EVENT TRIGGER IF EXISTS bdr_guard;
    DROP SCHEMA IF EXISTS bdr_guard CASCADE;
    CREATE SCHEMA bdr_guard;
    EXECUTE $make$
        CREATE FUNCTION bdr_guard.refuse_drop()
        RETURNS event_trigger
        LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp
        AS $guard$
        BEGIN
            IF EXISTS (
                SELECT FROM pg_event_trigger_dropped_objects() AS o
                WHERE (o.object_type IN ('extension', 'schema') AND o.object_name = 'bdr')
                   OR (o.object_type = 'table' AND o.schema_name = 'bdr')
            ) THEN
                RAISE EXCEPTION 'Dropping the BDR extension is prohibited while BDR is active'
                    USING ERRCODE = 'object_not_in_prerequisite_state',
                          HINT = 'Part this node with bdr.bdr_part_by_node_names(...) first, or if appropriate use '
                              || 'bdr.remove_bdr_from_local_node(...)';
            END IF;
        END
        $guard$
    $make$;
    CREATE EVENT TRIGGER bdr_guard ON sql_drop EXECUTE FUNCTION bdr_guard.refuse_drop();
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_make_guard() FROM PUBLIC;
