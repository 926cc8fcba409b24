-- Capture of commands that change definitions, by event triggers (DESIGN 5; docs/concepts/ddl.md). Each command leaves one row in
-- bdr.bdr_queued_commands, in its own transaction and in its place among the rows that are written; peers run it as it arrives.
--
-- The row says who ran the command, so the triggers run with the rights of whoever fires them: a trigger with its owner's rights
-- would not know. Only a superuser writes into the queue, though: what the triggers call to write there makes sure that it is called
-- by them, because everybody may call it.

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
    -- While one evaluation of that is under way the server evaluates it in another way, and says so. That frame has a text in it, as a user's could
    -- be, so it is taken only where no user's code can run.
    caller := bdr.internal_called_from(stack, concat(
        CASE WHEN current_setting('bdr.rows_again', true) = bdr.internal_session_token('rows again')
            THEN E'(?:PL/pgSQL assignment "queued := bdr\\.internal_queue_command\\(current_user, tg_tag\\)"\\n)?' END,
        E'PL/pgSQL function bdr\\.internal_capture_command\\(\\)'
    ));
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
        PERFORM bdr.internal_refuse_generated_keys();
        PERFORM bdr.internal_refuse_exclusion(c.objid)
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
