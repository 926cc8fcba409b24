-- Tables that run code of their owners when their rows are read or written: an apply session is a superuser's, so there the
-- code must run with its owner's rights, and without a way back (docs/decisions/0019-users-code-in-restricted-operations.md).

-- Which definitions there are, as a text that is another one after every change of one ------------------------------------

CREATE OR REPLACE FUNCTION bdr.internal_definitions()
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(string_agg(d.change::text, ',' ORDER BY d.change), '') FROM bdr.definition_change AS d $$;
REVOKE ALL ON FUNCTION bdr.internal_definitions() FROM PUBLIC;

-- A row of its own for each command, so that it is seen when the command is. Of those that are seen a few are kept: a
-- transaction that removes some adds one.
--
-- An index that is built CONCURRENTLY takes rows, and computes its expressions for them, before the command ends: it is noted at the
-- beginning, so that the note is seen when the index is, which is before the server waits for who has locked the table until then.
CREATE OR REPLACE FUNCTION bdr.internal_note_definition()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM bdr.bdr_local_node) THEN
        RETURN;
    END IF;
    IF tg_event = 'ddl_command_end'
       -- Privileges are none, nor is what is published, which the agent may change often.
       AND NOT EXISTS (
           SELECT FROM pg_event_trigger_ddl_commands() AS c
           WHERE c.schema_name IS DISTINCT FROM 'pg_temp' AND c.command_tag NOT IN ('GRANT', 'REVOKE', 'CREATE PUBLICATION', 'ALTER PUBLICATION')
             -- A trigger has no schema.
             AND NOT (
                 c.classid = 'pg_trigger'::regclass
                 AND EXISTS (
                     SELECT FROM pg_trigger AS t
                     JOIN pg_class AS r ON r.oid = t.tgrelid
                     WHERE t.oid = c.objid AND r.relpersistence = 't'
                 )
             )
       )
    THEN
        RETURN;
    END IF;
    INSERT INTO bdr.definition_change DEFAULT VALUES;
    -- Under READ COMMITTED only: with an older snapshot others may have removed what is seen here, which would be an error.
    IF current_setting('transaction_isolation') = 'read committed' THEN
        DELETE FROM bdr.definition_change
        WHERE change IN (
            SELECT d.change FROM bdr.definition_change AS d ORDER BY d.change DESC OFFSET 16 FOR UPDATE SKIP LOCKED
        );
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_note_definition() FROM PUBLIC;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'bdr_note_definition') THEN
        CREATE EVENT TRIGGER bdr_note_definition ON ddl_command_end EXECUTE FUNCTION bdr.internal_note_definition();
        -- What users' code does in an apply session counts as well.
        ALTER EVENT TRIGGER bdr_note_definition ENABLE ALWAYS;
        CREATE EVENT TRIGGER bdr_note_index ON ddl_command_start WHEN TAG IN ('CREATE INDEX')
            EXECUTE FUNCTION bdr.internal_note_definition();
        ALTER EVENT TRIGGER bdr_note_index ENABLE ALWAYS;
    END IF;
END
$$;

-- Nobody but superusers makes definitions while the node is filled with the copy of a join ---------------------------------
--
-- What the copy may run with the rights of a superuser is looked up once, and what it must not run is out of the way only
-- as far as it was there then.

CREATE OR REPLACE FUNCTION bdr.internal_is_being_filled()
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM bdr.bdr_nodes AS n
        JOIN bdr.bdr_get_local_nodeid() AS me
          ON (n.node_sysid, n.node_timeline, n.node_dboid) = (me.sysid, me.timeline, me.dboid)
        WHERE n.node_status = 'i'
    )
$$;

CREATE OR REPLACE FUNCTION bdr.internal_refuse_definition()
RETURNS event_trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) AND bdr.internal_is_being_filled() THEN
        RAISE EXCEPTION 'definitions cannot be changed while this node joins'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Wait for SELECT bdr.bdr_node_join_wait_for_ready().';
    END IF;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'bdr_refuse_definition') THEN
        CREATE EVENT TRIGGER bdr_refuse_definition ON ddl_command_start EXECUTE FUNCTION bdr.internal_refuse_definition();
        ALTER EVENT TRIGGER bdr_refuse_definition ENABLE ALWAYS;
    END IF;
END
$$;

