-- Which tables a command needs the global lock for: it names them, or what they depend on, as the agent's parser has read it
-- (src/ddl/lock-strength.ts). The command's own transaction is not seen here: what it has made is on no other node either.

-- Whether a name means one of the session's temporary relations: they come first, but for a path that names their schema, in a place
-- that nobody else can see. Then the lock is taken.
CREATE OR REPLACE FUNCTION bdr.internal_is_temporary_name(schema text, name text, path text[], temporary text[])
RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN schema IS NULL THEN name = ANY (temporary) AND NOT EXISTS (SELECT FROM unnest(path) AS s WHERE s LIKE E'pg\\_temp\\_%')
        ELSE schema = 'pg_temp' OR schema LIKE E'pg\\_temp\\_%'
    END
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_temporary_name(text, text, text[], text[]) FROM PUBLIC;

-- A relation by its name in a command; NULL where there is none, or where it is a temporary one. `locked`: what the command's transaction
-- has locked, under the names that these have in it, NULL for what it has dropped. What it has made is found, and is in no catalog here.
CREATE OR REPLACE FUNCTION bdr.internal_named_relation(schema text, name text, path text[], temporary text[], locked jsonb)
RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH own AS (
        SELECT o.oid, o.schema AS nspname, o.name AS relname FROM jsonb_to_recordset($5) AS o (oid oid, schema text, name text)
    ), candidate AS (
        SELECT o.oid, o.nspname FROM own AS o WHERE o.relname = $2
        UNION ALL
        SELECT c.oid, n.nspname::text
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relname = $2 AND c.oid NOT IN (SELECT o.oid FROM own AS o)
    )
    SELECT c.oid
    FROM unnest(CASE WHEN $1 IS NULL THEN $3 ELSE ARRAY[$1] END) WITH ORDINALITY AS p (nspname, place)
    JOIN candidate AS c ON c.nspname = p.nspname
    WHERE NOT bdr.internal_is_temporary_name($1, $2, $3, $4)
    ORDER BY p.place
    LIMIT 1
$$;
REVOKE ALL ON FUNCTION bdr.internal_named_relation(text, text, text[], text[], jsonb) FROM PUBLIC;

-- Whether all that a command is about is only here: temporary, unlogged, or part of bdr itself. `unsure`: names of temporary and
-- unlogged relations that may be there or not when the command runs; they count where there is no other of the name.
CREATE OR REPLACE FUNCTION bdr.internal_is_about_local(about jsonb, path text[], temporary text[], unsure text[], locked jsonb)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(bool_and(
        bdr.internal_is_temporary_name(a.schema, a.name, $2, $3)
        OR coalesce(a.schema IN ('bdr', 'bdr_guard'), false)
        OR (a.name = ANY ($4) AND f.oid IS NULL)
        OR EXISTS (SELECT FROM pg_class AS c WHERE c.oid = f.oid AND c.relpersistence <> 'p')
    ), false)
    FROM jsonb_to_recordset($1) AS a (schema text, name text)
    CROSS JOIN LATERAL bdr.internal_named_relation(a.schema, a.name, $2, $3, $5) AS f (oid)
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_about_local(jsonb, text[], text[], text[], jsonb) FROM PUBLIC;

-- Whether a command that is to do nothing where something is there, or is not there, has nothing to do.
CREATE OR REPLACE FUNCTION bdr.internal_are_all(kind text, names jsonb, present boolean, path text[], temporary text[], locked jsonb)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(bool_and($3 = CASE $1
        WHEN 'relation' THEN bdr.internal_named_relation(a.schema, a.name, $4, $5, $6) IS NOT NULL
        WHEN 'schema' THEN EXISTS (SELECT FROM pg_namespace AS n WHERE n.nspname = a.name)
        WHEN 'extension' THEN EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = a.name)
    END), false)
    FROM jsonb_to_recordset($2) AS a (schema text, name text)
$$;
REVOKE ALL ON FUNCTION bdr.internal_are_all(text, jsonb, boolean, text[], text[], jsonb) FROM PUBLIC;

