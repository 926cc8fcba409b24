-- DETACH PARTITION CONCURRENTLY leaves a CHECK constraint of the partition's bounds on what it detaches, unless others imply it. DETACH
-- PARTITION, which peers run in its place, leaves none: without it one node would take rows that stop the links of others. Only the server knows
-- what is implied, so peers make the constraint always.

-- What a command's name of a relation means here, in the path that it was run with; NULL for none.
CREATE OR REPLACE FUNCTION bdr.internal_relation_named(name text, search_path text, perpetrator text)
RETURNS oid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM set_config('search_path', replace(search_path, '"$user"', quote_ident(perpetrator)), true);
    -- A role passes over schemas that it may not use.
    PERFORM pg_catalog.set_config('search_path', coalesce(pg_catalog.string_agg(pg_catalog.quote_ident(s.name), ', ' ORDER BY s.n), ''), true)
    FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS s (name, n)
    WHERE pg_catalog.has_schema_privilege(perpetrator, s.name, 'USAGE');
    RETURN pg_catalog.to_regclass(name);
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_relation_named(text, text, text) FROM PUBLIC;

-- The command that makes it, with its owner; NULL where the server makes none. `partition` is as the command names it.
CREATE OR REPLACE FUNCTION bdr.internal_bounds_check(
    partition text, search_path text, perpetrator text, OUT owner text, OUT command text
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    detached oid;
BEGIN
    detached := bdr.internal_relation_named(partition, search_path, perpetrator);
    SELECT pg_get_userbyid(c.relowner),
           format('ALTER TABLE %I.%I ADD CHECK (%s)', n.nspname, c.relname, pg_get_partition_constraintdef(c.oid))
    INTO owner, command
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_inherits AS i ON i.inhrelid = c.oid
    JOIN pg_partitioned_table AS p ON p.partrelid = i.inhparent
    WHERE c.oid = detached AND p.partstrat <> 'h' AND pg_get_partition_constraintdef(c.oid) IS NOT NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_bounds_check(text, text, text) FROM PUBLIC;
