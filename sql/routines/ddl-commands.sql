-- Which command of a text or a function it is that event triggers are told of (ddl.sql), and what counts of the settings.

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
             AND format('%s=%s', setting, current_setting(setting, true)) = ANY (s.setconfig)
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
-- owner's rights that event triggers alone may call go by it; no role can make a function of such a name in schema bdr. It must be the very
-- next frame, and not one with a user's text in it: that may have a line that looks like another frame.
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

-- A value that nobody but the functions of capture can give a setting: any role may set what no library defines.
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
    caller := bdr.internal_called_from(stack, E'PL/pgSQL function bdr\\.internal_command_started\\(\\)');
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