-- Until the end of the transaction the tables stay what they are, and with `and_casts` the casts too: adding one locks no table.
-- False when definitions are no longer those that are known. The look comes after the locks, with a snapshot of its own.
CREATE OR REPLACE FUNCTION bdr.internal_hold_definitions(tables oid[], and_casts boolean, known text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    held oid;
    name regclass;
BEGIN
    FOREACH held IN ARRAY tables LOOP
        name := (SELECT c.oid FROM pg_class AS c WHERE c.oid = held);
        IF name IS NULL THEN
            RETURN false;
        END IF;
        EXECUTE format('LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE', name);
    END LOOP;
    IF and_casts THEN
        LOCK TABLE pg_catalog.pg_cast IN SHARE MODE;
    END IF;
    RETURN known = (SELECT bdr.internal_definitions());
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_hold_definitions(oid[], boolean, text) FROM PUBLIC;

-- Running a statement with the rights of another role ----------------------------------------------------------------------
--
-- The server knows a mode made for this, the security-restricted operation, in which REINDEX, ANALYZE and its own logical
-- replication run what users have written: the role is another one and cannot be changed back, no cursor can outlive it, no
-- trigger be put off until COMMIT, nothing be prepared, no temporary table be made, and all settings are taken back at its end.
-- SQL enters it by no statement, but an index function does: brin_summarize_range() computes the index's expression for each row,
-- in that mode, as the table's owner. So for each role there is a table of one row in bdr_guard, whose index "computes" the
-- statement that waits in pg_temp.bdr_call. Nobody but superusers may look into bdr_guard, so nobody can call what is in it by
-- name, or alter it.

-- The index of a role, made where it is missing. DROP OWNED BY takes it away, REASSIGN OWNED BY gives its table to another role.
CREATE OR REPLACE FUNCTION bdr.internal_restricted_index(owner oid)
RETURNS regclass
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- What is made is this node's own.
SET bdr.skip_ddl_replication = on
AS $$
DECLARE
    name text := format('bdr_guard.role_%s', owner);
    index regclass := to_regclass(name || '_run');
    old regprocedure;
BEGIN
    IF index IS NOT NULL AND EXISTS (
        SELECT FROM pg_class AS c WHERE c.oid = to_regclass(name) AND c.relowner = owner
    ) THEN
        RETURN index;
    END IF;
    -- One at a time, and anew: the functions of an index must call themselves immutable when it is made, and no more after that.
    LOCK TABLE bdr.bdr_schema_migrations IN SHARE ROW EXCLUSIVE MODE;
    IF to_regclass(name) IS NOT NULL THEN
        EXECUTE format('DROP TABLE %s', name);
    END IF;
    FOR old IN
        SELECT p.oid::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace = 'bdr_guard'::regnamespace AND starts_with(p.proname, format('role_%s_', owner))
    LOOP
        EXECUTE format('DROP FUNCTION %s', old);
    END LOOP;
    EXECUTE replace($make$
        -- What waits, taken once. A temporary table of that name counts only where a superuser has made it. The parameter keeps the
        -- server from computing it beforehand.
        CREATE FUNCTION @_pending(owner oid)
        RETURNS text
        LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $fn$
        DECLARE
            waiting text;
        BEGIN
            IF NOT bdr.internal_may_call() THEN
                RETURN NULL;
            END IF;
            UPDATE pg_temp.bdr_call AS c SET is_taken = true
            WHERE c.call = (SELECT l.call FROM pg_temp.bdr_call AS l ORDER BY l.call DESC LIMIT 1) AND NOT c.is_taken
            RETURNING c.statement INTO waiting;
            RETURN waiting;
        END
        $fn$;
        CREATE FUNCTION @_run(statement text, owner oid)
        RETURNS text
        LANGUAGE plpgsql IMMUTABLE
        SET search_path = pg_catalog, pg_temp
        -- Where row security applies to the owner too, an error, and not rows that are left out in silence.
        SET row_security = off
        AS $fn$
        DECLARE
            answer text;
            taken bigint;
        BEGIN
            IF statement IS NULL THEN
                RETURN NULL;
            END IF;
            IF pg_get_userbyid(owner) <> current_user THEN
                RAISE EXCEPTION 'this server runs the functions of an index as role "%" and not as the table''s owner', current_user
                    USING ERRCODE = 'feature_not_supported',
                          HINT = 'Install the newest minor release of this PostgreSQL.';
            END IF;
            IF statement LIKE 'SELECT %' THEN
                EXECUTE statement INTO answer;
            ELSE
                EXECUTE statement;
                GET DIAGNOSTICS taken = ROW_COUNT;
                answer := taken;
            END IF;
            RETURN coalesce(answer, '');
        END
        $fn$;
        CREATE FUNCTION @_answer(answer text)
        RETURNS integer
        LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $fn$
        BEGIN
            IF $1 IS NOT NULL AND bdr.internal_may_call() THEN
                UPDATE pg_temp.bdr_call AS c SET answer = $1
                WHERE c.call = (SELECT l.call FROM pg_temp.bdr_call AS l ORDER BY l.call DESC LIMIT 1);
            END IF;
            RETURN 0;
        END
        $fn$
    $make$, '@', name);
    EXECUTE format('CREATE TABLE %s (owner oid NOT NULL)', name);
    EXECUTE format(
        'CREATE INDEX role_%2$s_run ON %1$s USING brin (%1$s_answer(%1$s_run(%1$s_pending(owner), owner)))', name, owner
    );
    -- As immutable ones they could not write.
    EXECUTE format('ALTER FUNCTION %s_pending(oid) VOLATILE', name);
    EXECUTE format('ALTER FUNCTION %s_run(text, oid) VOLATILE', name);
    EXECUTE format('ALTER FUNCTION %s_answer(text) VOLATILE', name);
    -- Only now: what an index computes when it is made is computed by immutable functions.
    EXECUTE format('INSERT INTO %s VALUES (%s)', name, owner);
    EXECUTE format('ALTER TABLE %s OWNER TO %I', name, pg_get_userbyid(owner));
    RETURN (name || '_run')::regclass;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_restricted_index(oid) FROM PUBLIC;

-- Whether the session has a table pg_temp.bdr_call that a superuser has made: else any role could put its own view there, for
-- functions to read that run with more rights.
CREATE OR REPLACE FUNCTION bdr.internal_may_call()
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_class AS c
        JOIN pg_roles AS r ON r.oid = c.relowner
        WHERE c.oid = to_regclass('pg_temp.bdr_call') AND c.relkind = 'r' AND r.rolsuper
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_may_call() FROM PUBLIC;

-- Runs a statement with the rights of a role: of a SELECT it returns the one text that that returns, of any other statement how many
-- rows it took. What apply knows of tables was looked up before: code that changes definitions meanwhile is refused, unless that is
-- what it is run for.
CREATE OR REPLACE FUNCTION bdr.internal_run_restricted(owner oid, statement text, may_define boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    index regclass := bdr.internal_restricted_index(owner);
    me bigint;
    before text;
    result text;
BEGIN
    IF to_regclass('pg_temp.bdr_call') IS NULL THEN
        CREATE TEMPORARY TABLE bdr_call (
            call bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            statement text NOT NULL,
            is_taken boolean NOT NULL DEFAULT false,
            answer text
        ) ON COMMIT DELETE ROWS;
    ELSIF NOT bdr.internal_may_call() THEN
        RAISE EXCEPTION 'somebody else has made pg_temp.bdr_call in this session';
    END IF;
    before := (SELECT bdr.internal_definitions());
    INSERT INTO pg_temp.bdr_call (statement) VALUES (statement) RETURNING call INTO me;
    FOR try IN 1..10 LOOP
        -- What an error left half done is taken away too: a range that has a summary is not computed again.
        PERFORM brin_desummarize_range(index, 0);
        PERFORM brin_summarize_range(index, 0);
        SELECT c.answer INTO result FROM pg_temp.bdr_call AS c WHERE c.call = me;
        -- Advisory locks are what such an operation does not take back: those of users' code go, an agent's session marks itself again.
        -- In a session of an ordinary role they may be its own.
        IF (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = session_user) THEN
            PERFORM pg_advisory_unlock_all();
        END IF;
        IF pg_replication_origin_session_is_setup() THEN
            PERFORM pg_try_advisory_lock_shared(1650749952, 2);
        END IF;
        IF result IS NOT NULL THEN
            IF NOT may_define AND before <> (SELECT bdr.internal_definitions()) THEN
                RAISE EXCEPTION 'definitions have changed while code of role "%" ran', pg_get_userbyid(owner)
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN result;
        END IF;
        -- Another session has come between the two.
    END LOOP;
    RAISE EXCEPTION 'index % is in use', index USING ERRCODE = 'lock_not_available';
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_run_restricted(oid, text, boolean) FROM PUBLIC;

-- For a peer that reads what its stream left out: as the table's owner, whatever the table is.
CREATE OR REPLACE FUNCTION bdr.internal_read_restricted(schema_name text, table_name text, statement text)
RETURNS text
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bdr.internal_run_restricted(c.relowner, statement)
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = schema_name AND c.relname = table_name
$$;
REVOKE ALL ON FUNCTION bdr.internal_read_restricted(text, text, text) FROM PUBLIC;
