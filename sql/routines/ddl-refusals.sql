-- What of definitions is not replicated (ddl.sql), and what is refused because the nodes would differ afterwards.

-- What is not replicated --------------------------------------------------------------------------------------------------

-- Whether what an object is part of is temporary or unlogged, and so only here; gates come and go on each node by themselves.
CREATE OR REPLACE FUNCTION bdr.internal_is_local_object(class oid, object oid)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_class AS c
        WHERE c.relpersistence <> 'p'
          AND c.oid = CASE class
              WHEN 'pg_class'::regclass THEN object
              WHEN 'pg_trigger'::regclass THEN (SELECT t.tgrelid FROM pg_trigger AS t WHERE t.oid = object)
              WHEN 'pg_policy'::regclass THEN (SELECT p.polrelid FROM pg_policy AS p WHERE p.oid = object)
              WHEN 'pg_rewrite'::regclass THEN (SELECT r.ev_class FROM pg_rewrite AS r WHERE r.oid = object)
              WHEN 'pg_attrdef'::regclass THEN (SELECT d.adrelid FROM pg_attrdef AS d WHERE d.oid = object)
              WHEN 'pg_constraint'::regclass THEN (SELECT k.conrelid FROM pg_constraint AS k WHERE k.oid = object)
              WHEN 'pg_statistic_ext'::regclass THEN (SELECT s.stxrelid FROM pg_statistic_ext AS s WHERE s.oid = object)
          END
    ) OR EXISTS (
        SELECT FROM pg_trigger AS t WHERE class = 'pg_trigger'::regclass AND t.oid = object AND starts_with(t.tgname, 'bdr_gate_')
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_local_object(oid, oid) FROM PUBLIC;

-- Commands that concern one server only, or that peers' own copies of this would do a second time.
CREATE OR REPLACE FUNCTION bdr.internal_is_local_command(tag text)
RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tag ~ '^(CREATE|ALTER|DROP) (PUBLICATION|SUBSCRIPTION|USER MAPPING|EVENT TRIGGER)$' OR tag IN ('REINDEX', 'SECURITY LABEL')
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_local_command(text) FROM PUBLIC;

-- As in BDR: what would be replicated cannot come from a node that users may only read.
CREATE OR REPLACE FUNCTION bdr.internal_refuse_read_only(tag text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF bdr.internal_is_read_only() THEN
        RAISE EXCEPTION 'Cannot run % on read-only BDR node.', tag USING ERRCODE = 'read_only_sql_transaction';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_read_only(text) FROM PUBLIC;

-- What is refused because the nodes would differ afterwards ---------------------------------------------------------------

-- Whether a constraint keeps rows out that have another key: of exclusion, or a key WITHOUT OVERLAPS, from 18 on.
CREATE OR REPLACE FUNCTION bdr.internal_excludes_rows(k pg_catalog.pg_constraint)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT k.contype = 'x' OR (k.contype IN ('p', 'u') AND coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false)) $$;
REVOKE ALL ON FUNCTION bdr.internal_excludes_rows(pg_catalog.pg_constraint) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_refuse_exclusion(relation oid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bad record;
BEGIN
    SELECT k.conrelid::regclass AS "table", k.conname, CASE k.contype WHEN 'x' THEN 'EXCLUDE' ELSE 'WITHOUT OVERLAPS' END AS kind
    INTO bad
    FROM pg_constraint AS k
    WHERE k.conrelid = relation AND bdr.internal_excludes_rows(k)
      -- Made by this transaction: one that a superuser has permitted does not hold up what comes later.
      AND age(k.xmin) <= 0
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% constraints are unsafe with BDR active', bad.kind
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('Table %s has constraint %I.', bad."table", bad.conname),
                  HINT = 'Nodes that accept rows at the same time cannot keep them from excluding each other. A superuser may SET '
                      || 'bdr.permit_unsafe_ddl_commands = on.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_exclusion(oid) FROM PUBLIC;

-- In the tables that the command has locked: partitions get keys by that of the table above, or when they are attached.
CREATE OR REPLACE FUNCTION bdr.internal_refuse_generated_keys()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bad record;
BEGIN
    SELECT c.oid::regclass AS "table", k.name AS "column" INTO bad
    FROM bdr.internal_own_strong_locks() AS l
    JOIN pg_class AS c ON c.oid = l AND c.relkind = 'r' AND c.relpersistence = 'p'
    CROSS JOIN LATERAL bdr.internal_generated_key_column(c.oid) AS k (name)
    WHERE k.name IS NOT NULL
      -- Made by this transaction: one that a superuser has permitted does not hold up what comes later.
      AND (age(c.xmin) <= 0 OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND age(i.xmin) <= 0))
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'generated columns in a key are unsafe with BDR active'
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('The rows of table %s would be told apart by generated column %I, which is not sent.', bad."table", bad."column"),
                  HINT = 'Make it an ordinary column that a trigger fills, or choose another PRIMARY KEY or REPLICA IDENTITY. A superuser '
                      || 'may SET bdr.permit_unsafe_ddl_commands = on.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_generated_keys() FROM PUBLIC;

-- Whether an expression, as the catalogs hold it, may have another value each time: it calls such a function, or one with a default
-- argument that does, or takes a number of a sequence. `stable_too`: or within another transaction.
CREATE OR REPLACE FUNCTION bdr.internal_is_changing(expression pg_node_tree, stable_too boolean)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT expression::text ~ E'\\{NEXTVALUEEXPR '
        OR (stable_too AND expression::text ~ E'\\{(SQLVALUEFUNCTION|COERCEVIAIO) ')
        OR EXISTS (
            SELECT FROM regexp_matches(expression::text, ':(?:funcid|opfuncid) ([0-9]+)', 'g') AS called (ids)
            JOIN pg_proc AS p ON p.oid = called.ids[1]::oid
            -- Default arguments are put in where the expression is planned: here they may have been used or not.
            LEFT JOIN regexp_matches(p.proargdefaults::text, ':(?:funcid|opfuncid) ([0-9]+)', 'g') AS argument (ids) ON true
            LEFT JOIN pg_proc AS inner_p ON inner_p.oid = argument.ids[1]::oid
            WHERE 'v' IN (p.provolatile, inner_p.provolatile) OR (stable_too AND 's' IN (p.provolatile, inner_p.provolatile))
               OR p.proargdefaults::text ~ E'\\{NEXTVALUEEXPR '
               OR (stable_too AND p.proargdefaults::text ~ E'\\{(SQLVALUEFUNCTION|COERCEVIAIO) ')
        )
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_changing(pg_node_tree, boolean) FROM PUBLIC;

-- What a column gets where nothing is said: its default, or its domain's. NULL for none.
CREATE OR REPLACE FUNCTION bdr.internal_default_of(relation oid, number smallint)
RETURNS pg_node_tree
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(d.adbin, CASE WHEN t.typtype = 'd' THEN t.typdefaultbin END)
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = relation AND a.attnum = number
$$;
REVOKE ALL ON FUNCTION bdr.internal_default_of(oid, smallint) FROM PUBLIC;

-- What a command has made or changed, and refers to an unlogged table, other nodes could not make: they do not have that table.
CREATE OR REPLACE FUNCTION bdr.internal_refuse_unlogged_reference(made oid[], classes oid[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reference record;
BEGIN
    WITH objects AS (
        SELECT * FROM unnest(classes, made) AS m (class, object)
        UNION
        SELECT 'pg_rewrite'::regclass, r.oid
        FROM pg_rewrite AS r
        WHERE r.ev_class = ANY (made)
        UNION
        SELECT 'pg_attrdef'::regclass, d.oid
        FROM pg_attrdef AS d
        WHERE d.adrelid = ANY (made)
    ),
    referred AS (
        SELECT o.class, o.object, CASE d.refclassid
            WHEN 'pg_class'::regclass THEN d.refobjid
            -- Its row type, or an array of that.
            WHEN 'pg_type'::regclass THEN (
                SELECT greatest(t.typrelid, element.typrelid)
                FROM pg_type AS t
                LEFT JOIN pg_type AS element ON element.oid = t.typelem
                WHERE t.oid = d.refobjid
            )
        END AS relation
        FROM objects AS o
        JOIN pg_depend AS d ON (d.classid, d.objid) = (o.class, o.object)
        -- Made by this transaction: what is there on all nodes already, made by hand, does not hold up what comes later.
        WHERE age(d.xmin) <= 0
        UNION ALL
        SELECT 'pg_class'::regclass, i.inhparent, i.inhrelid
        FROM pg_inherits AS i
        WHERE i.inhparent = ANY (made) AND age(i.xmin) <= 0
    )
    SELECT pg_describe_object(r.class, r.object, 0) AS object, c.oid::regclass AS "table" INTO reference
    FROM referred AS r
    JOIN pg_class AS c ON c.oid = r.relation AND c.relpersistence = 'u'
    -- What is itself unlogged, or belongs to what is, stays here with it. Before 15 the sequence of its own column is a permanent one.
    WHERE NOT bdr.internal_is_local_object(r.class, r.object) AND c.oid <> ALL (made)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% would refer to unlogged table %, which is on this node only', reference.object, reference."table"
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Make the table a permanent one. Or a superuser makes both on each node, with SET bdr.skip_ddl_replication = on.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_unlogged_reference(oid[], oid[]) FROM PUBLIC;

-- CREATE TABLE (LIKE ...) leaves no trace of what it was like, so this goes by the text: other nodes do not have that table, or have another
-- one of its name. Not seen: a name with a comment before it, or behind a semicolon within the command.
CREATE OR REPLACE FUNCTION bdr.internal_refuse_local_like(command text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    identifier CONSTANT text := E'(?:"(?:[^"]|"")+"|[[:alpha:]_][\\w$]*)';
    schemas name[] := current_setting('bdr.command_schemas');
    "like" regclass;
BEGIN
    -- A long text is not split again for each of its commands where there is nothing to find.
    IF NOT EXISTS (
        SELECT FROM pg_class AS c WHERE c.relpersistence = 'u' OR c.relnamespace = pg_my_temp_schema()
    ) THEN
        RETURN;
    END IF;
    SELECT f.oid INTO "like"
    FROM regexp_split_to_table(command, ';') AS piece
    CROSS JOIN LATERAL regexp_matches(
        piece, concat(E'[(,]\\s*LIKE\\s+(', identifier, E'(?:\\s*\\.\\s*', identifier, ')?)'), 'gi'
    ) AS l (name)
    CROSS JOIN LATERAL parse_ident(l.name[1]) AS i (parts)
    -- As the server finds it: temporary tables first, unless the path says otherwise.
    CROSS JOIN LATERAL (
        SELECT c.oid, c.relpersistence
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relname = i.parts[cardinality(i.parts)]
          AND CASE
              WHEN cardinality(i.parts) = 1 THEN n.nspname = ANY (schemas) OR n.oid = pg_my_temp_schema()
              WHEN i.parts[1] = 'pg_temp' THEN n.oid = pg_my_temp_schema()
              ELSE n.nspname = i.parts[1]
          END
        ORDER BY coalesce(array_position(schemas, n.nspname), 0)
        LIMIT 1
    ) AS f
    WHERE piece ~* E'\\mCREATE\\s+TABLE\\s' AND f.relpersistence <> 'p'
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'CREATE TABLE ... LIKE would copy from table %, which is on this node only', "like"
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Name the columns, or CREATE TABLE ... AS TABLE ... WITH NO DATA.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_local_like(text) FROM PUBLIC;

-- What in the USING of an ALTER TABLE ... ALTER COLUMN ... TYPE may give other values on another node, NULL for nothing: it is in no
-- catalog, so this goes by the text. That is a volatile function; one that says something of the moment, the session or the node; or a
-- system column. Not seen: a function that is called in another way, as operators and casts do.
CREATE OR REPLACE FUNCTION bdr.internal_changing_in_using(command text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH tokens AS (
        -- Of a call stack the statement alone. What is matched and not kept: comments and strings.
        SELECT m.part[1] AS token, m.n
        FROM regexp_replace(command, E'^SQL statement "(.*?)"\\n(?:PL/pgSQL|SQL) .*$', E'\\1') AS statement
        CROSS JOIN LATERAL regexp_matches(
            statement,
            concat_ws('|',
                E'--[^\\n]*',
                E'/\\*(?:[^*]|\\*+[^*/])*\\*+/',
                E'''(?:[^'']|'''')*''',
                E'[eE]''(?:[^''\\\\]|''''|\\\\.)*''',
                E'("(?:[^"]|"")+"|[[:alpha:]_][\\w$]*|[][(),;])'
            ),
            'g'
        ) WITH ORDINALITY AS m (part, n)
        WHERE m.part[1] IS NOT NULL
    ),
    statements AS (
        SELECT t.token, t.n, lead(t.token) OVER (ORDER BY t.n) AS next,
               count(*) FILTER (WHERE t.token = ';') OVER (ORDER BY t.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS statement
        FROM tokens AS t
    ),
    nested AS (
        SELECT s.*,
               sum(CASE WHEN s.token IN ('(', '[') THEN 1 WHEN s.token IN (')', ']') THEN -1 ELSE 0 END) OVER w AS depth,
               lower(concat(nth_value(s.token, 1) OVER w, ' ', nth_value(s.token, 2) OVER w)) AS verb
        FROM statements AS s
        WINDOW w AS (PARTITION BY s.statement ORDER BY s.n)
    ),
    parts AS (
        SELECT n.*, count(*) FILTER (WHERE n.token = ',' AND n.depth = 0) OVER (PARTITION BY n.statement ORDER BY n.n) AS part
        FROM nested AS n
    ),
    expressions AS (
        SELECT u.statement, u.part, min(u.n) AS begins
        FROM parts AS u
        JOIN parts AS t ON (t.statement, t.part, t.depth) = (u.statement, u.part, 0) AND t.n < u.n AND lower(t.token) = 'type'
        WHERE lower(u.token) = 'using' AND u.depth = 0 AND u.verb = 'alter table'
        GROUP BY u.statement, u.part
    )
    SELECT min(p.token)
    FROM expressions AS e
    JOIN parts AS p ON (p.statement, p.part) = (e.statement, e.part) AND p.n > e.begins
    WHERE lower(p.token) IN (
            'current_catalog', 'current_date', 'current_role', 'current_schema', 'current_time', 'current_timestamp', 'current_user',
            'localtime', 'localtimestamp', 'session_user', 'system_user', 'user', 'cmax', 'cmin', 'ctid', 'tableoid', 'xmax', 'xmin'
        )
       OR (
            p.next = '('
            AND EXISTS (
                SELECT FROM pg_proc AS f
                WHERE f.proname = CASE WHEN p.token LIKE '"%' THEN replace(substr(p.token, 2, length(p.token) - 2), '""', '"') ELSE lower(p.token) END
                  AND (
                      f.provolatile = 'v'
                      -- Without arguments: there is nothing else that it could depend on.
                      OR (f.provolatile = 's' AND f.pronargs = 0)
                      OR (f.pronamespace = 'pg_catalog'::regnamespace AND f.proname IN ('age', 'current_setting'))
                  )
            )
        )
$$;
REVOKE ALL ON FUNCTION bdr.internal_changing_in_using(text) FROM PUBLIC;

-- A table is about to be written anew. `columns` are those that it had before the command.
CREATE OR REPLACE FUNCTION bdr.internal_refuse_rewrite(role text, relation oid, reasons integer, columns smallint[])
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- The words of PG_CONTEXT.
SET lc_messages = 'C'
AS $$
DECLARE
    stack text;
    caller text;
    is_logged boolean := (SELECT c.relpersistence = 'p' FROM pg_class AS c WHERE c.oid = relation);
    changing text;
    is_by_row boolean;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    caller := bdr.internal_called_from(stack, E'PL/pgSQL function bdr\\.internal_rewrite_begins\\(\\)');
    IF NOT bdr.internal_captures_commands()
       OR bdr.internal_superuser_setting('bdr.skip_ddl_replication', role)
       OR bdr.internal_superuser_setting('bdr.permit_unsafe_ddl_commands', role)
    THEN
        RETURN false;
    END IF;
    -- Reason 1: its persistence.
    IF reasons & 1 <> 0 AND NOT is_logged THEN
        RAISE EXCEPTION 'ALTER TABLE ... SET LOGGED is not supported when bdr is active'
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('The rows of unlogged table %s are on this node only.', relation::regclass),
                  HINT = 'CREATE TABLE another one, and INSERT the rows there.';
    END IF;
    -- By its size: planning a query of the table could run its owner's code, with the rights that this function has.
    IF NOT is_logged OR pg_relation_size(relation) = 0 THEN
        RETURN false;
    END IF;
    -- Reason 4: a column has another type.
    changing := CASE WHEN reasons & 4 <> 0 THEN bdr.internal_changing_in_using(bdr.internal_text_of_command(caller)) END;
    IF changing IS NOT NULL THEN
        RAISE EXCEPTION 'ALTER TABLE ... ALTER COLUMN ... TYPE ... USING % would give other values on each node', changing
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('Each node computes the values of the rows of table %s for itself.', relation::regclass),
                  HINT = 'ADD COLUMN of the new type, UPDATE the rows, DROP the old column and RENAME the new one. Or use functions that are STABLE or IMMUTABLE.';
    END IF;
    -- Values of columns that are new. What is the same for all rows, now() for one, is sent along unless the table is written anew.
    SELECT string_agg(quote_ident(a.attname), ', '), bool_or(a.attidentity <> '' OR bdr.internal_is_changing(d.expression, false))
    INTO changing, is_by_row
    FROM pg_attribute AS a
    CROSS JOIN bdr.internal_default_of(a.attrelid, a.attnum) AS d (expression)
    WHERE a.attrelid = relation AND a.attnum > 0 AND a.attnum <> ALL (columns) AND NOT a.attisdropped AND a.attgenerated = ''
      AND (a.attidentity <> '' OR bdr.internal_is_changing(d.expression, true));
    IF changing IS NOT NULL THEN
        RAISE EXCEPTION 'ALTER TABLE ... ADD COLUMN ... DEFAULT may only affect UNLOGGED or TEMPORARY tables when BDR is active; % is a regular table',
                relation::regclass
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('Each node would give other values to the rows that there are, in column %s.', changing),
                  HINT = CASE
                      WHEN is_by_row THEN
                          'ADD COLUMN without the default, then ALTER COLUMN ... SET DEFAULT, then UPDATE the rows, then SET NOT NULL; for an identity, ALTER COLUMN ... ADD GENERATED last.'
                      ELSE 'Add it by an ALTER TABLE of its own, which need not write the table anew.'
                  END;
    END IF;
    RETURN true;
END
$$;

-- STABLE, so that it sees the table as it was before the command.
CREATE OR REPLACE FUNCTION bdr.internal_rewrite_begins()
RETURNS event_trigger
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $$
DECLARE
    relation oid := pg_event_trigger_table_rewrite_oid();
    columns smallint[] := ARRAY(SELECT a.attnum FROM pg_attribute AS a WHERE a.attrelid = relation);
    looked boolean;
BEGIN
    looked := bdr.internal_refuse_rewrite(current_user, relation, pg_event_trigger_table_rewrite_reason(), columns);
END
$$;
