-- Capture of commands that change definitions, by event triggers (DESIGN 5; docs/concepts/ddl.md). Each command leaves one row in
-- bdr.bdr_queued_commands, in its own transaction and in its place among the rows that are written; peers run it as it arrives.
--
-- The row says who ran the command, so the triggers run with the rights of whoever fires them: a trigger with its owner's rights
-- would not know. Only a superuser writes into the queue, though: what the triggers call to write there makes sure that it is called
-- by them, because everybody may call it.

-- What counts of the settings ---------------------------------------------------------------------------------------------

-- Whether commands that users run here are to be replicated.
CREATE OR REPLACE FUNCTION bdr.internal_captures_commands()
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM bdr.bdr_nodes AS n
        JOIN bdr.bdr_local_node AS l
          ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.node_sysid, l.node_timeline, l.node_dboid)
        -- A copy of the database is no node.
        JOIN bdr.bdr_get_local_nodeid() AS me
          ON (me.sysid, me.timeline, me.dboid) = (l.node_sysid, l.node_timeline, l.node_dboid)
        WHERE n.node_status IN ('c', 'o', 'r')
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_captures_commands() FROM PUBLIC;

-- The value of a boolean setting that counts for superusers only, and for everybody where it is set for the database. Any role can set
-- a parameter that no library defines: where neither the role that runs the command nor the one that is connected is one, it is an
-- error and not passed over.
CREATE OR REPLACE FUNCTION bdr.internal_superuser_setting(setting text, role text)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_on boolean;
BEGIN
    BEGIN
        is_on := coalesce(nullif(current_setting(setting, true), '')::boolean, false);
    EXCEPTION
        WHEN invalid_text_representation THEN
            RAISE EXCEPTION 'parameter "%" requires a Boolean value', setting USING ERRCODE = 'invalid_parameter_value';
    END;
    IF is_on
       AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname IN (role, session_user) AND r.rolsuper)
       AND NOT EXISTS (
           SELECT FROM pg_db_role_setting AS s
           JOIN pg_database AS d ON d.datname = current_database()
           WHERE s.setdatabase IN (0, d.oid) AND s.setrole = 0
             AND format('%s=%s', setting, current_setting(setting)) = ANY (s.setconfig)
       )
    THEN
        RAISE EXCEPTION 'permission denied to set parameter "%"', setting
            USING ERRCODE = 'insufficient_privilege', HINT = format('RESET %s;', setting);
    END IF;
    RETURN is_on;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_superuser_setting(text, text) FROM PUBLIC;

-- Whether a command is queued by the names of what it has dropped.
CREATE OR REPLACE FUNCTION bdr.internal_is_told_by_names(tag text)
RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tag LIKE 'DROP %' AND tag <> 'DROP OWNED' $$;

-- What is below the first line of a call stack, where `frames`, as a pattern, are what has called: NULL for nothing. Functions with their
-- owner's rights that event triggers alone may call go by it; no role can make a function of such a name in schema bdr.
CREATE OR REPLACE FUNCTION bdr.internal_called_from(stack text, frames text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    below text[] := regexp_match(stack, E'^[^\\n]*\\n' || frames || E' [^\\n]*(?:\\n(.*))?$');
BEGIN
    IF below IS NULL THEN
        RAISE EXCEPTION 'this function is called by event triggers only' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN below[1];
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_called_from(text, text) FROM PUBLIC;

-- Which command it is -----------------------------------------------------------------------------------------------------

-- The transaction's virtual id, which it has before it writes anything.
CREATE OR REPLACE FUNCTION bdr.internal_own_transaction()
RETURNS text
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT l.virtualxid FROM pg_locks AS l WHERE l.pid = pg_backend_pid() AND l.locktype = 'virtualxid' AND l.granted $$;
REVOKE ALL ON FUNCTION bdr.internal_own_transaction() FROM PUBLIC;

-- A value that nobody but this file's functions can give a setting: any role may set what no library defines.
CREATE OR REPLACE FUNCTION bdr.internal_session_token(content text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s %s', encode(bdr.internal_hmac_sha256(
        s.secret,
        convert_to(format('%s in transaction %s of %s', content, bdr.internal_own_transaction(), bdr.internal_pg_time(pg_postmaster_start_time())), 'UTF8')
    ), 'hex'), content)
    FROM bdr.message_secret AS s