-- What a target names, to begin with: a table, or an object (`is_deep`) all of whose dependents are meant; with the tables at the other
-- ends of their foreign keys (`is_around`). `is_allowed`: the role may do to it what needs the lock, as the server will find later; else
-- anybody could hold up others' tables on all nodes.
CREATE OR REPLACE FUNCTION bdr.internal_lock_seeds(
    targets jsonb, path text[], temporary text[], locked jsonb, role text,
    OUT classid oid, OUT objid oid, OUT is_deep boolean, OUT is_around boolean, OUT is_allowed boolean
)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH target AS (
        SELECT t.kind, t.class, t."right", t."on" ->> 'schema' AS schema, t."on" ->> 'name' AS name,
               coalesce(t."isAround", false) AS is_around, t.columns, t.type
        FROM jsonb_to_recordset(targets)
            AS t (kind text, class text, "right" text, "on" jsonb, "isAround" boolean, columns jsonb, type jsonb)
        WHERE t.kind <> 'everything'
    ), named AS (
        SELECT t.*, p.nspname, p.place
        FROM target AS t
        CROSS JOIN LATERAL unnest(CASE WHEN t.schema IS NULL THEN path || 'pg_catalog'::text ELSE ARRAY[t.schema] END)
            WITH ORDINALITY AS p (nspname, place)
    ), found AS (
        SELECT t.*, 'pg_class'::regclass::oid AS classid,
               CASE WHEN t.kind IN ('index', 'unique_index') THEN i.indrelid ELSE c.oid END AS objid,
               c.relowner AS owner, c.relnamespace AS namespace
        FROM target AS t
        JOIN pg_class AS c ON c.oid = bdr.internal_named_relation(t.schema, t.name, path, temporary, locked)
        LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
        LEFT JOIN pg_partitioned_table AS p ON p.partrelid = c.oid
        WHERE CASE t.kind
            WHEN 'table' THEN c.relkind IN ('r', 'p')
            WHEN 'default_partition' THEN p.partdefid <> 0
            WHEN 'index' THEN i.indexrelid IS NOT NULL
            WHEN 'unique_index' THEN i.indisunique
            WHEN 'long_columns' THEN EXISTS (
                SELECT FROM pg_attribute AS a
                WHERE a.attrelid = c.oid AND t.columns ? a.attname::text AND a.attlen < 0
            )
            WHEN 'domain' THEN EXISTS (
                SELECT FROM pg_type AS y
                JOIN pg_namespace AS n ON n.oid = y.typnamespace
                WHERE y.typname = t.type ->> 'name' AND y.typtype = 'd'
                  AND n.nspname = ANY (CASE WHEN t.type ->> 'schema' IS NULL THEN path ELSE ARRAY[t.type ->> 'schema'] END)
            )
            ELSE t.class = 'relation'
        END
        UNION ALL
        (
            SELECT DISTINCT ON (t.schema, t.name)
                   t.kind, t.class, t."right", t.schema, t.name, t.is_around, t.columns, t.type, 'pg_type'::regclass, y.oid, y.typowner, y.typnamespace
            FROM named AS t
            JOIN pg_namespace AS n ON n.nspname = t.nspname
            JOIN pg_type AS y ON y.typnamespace = n.oid AND y.typname = t.name
            WHERE t.class = 'type'
            ORDER BY t.schema, t.name, t.place
        )
        UNION ALL
        -- All of the name: which of them it is their arguments would tell.
        SELECT t.kind, t.class, t."right", t.schema, t.name, t.is_around, t.columns, t.type, 'pg_proc'::regclass, f.oid, f.proowner, f.pronamespace
        FROM named AS t
        JOIN pg_namespace AS n ON n.nspname = t.nspname
        JOIN pg_proc AS f ON f.pronamespace = n.oid AND f.proname = t.name
        WHERE t.class = 'routine'
        UNION ALL
        SELECT t.*, 'pg_namespace'::regclass, n.oid, n.nspowner, NULL
        FROM target AS t JOIN pg_namespace AS n ON n.nspname = t.name WHERE t.class = 'schema'
        UNION ALL
        SELECT t.*, 'pg_extension'::regclass, e.oid, e.extowner, NULL
        FROM target AS t JOIN pg_extension AS e ON e.extname = t.name WHERE t.class = 'extension'
        UNION ALL
        SELECT t.*, d.classid, d.objid, r.oid, NULL
        FROM target AS t
        JOIN pg_roles AS r ON r.rolname = t.name
        JOIN pg_shdepend AS d ON d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'o'
        JOIN pg_database AS b ON b.oid = d.dbid AND b.datname = current_database()
        WHERE t.class = 'role'
    )
    -- A role that is not there yet, as others see it, may do nothing.
    SELECT f.classid, f.objid, f.kind = 'dependents', f.is_around, coalesce(
        who.rolsuper
            OR pg_has_role(who.oid, f.owner, 'USAGE')
            OR pg_has_role(who.oid, (SELECT n.nspowner FROM pg_namespace AS n WHERE n.oid = f.namespace), 'USAGE')
            OR (f."right" = 'references' AND has_any_column_privilege(who.oid, f.objid, 'REFERENCES'))
            OR (f."right" = 'trigger' AND has_table_privilege(who.oid, f.objid, 'TRIGGER')),
        false
    )
    FROM found AS f
    LEFT JOIN pg_roles AS who ON who.rolname = role
