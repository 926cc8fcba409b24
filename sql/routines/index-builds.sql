-- Indexes that a peer's users have built CONCURRENTLY are built so here too, beside the links: apply notes the command as it arrives, and
-- the agent runs it in a session of its own (src/node/index-builder.ts). All later commands of peers wait, because any of them may
-- need the index, or take away what it is for; rows do not.

-- Notes the command; false where it is to run in its place. Only a function could run it with the rights of an ordinary role and no
-- others, and no function can run it: what it computes before it has a table to build on, of constants in expressions, would run
-- with the rights of the session. `is_plain`: there are no expressions.
CREATE OR REPLACE FUNCTION bdr.internal_put_off_index(
    perpetrator text, command text, search_path text, settings jsonb, "table" text, index text, is_plain boolean
)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = perpetrator AND (r.rolsuper OR is_plain)) THEN
        RETURN false;
    END IF;
    INSERT INTO bdr.index_build (perpetrator, command, search_path, settings, table_name, index_name, relation)
    VALUES (
        perpetrator, command, search_path, settings, "table", index,
        bdr.internal_relation_named("table", search_path, perpetrator)
    );
    NOTIFY bdr;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_put_off_index(text, text, text, jsonb, text, text, boolean) FROM PUBLIC;

-- What this node's own users may not do meanwhile ------------------------------------------------------------------------

-- The index is still built by the command as it arrived, and by then it must mean what it meant: the same table, its columns, their names.
-- Peers' commands wait for it; a wait here would be one for each other, because the server's build waits for old snapshots.

CREATE OR REPLACE FUNCTION bdr.internal_refuse_while_unbuilt(tag text, unbuilt bdr.index_build)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'cannot run % while index % of table % is still to be built on this node',
            tag, quote_ident(unbuilt.index_name), unbuilt.relation::regclass
        USING ERRCODE = 'object_in_use',
              DETAIL = coalesce('The last try failed: ' || unbuilt.error, 'Another node has built it concurrently.'),
              HINT = 'Run it on a node that has the index, or here once bdr.index_build has no row of it.';
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_while_unbuilt(text, bdr.index_build) FROM PUBLIC;

-- At the end of a command.
CREATE OR REPLACE FUNCTION bdr.internal_check_unbuilt(tag text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unbuilt bdr.index_build;
BEGIN
    SELECT b.* INTO unbuilt
    FROM bdr.index_build AS b
    JOIN pg_class AS t ON t.oid = b.relation
    CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT FROM pg_index AS i
            JOIN pg_class AS c ON c.oid = i.indexrelid
            WHERE i.indrelid = t.oid AND c.relname = b.index_name AND i.indisvalid
        )
    ) AS x (is_built)
    CROSS JOIN pg_event_trigger_ddl_commands() AS d
    LEFT JOIN pg_index AS touched ON d.classid = 'pg_class'::regclass AND touched.indexrelid = d.objid
    LEFT JOIN pg_class AS index ON index.oid = touched.indexrelid
    WHERE CASE
              WHEN tag = 'ALTER SCHEMA' THEN d.classid = 'pg_namespace'::regclass AND d.objid = t.relnamespace AND NOT is_built
              -- What is not valid may have had that name until now.
              WHEN touched.indrelid = t.oid THEN
                  CASE tag WHEN 'CREATE INDEX' THEN index.relname = b.index_name ELSE NOT touched.indisvalid AND NOT is_built END
              -- Partitions get an index of their own for that of the table above, unless they have one that is like it.
              ELSE tag IN ('ALTER TABLE', 'CREATE INDEX') AND d.classid = 'pg_class'::regclass AND NOT is_built
                  AND (
                      d.objid = t.oid
                      OR t.oid IN (SELECT p.relid FROM pg_partition_tree(coalesce(touched.indrelid, d.objid)::regclass) AS p)
                  )
          END
    LIMIT 1;
    IF FOUND THEN
        PERFORM bdr.internal_refuse_while_unbuilt(tag, unbuilt);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_unbuilt(text) FROM PUBLIC;

-- Where something was dropped; a table goes with its indexes.
CREATE OR REPLACE FUNCTION bdr.internal_check_unbuilt_drop(tag text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unbuilt bdr.index_build;
BEGIN
    SELECT b.* INTO unbuilt
    FROM bdr.index_build AS b
    JOIN pg_class AS t ON t.oid = b.relation
    JOIN pg_namespace AS n ON n.oid = t.relnamespace
    JOIN pg_event_trigger_dropped_objects() AS o
      ON o.classid = 'pg_class'::regclass
     AND (o.objid = t.oid OR (o.object_type = 'index' AND o.schema_name = n.nspname AND o.object_name = b.index_name))
    LIMIT 1;
    IF FOUND THEN
        PERFORM bdr.internal_refuse_while_unbuilt(tag, unbuilt);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_unbuilt_drop(text) FROM PUBLIC;