$$;
REVOKE ALL ON FUNCTION bdr.internal_session_token(text) FROM PUBLIC;

-- How many commands are open whose script makes or alters an extension: what such a script does is part of that command.
CREATE OR REPLACE FUNCTION bdr.internal_extension_depth()
RETURNS integer
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    token text := current_setting('bdr.extension_script', true);
    depth text := substring(token FROM ' extension ([0-9]+)$');
BEGIN
    IF depth IS NULL OR token <> bdr.internal_session_token('extension ' || depth) THEN
        RETURN 0;
    END IF;
    RETURN depth;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_extension_depth() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_set_extension_depth(depth integer)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT set_config('bdr.extension_script', bdr.internal_session_token('extension ' || depth), true) $$;
REVOKE ALL ON FUNCTION bdr.internal_set_extension_depth(integer) FROM PUBLIC;

-- When the text that the session runs was sent, as bdr.command_text holds it.
CREATE OR REPLACE FUNCTION bdr.internal_text_sent_at()
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT bdr.internal_pg_time(statement_timestamp()) $$;
REVOKE ALL ON FUNCTION bdr.internal_text_sent_at() FROM PUBLIC;

-- Of a text all of whose commands are about what is only here, as the agent has found out.
CREATE OR REPLACE FUNCTION bdr.internal_local_text_token(command text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT bdr.internal_session_token(concat_ws(' ', 'local', md5(command), bdr.internal_text_sent_at())) $$;
REVOKE ALL ON FUNCTION bdr.internal_local_text_token(text) FROM PUBLIC;

-- The text that a command is part of, or its call stack where a function has run it. NULL where it is not known: then the command will be
-- refused, unless it is only for this node.
CREATE OR REPLACE FUNCTION bdr.internal_text_of_command(caller text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN caller IS NULL THEN current_query()
        WHEN caller LIKE 'SQL function "%' THEN bdr.internal_sql_function_text(caller)
        WHEN caller LIKE 'SQL statement "%' THEN caller
    END
$$;
REVOKE ALL ON FUNCTION bdr.internal_text_of_command(text) FROM PUBLIC;

-- Whether a text is one command that is certainly for this node only, so that nobody needs to be asked: it makes something temporary, as
-- functions do often, or is about bdr itself.
CREATE OR REPLACE FUNCTION bdr.internal_is_certainly_local(command text, is_context boolean)
RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(
        command ~* concat(
            '^', CASE WHEN is_context THEN 'SQL statement "' END,
            E'\\s*(CREATE\\s+((LOCAL|GLOBAL)\\s+)?TEMP(ORARY)?\\s|(ALTER|DROP)\\s+EXTENSION\\s+(IF\\s+EXISTS\\s+)?"?bdr"?(\\s+(CASCADE|RESTRICT|UPDATE)|\\s*;|\\s*$))'
        )
        AND (is_context AND command !~ ';' OR command !~ E';.*\\S'),
        false
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_certainly_local(text, boolean) FROM PUBLIC;

-- Counts the commands of one text, as far as they fire event triggers and are not run by an extension's script; those that a function has
-- run are counted by themselves (statement-commands.sql).
-- One text has one statement_timestamp(). DROP is not counted, because it is told by the names of what it has dropped; REINDEX is
-- not because some majors fire for it and some do not.
CREATE OR REPLACE FUNCTION bdr.internal_count_text_command()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sent_at bigint := bdr.internal_text_sent_at();
    is_first boolean;
BEGIN
    BEGIN
        is_first := currval('bdr.command_text') <> sent_at;
    EXCEPTION
        WHEN object_not_in_prerequisite_state THEN
            -- Nothing was counted in this session, or it is forgotten.
            IF current_query() ~* E'\\mdiscard(\\s|/\\*.*?\\*/|--[^\n]*\n)+sequences\\M' THEN
                RAISE EXCEPTION 'DISCARD SEQUENCES cannot be sent in one text with commands that are replicated'
                    USING ERRCODE = 'feature_not_supported',
                          HINT = 'Send it by itself.';
            END IF;
            is_first := true;
    END;
    PERFORM setval('bdr.command_text', sent_at);
    PERFORM setval('bdr.command_position', CASE WHEN is_first THEN 1 ELSE currval('bdr.command_position') + 1 END);
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_count_text_command() FROM PUBLIC;

-- In replica mode a command is not captured, but counted: others in one text or one function with it are told from it by their place. Not
-- where the agent runs the command: what it does for peers.
CREATE OR REPLACE FUNCTION bdr.internal_is_applied()
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN bdr.internal_is_replica() AND bdr.internal_is_agent_session(pg_backend_pid());
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_applied() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_begin_command(role text, tag text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- The words of PG_CONTEXT.
SET lc_messages = 'C'
AS $$
DECLARE
    stack text;
    -- What runs the command, if not the session itself.
    caller text;
    command text;
    depth integer;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    caller := bdr.internal_called_from(
        stack,
        E'(?:PL/pgSQL assignment "begun := bdr\\.internal_begin_command\\(current_user, tg_tag\\)"\\n)?'
            || E'PL/pgSQL function bdr\\.internal_command_started\\(\\)'
    );
    IF NOT bdr.internal_captures_commands() OR bdr.internal_is_applied() THEN
        RETURN false;
    END IF;
    depth := bdr.internal_extension_depth();
    IF depth = 0 AND tag <> 'REINDEX' AND NOT bdr.internal_is_told_by_names(tag) THEN
        IF caller IS NULL THEN
            PERFORM bdr.internal_count_text_command();
        ELSE
            PERFORM bdr.internal_count_command(caller);
        END IF;
    END IF;
    command := bdr.internal_text_of_command(caller);
    -- What is not known will be refused, but for what is told by names.
    IF depth = 0 AND NOT bdr.internal_is_replica() AND (command IS NOT NULL OR bdr.internal_is_told_by_names(tag)) AND NOT bdr.internal_is_local_command(tag)
       AND NOT bdr.internal_superuser_setting('bdr.skip_ddl_replication', role)
       AND NOT bdr.internal_is_certainly_local(command, caller IS NOT NULL)
    THEN
        PERFORM bdr.internal_lock_for_command(
            role, command, caller IS NOT NULL, current_setting('bdr.command_schemas')::text[]
        );
    END IF;
    IF tag IN ('CREATE EXTENSION', 'ALTER EXTENSION') THEN
        PERFORM bdr.internal_set_extension_depth(depth + 1);
    END IF;
    RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION bdr.internal_command_started()
RETURNS event_trigger
LANGUAGE plpgsql
-- Both also for its own name in a call stack, which leaves out the schema where that is in the path, and may have quotes.
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $$
DECLARE
    begun boolean;
BEGIN
    begun := bdr.internal_begin_command(current_user, tg_tag);
END
$$;

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

CREATE OR REPLACE FUNCTION bdr.internal_refuse_generated_key(relation oid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bad name := bdr.internal_generated_key_column(relation);
BEGIN
    -- Made by this transaction: one that a superuser has permitted does not hold up what comes later.
    IF bad IS NOT NULL AND EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = relation AND age(i.xmin) <= 0) THEN
        RAISE EXCEPTION 'generated columns in a key are unsafe with BDR active'
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('The rows of table %s would be told apart by generated column %I, which is not sent.', relation::regclass, bad),
                  HINT = 'Make it an ordinary column that a trigger fills, or choose another PRIMARY KEY or REPLICA IDENTITY. A superuser '
                      || 'may SET bdr.permit_unsafe_ddl_commands = on.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_generated_key(oid) FROM PUBLIC;

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

-- CREATE TABLE (LIKE …) leaves no trace of what it was like, so this goes by the text: other nodes do not have that table, or have another
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
        piece, concat(E'\\mLIKE\\s+(', identifier, E'(?:\\s*\\.\\s*', identifier, ')?)'), 'gi'
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

-- A table is about to be written anew. `columns` are those that it had before the command.
CREATE OR REPLACE FUNCTION bdr.internal_refuse_rewrite(role text, relation oid, reasons integer, columns smallint[])
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stack text;
    is_logged boolean := (SELECT c.relpersistence = 'p' FROM pg_class AS c WHERE c.oid = relation);
    changing text;
    is_by_row boolean;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    PERFORM bdr.internal_called_from(stack, E'PL/pgSQL function bdr\\.internal_rewrite_begins\\(\\)');
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
    -- Values of columns that are new. What is the same for all rows, now() for one, is sent along unless the table is written anew.
    SELECT string_agg(quote_ident(a.attname), ', '), bool_or(bdr.internal_is_changing(d.expression, false)) INTO changing, is_by_row
    FROM pg_attribute AS a
    CROSS JOIN bdr.internal_default_of(a.attrelid, a.attnum) AS d (expression)
    WHERE a.attrelid = relation AND a.attnum > 0 AND a.attnum <> ALL (columns) AND NOT a.attisdropped AND a.attgenerated = ''
      AND bdr.internal_is_changing(d.expression, true);
    IF changing IS NULL OR NOT is_logged THEN
        RETURN false;
    END IF;
    -- By its size: planning a query of the table could run its owner's code, with the rights that this function has.
    IF pg_relation_size(relation) > 0 THEN
        RAISE EXCEPTION 'ALTER TABLE ... ADD COLUMN ... DEFAULT may only affect UNLOGGED or TEMPORARY tables when BDR is active; % is a regular table',
                relation::regclass
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('Each node would give other values to the rows that there are, in column %s.', changing),
                  HINT = CASE
                      WHEN is_by_row THEN
                          'ADD COLUMN without the default, then ALTER COLUMN ... SET DEFAULT, then UPDATE the rows, then SET NOT NULL.'
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

-- The queue ---------------------------------------------------------------------------------------------------------------

-- The settings that decide what a command means, search_path aside. Not check_function_bodies: here that was looked at.
CREATE OR REPLACE FUNCTION bdr.internal_command_settings()
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_object_agg(name, current_setting(name))
    FROM unnest(ARRAY[
        'TimeZone', 'DateStyle', 'IntervalStyle', 'lc_monetary', 'extra_float_digits', 'bytea_output', 'xmlbinary', 'xmloption',
        'standard_conforming_strings', 'backslash_quote', 'array_nulls', 'transform_null_equals',
        'default_table_access_method', 'default_toast_compression'
    ]) AS name
$$;
REVOKE ALL ON FUNCTION bdr.internal_command_settings() FROM PUBLIC;

-- Columns that this transaction has added to a table, or to what inherits from it, whose value for the rows that there were was computed
-- at that moment, or read then, as 'now' is: the same command would compute another one elsewhere.
CREATE OR REPLACE FUNCTION bdr.internal_computed_columns(relation oid)
RETURNS SETOF pg_attribute
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE tables AS (
        SELECT relation AS oid
        UNION
        SELECT i.inhrelid FROM tables AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
    )
    SELECT a.*
    FROM tables AS t
    JOIN pg_attribute AS a ON a.attrelid = t.oid
    JOIN pg_type AS ty ON ty.oid = a.atttypid
    WHERE a.atthasmissing AND NOT a.attisdropped AND age(a.xmin) <= 0
      AND (
          bdr.internal_is_changing(bdr.internal_default_of(a.attrelid, a.attnum), true)
          OR (ty.typcategory = 'D' AND ty.typnamespace = 'pg_catalog'::regnamespace)
      )
$$;
REVOKE ALL ON FUNCTION bdr.internal_computed_columns(oid) FROM PUBLIC;

-- These values, to be sent along; NULL for none.
CREATE OR REPLACE FUNCTION bdr.internal_missing_values(relation oid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET TimeZone = 'UTC'
SET extra_float_digits = 3
SET bytea_output = 'hex'
AS $$
    SELECT jsonb_agg(jsonb_build_object(
        'schema', n.nspname, 'table', c.relname, 'column', a.attname, 'value', (a.attmissingval::text::text[])[1]
    ))
    FROM bdr.internal_computed_columns(relation) AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
$$;
REVOKE ALL ON FUNCTION bdr.internal_missing_values(oid) FROM PUBLIC;

-- Peers make these values from their texts as superusers, and values of a user's type may run his code: a domain within an array or a row.
CREATE OR REPLACE FUNCTION bdr.internal_refuse_missing_value(relation oid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    added record;
BEGIN
    SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type INTO added
    FROM bdr.internal_computed_columns(relation) AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE t.typnamespace <> 'pg_catalog'::regnamespace
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ALTER TABLE ... ADD COLUMN ... DEFAULT may only affect UNLOGGED or TEMPORARY tables when BDR is active; % is a regular table',
                relation::regclass
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('The default of column %I may be another value on each node, of type %s.', added.attname, added.type),
                  HINT = 'ADD COLUMN without the default, then ALTER COLUMN ... SET DEFAULT, then UPDATE the rows, then SET NOT NULL.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_missing_value(oid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_queue(
    role text, tag text, command text, "position" integer, is_context boolean, missing jsonb
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    seen text := bdr.internal_session_token(concat('text ', md5(command), ' ', bdr.internal_text_sent_at()));
BEGIN
    -- A long text of many commands is sent once.
    IF "position" IS NOT NULL THEN
        IF seen = current_setting('bdr.queued_text', true) THEN
            command := '';
        ELSE
            PERFORM set_config('bdr.queued_text', seen, true);
        END IF;
    END IF;
    INSERT INTO bdr.bdr_queued_commands (
        lsn, queued_at, perpetrator, command_tag, command, search_path, "position", is_context, settings, missing
    )
    VALUES (
        pg_current_wal_insert_lsn(), clock_timestamp(), role, tag, command,
        coalesce(current_setting('bdr.command_search_path', true), ''), "position", is_context,
        bdr.internal_command_settings(), missing
    );
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_queue(text, text, text, integer, boolean, jsonb) FROM PUBLIC;

-- CREATE TABLE AS ---------------------------------------------------------------------------------------------------------

-- A table of plain columns, as CREATE TABLE AS makes one, as a command of its own: its query may use what is only here.
CREATE OR REPLACE FUNCTION bdr.internal_plain_table(relation oid)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        'CREATE TABLE %I.%I (%s) USING %I%s',
        n.nspname, c.relname,
        (
            SELECT string_agg(
                concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                    CASE WHEN a.attcollation <> t.typcollation
                        THEN format('COLLATE %I.%I', cn.nspname, co.collname)
                    END),
                ', ' ORDER BY a.attnum
            )
            FROM pg_attribute AS a
            JOIN pg_type AS t ON t.oid = a.atttypid
            LEFT JOIN (pg_collation AS co JOIN pg_namespace AS cn ON cn.oid = co.collnamespace) ON co.oid = a.attcollation
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ),
        am.amname,
        (
            SELECT coalesce(' WITH (' || string_agg(
                format('%s = %L', split_part(option, '=', 1), substr(option, strpos(option, '=') + 1)), ', '
            ) || ')', '')
            FROM unnest(c.reloptions) AS option
        )
    )
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_am AS am ON am.oid = c.relam
    WHERE c.oid = relation
$$;
REVOKE ALL ON FUNCTION bdr.internal_plain_table(oid) FROM PUBLIC;

-- The command has filled the table before it could be published, so these rows are in no stream: they are written again.
CREATE OR REPLACE FUNCTION bdr.internal_write_rows_again(relation oid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
    has_rows boolean;
    kept text := format('bdr_rows_of_%s', relation);
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', relation::regclass) INTO has_rows;
    IF has_rows THEN
        EXECUTE format('CREATE TEMPORARY TABLE %I ON COMMIT DROP AS SELECT * FROM %s', kept, relation::regclass);
        EXECUTE format('TRUNCATE %s', relation::regclass);
    END IF;
    PERFORM bdr.internal_sync_publication(relation::regclass);
    IF has_rows THEN
        EXECUTE format('INSERT INTO %s SELECT * FROM pg_temp.%I', relation::regclass, kept);
        EXECUTE format('DROP TABLE pg_temp.%I', kept);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_write_rows_again(oid) FROM PUBLIC;

-- The triggers ------------------------------------------------------------------------------------------------------------

-- The path that the command was run with: every other function here has a path of its own.
CREATE OR REPLACE FUNCTION bdr.internal_note_search_path()
RETURNS event_trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_catalog.set_config('bdr.command_search_path', pg_catalog.current_setting('search_path'), true),
            pg_catalog.set_config('bdr.command_schemas', pg_catalog.current_schemas(false)::pg_catalog.text, true);
END
$$;

CREATE OR REPLACE FUNCTION bdr.internal_queue_command(role text, tag text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- The words of PG_CONTEXT.
SET lc_messages = 'C'
AS $$
DECLARE
    stack text;
    -- Below the two functions of ours: what ran the command, if not the session itself.
    caller text;
    depth integer;
    made record;
    permits_unsafe boolean;
    command text := current_query();
    "position" integer;
    missing jsonb;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    -- The second line is there where the server evaluates that in another way, because one of its evaluations is under way.
    caller := bdr.internal_called_from(
        stack,
        E'(?:PL/pgSQL assignment "queued := bdr\\.internal_queue_command\\(current_user, tg_tag\\)"\\n)?'
            || E'PL/pgSQL function bdr\\.internal_capture_command\\(\\)'
    );
    IF NOT bdr.internal_captures_commands() OR bdr.internal_is_applied() THEN
        RETURN false;
    END IF;
    depth := bdr.internal_extension_depth();
    IF tag IN ('CREATE EXTENSION', 'ALTER EXTENSION') AND depth > 0 THEN
        depth := depth - 1;
        PERFORM bdr.internal_set_extension_depth(depth);
    END IF;
    -- What has nothing to report has done nothing, but for one; what was dropped is queued where that is known.
    IF depth > 0 OR bdr.internal_is_replica() OR bdr.internal_is_local_command(tag) OR bdr.internal_is_told_by_names(tag)
       OR bdr.internal_superuser_setting('bdr.skip_ddl_replication', role)
    THEN
        RETURN false;
    END IF;
    -- Event triggers are not told what these are for.
    IF tag IN ('GRANT', 'REVOKE')
       AND bdr.internal_local_text_token(bdr.internal_text_of_command(caller)) = current_setting('bdr.local_text', true)
    THEN
        RETURN false;
    END IF;
    permits_unsafe := bdr.internal_superuser_setting('bdr.permit_unsafe_ddl_commands', role);

    SELECT count(*) AS objects,
           count(*) FILTER (
               WHERE c.schema_name IN ('pg_temp', 'bdr', 'bdr_guard')
                  OR bdr.internal_is_local_object(c.classid, c.objid)
                  -- Large objects are not replicated; GRANT names no class.
                  OR c.classid = 'pg_largeobject'::regclass OR upper(c.object_type) = 'LARGE OBJECT'
                  -- Each node is upgraded by itself.
                  OR (c.object_type IN ('extension', 'schema') AND c.object_identity IN ('bdr', 'bdr_guard'))
           ) AS local_objects,
           min(c.objid) FILTER (WHERE c.classid = 'pg_class'::regclass AND c.object_type = 'table') AS relation,
           array_agg(c.objid) FILTER (WHERE c.objid IS NOT NULL) AS ids,
           array_agg(c.classid) FILTER (WHERE c.objid IS NOT NULL) AS classes
    INTO made
    FROM pg_event_trigger_ddl_commands() AS c
    WHERE NOT c.in_extension;
    IF made.objects = made.local_objects AND tag <> 'DROP OWNED' THEN
        RETURN false;
    END IF;
    PERFORM bdr.internal_refuse_read_only(tag);
    PERFORM bdr.internal_check_unbuilt(tag);
    IF NOT permits_unsafe AND made.ids IS NOT NULL THEN
        PERFORM bdr.internal_refuse_unlogged_reference(made.ids, made.classes);
    END IF;
    IF NOT permits_unsafe AND tag = 'CREATE TABLE' THEN
        PERFORM bdr.internal_refuse_local_like(bdr.internal_text_of_command(caller));
    END IF;
    IF NOT permits_unsafe AND tag IN ('CREATE TABLE', 'ALTER TABLE') THEN
        PERFORM bdr.internal_refuse_exclusion(c.objid), bdr.internal_refuse_generated_key(c.objid)
        FROM pg_event_trigger_ddl_commands() AS c
        WHERE c.object_type = 'table';
    END IF;

    IF tag IN ('CREATE TABLE AS', 'SELECT INTO') THEN
        PERFORM bdr.internal_queue(role, 'CREATE TABLE', bdr.internal_plain_table(made.relation), NULL, false, NULL);
        PERFORM bdr.internal_write_rows_again(made.relation);
        RETURN true;
    END IF;
    IF caller IS NULL THEN
        "position" := currval('bdr.command_position');
    ELSE
        SELECT c.command, c."position" INTO command, "position" FROM bdr.internal_statement_command(caller) AS c;
    END IF;
    IF tag = 'ALTER TABLE' AND made.relation IS NOT NULL THEN
        PERFORM bdr.internal_refuse_missing_value(made.relation);
        missing := bdr.internal_missing_values(made.relation);
    END IF;
    PERFORM bdr.internal_queue(role, tag, command, "position", caller IS NOT NULL, missing);
    RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION bdr.internal_capture_command()
RETURNS event_trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $$
DECLARE
    queued boolean;
BEGIN
    queued := bdr.internal_queue_command(current_user, tg_tag);
END
$$;

-- What DROP has dropped, by name: what of it was only here is left out. `command` has the names in full.
CREATE OR REPLACE FUNCTION bdr.internal_queue_drop(role text, tag text, command text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lc_messages = 'C'
AS $$
DECLARE
    stack text;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    PERFORM bdr.internal_called_from(stack, E'PL/pgSQL function bdr\\.internal_capture_drop\\(\\)');
    IF NOT bdr.internal_captures_commands() OR bdr.internal_extension_depth() > 0
       OR bdr.internal_superuser_setting('bdr.skip_ddl_replication', role)
    THEN
        RETURN false;
    END IF;
    PERFORM bdr.internal_refuse_read_only(tag);
    PERFORM bdr.internal_check_unbuilt_drop(tag);
    PERFORM bdr.internal_queue(role, tag, command, NULL, false, NULL);
    RETURN true;
END
$$;

-- STABLE, so that it sees relations as they were before the command.
CREATE OR REPLACE FUNCTION bdr.internal_capture_drop()
RETURNS event_trigger
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $$
DECLARE
    kind text := substr(tg_tag, 6);
    names text;
    takes_more boolean;
    queued boolean;
BEGIN
    -- Of what a class of commands drops besides, the text of the command tells.
    IF NOT bdr.internal_is_told_by_names(tg_tag) OR tg_tag IN ('DROP PUBLICATION', 'DROP SUBSCRIPTION', 'DROP USER MAPPING') THEN
        RETURN;
    END IF;
    SELECT string_agg(
               CASE o.object_type
                   WHEN 'aggregate' THEN regexp_replace(o.object_identity, E'\\(\\)$', '(*)')
                   -- As some majors call it.
                   WHEN 'transform' THEN regexp_replace(o.object_identity, ' on language (?=[^ ]+$)', ' language ')
                   ELSE o.object_identity
               END,
               ', '
           ) FILTER (WHERE o.original),
           bool_or(o.normal AND NOT o.original)
    INTO names, takes_more
    FROM pg_event_trigger_dropped_objects() AS o
    LEFT JOIN pg_class AS c ON c.oid = o.objid AND o.classid = 'pg_class'::regclass
    LEFT JOIN pg_trigger AS t ON t.oid = o.objid AND o.classid = 'pg_trigger'::regclass
    LEFT JOIN pg_policy AS p ON p.oid = o.objid AND o.classid = 'pg_policy'::regclass
    LEFT JOIN pg_rewrite AS r ON r.oid = o.objid AND o.classid = 'pg_rewrite'::regclass
    LEFT JOIN pg_class AS owning ON owning.oid IN (t.tgrelid, p.polrelid, r.ev_class)
    WHERE NOT o.is_temporary
      AND coalesce(c.relpersistence, owning.relpersistence, 'p') = 'p'
      AND o.schema_name IS DISTINCT FROM 'bdr' AND o.schema_name IS DISTINCT FROM 'bdr_guard'
      AND NOT (o.object_type = 'schema' AND o.object_name IN ('bdr', 'bdr_guard'))
      AND NOT (o.object_type = 'trigger' AND starts_with(o.object_identity, 'bdr_gate_'));
    IF names IS NOT NULL THEN
        queued := bdr.internal_queue_drop(
            current_user, tg_tag, format('DROP %s IF EXISTS %s%s', kind, names, CASE WHEN takes_more THEN ' CASCADE' ELSE '' END)
        );
    END IF;
END
$$;

-- In replica mode commands are only counted, and not even that where apply runs them. Names decide the order of triggers of one event.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'bdr_capture_command') THEN
        CREATE EVENT TRIGGER bdr_capture_a_path ON ddl_command_start EXECUTE FUNCTION bdr.internal_note_search_path();
        CREATE EVENT TRIGGER bdr_capture_start ON ddl_command_start EXECUTE FUNCTION bdr.internal_command_started();
        CREATE EVENT TRIGGER bdr_capture_a_search_path ON ddl_command_end EXECUTE FUNCTION bdr.internal_note_search_path();
        CREATE EVENT TRIGGER bdr_capture_command ON ddl_command_end EXECUTE FUNCTION bdr.internal_capture_command();
        CREATE EVENT TRIGGER bdr_capture_drop ON sql_drop EXECUTE FUNCTION bdr.internal_capture_drop();
        CREATE EVENT TRIGGER bdr_capture_rewrite ON table_rewrite EXECUTE FUNCTION bdr.internal_rewrite_begins();
        ALTER EVENT TRIGGER bdr_capture_start ENABLE ALWAYS;
        ALTER EVENT TRIGGER bdr_capture_command ENABLE ALWAYS;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION bdr.bdr_replicate_ddl_command(cmd text)
RETURNS void
LANGUAGE plpgsql
SET search_path = ''
AS $$
BEGIN
    IF NOT bdr.bdr_is_active_in_db() THEN
        RAISE EXCEPTION 'BDR is not active in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Call bdr.bdr_group_create(...) or bdr.bdr_group_join(...) first.';
    END IF;
    EXECUTE cmd;
END
$$;
COMMENT ON FUNCTION bdr.bdr_replicate_ddl_command(text) IS
    'Runs commands here and on all other nodes, with an empty search_path: names must be given in full. Event triggers capture what it runs, as any other command';