$$;
REVOKE ALL ON FUNCTION bdr.internal_lock_seeds(jsonb, text[], text[], jsonb, text) FROM PUBLIC;

-- The tables of a write lock, with all below them. A row without a table says that not everything is allowed.
CREATE OR REPLACE FUNCTION bdr.internal_lock_targets(
    targets jsonb, path text[], temporary text[], locked jsonb, role text,
    OUT schema name, OUT name name, OUT is_locked boolean
)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE seed AS MATERIALIZED (
        SELECT s.* FROM bdr.internal_lock_seeds(targets, path, temporary, locked, role) AS s
    ), reached AS (
        SELECT s.classid, s.objid, s.is_around FROM seed AS s WHERE s.is_deep
        UNION
        SELECT d.classid, d.objid, r.is_around
        FROM reached AS r
        JOIN pg_depend AS d ON d.refclassid = r.classid AND d.refobjid = r.objid
    ), named AS (
        SELECT s.objid AS oid, s.is_around FROM seed AS s WHERE NOT s.is_deep
        UNION
        SELECT CASE r.classid
            WHEN 'pg_class'::regclass THEN coalesce((SELECT i.indrelid FROM pg_index AS i WHERE i.indexrelid = r.objid), r.objid)
            WHEN 'pg_constraint'::regclass THEN (SELECT k.conrelid FROM pg_constraint AS k WHERE k.oid = r.objid)
            WHEN 'pg_attrdef'::regclass THEN (SELECT a.adrelid FROM pg_attrdef AS a WHERE a.oid = r.objid)
            WHEN 'pg_trigger'::regclass THEN (SELECT g.tgrelid FROM pg_trigger AS g WHERE g.oid = r.objid)
            WHEN 'pg_policy'::regclass THEN (SELECT p.polrelid FROM pg_policy AS p WHERE p.oid = r.objid)
            WHEN 'pg_rewrite'::regclass THEN (SELECT w.ev_class FROM pg_rewrite AS w WHERE w.oid = r.objid)
        END, r.is_around
        FROM reached AS r
    ), ends AS (
        SELECT n.oid FROM named AS n
        UNION
        SELECT CASE k.conrelid WHEN n.oid THEN k.confrelid ELSE k.conrelid END
        FROM named AS n
        JOIN pg_constraint AS k ON k.contype = 'f' AND n.oid IN (k.conrelid, k.confrelid)
        WHERE n.is_around
    ), tables AS (
        SELECT e.oid FROM ends AS e
        UNION
        SELECT i.inhrelid FROM pg_inherits AS i JOIN tables AS t ON i.inhparent = t.oid
    )
    SELECT n.nspname, c.relname, c.oid IN (SELECT o.oid FROM jsonb_to_recordset(locked) AS o (oid oid))
    FROM tables AS t
    JOIN pg_class AS c ON c.oid = t.oid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'bdr', 'bdr_guard')
    UNION ALL
    SELECT NULL, NULL, NULL
    WHERE EXISTS (SELECT FROM seed AS s WHERE NOT s.is_allowed)
       OR (
           EXISTS (SELECT FROM jsonb_array_elements(targets) AS t WHERE t ->> 'kind' = 'everything')
           AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = role AND r.rolsuper)
       )
$$;
REVOKE ALL ON FUNCTION bdr.internal_lock_targets(jsonb, text[], text[], jsonb, text) FROM PUBLIC;
