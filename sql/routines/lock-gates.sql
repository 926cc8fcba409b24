-- Gates: triggers by which users' writes on a table are held back while another node holds the global write lock. They are not
-- ALWAYS, so what the agent applies passes. They come and go by the agent, which serves the lock (locks.sql).
--
-- A gate is closed unless the agent says that it is open, by an advisory lock: so while no agent is there nobody writes what the
-- holder of the lock does not expect. What a statement waits for must not be read from a table: its snapshot may be an old one.

CREATE OR REPLACE FUNCTION bdr.internal_setting_ms(setting text)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN s.value ~ '^ *-' THEN NULL
                WHEN s.value ~ '^ *[0-9]+ *$' THEN s.value::bigint
                ELSE (extract(epoch FROM s.value::interval) * 1000)::bigint END
    FROM (SELECT nullif(current_setting(setting, true), '')) AS s (value)
$$;
COMMENT ON FUNCTION bdr.internal_setting_ms(text) IS 'A setting of time in milliseconds; NULL if it is not set, or negative';
REVOKE ALL ON FUNCTION bdr.internal_setting_ms(text) FROM PUBLIC;

-- Whether a session is one of an agent, by its mark, which counts only if its role could do an agent's work.
CREATE OR REPLACE FUNCTION bdr.internal_is_agent_session(session_pid integer)
RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks AS l
        JOIN pg_stat_activity AS a ON a.pid = l.pid
        JOIN pg_roles AS r ON r.oid = a.usesysid
        WHERE l.pid = session_pid AND l.locktype = 'advisory' AND l.classid = 1650749952 AND l.objid = 2 AND l.objsubid = 2
          AND l.granted AND r.rolsuper
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_agent_session(integer) FROM PUBLIC;

-- Whether the agent holds an advisory lock of this database by which it tells something.
CREATE OR REPLACE FUNCTION bdr.internal_agent_says(family integer, word integer)
RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.classid = family::oid AND l.objid = word::oid AND l.objsubid = 2 AND l.granted
          AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          AND bdr.internal_is_agent_session(l.pid)
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_agent_says(integer, integer) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_gate()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    began timestamptz := clock_timestamp();
    ms bigint;
    pause double precision := 0.002;
    waited double precision;
BEGIN
    LOOP
        -- Else sessions are seen as they were when this transaction looked at them first.
        PERFORM pg_stat_clear_snapshot();
        EXIT WHEN bdr.internal_agent_says(1650749952, 4)
            OR bdr.internal_skips_locking()
            OR NOT EXISTS (SELECT FROM bdr.bdr_local_node);
        waited := extract(epoch FROM clock_timestamp() - began) * 1000;
        ms := bdr.internal_setting_ms('bdr.bdr_ddl_lock_timeout');
        ms := coalesce(ms, bdr.internal_setting_ms('lock_timeout'));
        IF ms > 0 AND waited > ms THEN
            RAISE EXCEPTION 'canceling statement due to global lock timeout'
                USING ERRCODE = 'lock_not_available',
                      DETAIL = format('Another node holds the global write lock on table %I.%I.', TG_TABLE_SCHEMA, TG_TABLE_NAME),
                      HINT = 'SELECT * FROM bdr.bdr_locks shows which; if it is lost for good, part it from the group.';
        END IF;
        -- This statement has locked its table. What another node has done under the lock could never be applied here.
        IF EXISTS (
            SELECT FROM pg_locks AS l
            WHERE l.locktype = 'relation' AND l.relation = TG_RELID AND NOT l.granted
              AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
              AND bdr.internal_is_agent_session(l.pid)
        ) THEN
            -- It opens the gates before it takes them away: it may have done so since this one was looked at.
            EXIT WHEN bdr.internal_agent_says(1650749952, 4);
            RAISE EXCEPTION 'could not write to table "%" because another node changes its definition', TG_TABLE_NAME
                USING ERRCODE = 'serialization_failure',
                      DETAIL = 'The statement was waiting for the global lock, and the change has arrived.',
                      HINT = 'Run the transaction again.';
        END IF;
        -- What this transaction has written may be what a change waits for that must be applied before the lock is granted.
        IF pg_current_xact_id_if_assigned() IS NOT NULL AND waited > bdr.internal_max_ddl_lock_delay() THEN
            RAISE EXCEPTION 'could not write to table "%" because another node waits for the global lock', TG_TABLE_NAME
                USING ERRCODE = 'serialization_failure',
                      DETAIL = 'The transaction has written already, and has waited for bdr.max_ddl_lock_delay.',
                      HINT = 'Run the transaction again.';
        END IF;
        PERFORM pg_sleep(pause);
        pause := least(pause * 1.5, 0.05);
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION bdr.internal_gate() IS 'Holds a statement back while another node holds the global write lock';
REVOKE ALL ON FUNCTION bdr.internal_gate() FROM PUBLIC;

-- Tables that a write lock on others covers: partitions and children, because a statement may name them, and parents, because a
-- statement that names a parent fires only the parent's triggers.
CREATE OR REPLACE FUNCTION bdr.internal_locked_tables(tables jsonb)
RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE named AS (
        SELECT t::oid AS oid FROM bdr.internal_replicated_tables() AS t WHERE tables IS NULL
        UNION
        SELECT c.oid
        FROM jsonb_array_elements(tables) AS e (pair)
        JOIN pg_namespace AS n ON n.nspname = e.pair ->> 0
        JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = e.pair ->> 1
    ), down AS (
        SELECT oid FROM named
        UNION
        SELECT i.inhrelid FROM pg_inherits AS i JOIN down AS d ON i.inhparent = d.oid
    ), up AS (
        SELECT oid FROM down
        UNION
        SELECT i.inhparent FROM pg_inherits AS i JOIN up AS u ON i.inhrelid = u.oid
    )
    SELECT c.oid::regclass
    FROM up
    JOIN pg_class AS c ON c.oid = up.oid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'bdr', 'bdr_guard')
    ORDER BY c.oid
$$;
REVOKE ALL ON FUNCTION bdr.internal_locked_tables(jsonb) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_lock_gates()
RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.tgrelid::regclass
    FROM pg_trigger AS t
    WHERE t.tgname = 'bdr_gate_lock' AND t.tgfoid = 'bdr.internal_gate()'::regprocedure
    ORDER BY t.tgrelid
$$;
COMMENT ON FUNCTION bdr.internal_lock_gates() IS 'Tables that have a gate';
REVOKE ALL ON FUNCTION bdr.internal_lock_gates() FROM PUBLIC;

-- Waits for those who write now, at most as long as lock_timeout for each table. Gates that are there already, and are open, let them
-- pass before; whoever waits at one that is closed has locked its table, and writes nothing.
CREATE OR REPLACE FUNCTION bdr.internal_make_lock_gates(tables jsonb, are_open boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- A gate is this node's own.
SET bdr.skip_ddl_replication = on
AS $$
DECLARE
    missing regclass[] := ARRAY(
        SELECT t FROM bdr.internal_locked_tables(tables) AS t EXCEPT SELECT g FROM bdr.internal_lock_gates() AS g ORDER BY 1
    );
    gated regclass;
BEGIN
    FOR gated IN
        SELECT t FROM bdr.internal_locked_tables(tables) AS t WHERE are_open OR t = ANY (missing) ORDER BY t
    LOOP
        EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', gated);
    END LOOP;
    FOREACH gated IN ARRAY missing LOOP
        EXECUTE format(
            'CREATE TRIGGER bdr_gate_lock BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
                || 'FOR EACH STATEMENT EXECUTE FUNCTION bdr.internal_gate()',
            gated
        );
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_make_lock_gates(jsonb, boolean) FROM PUBLIC;

-- For what an agent writes as users of its node do: its sessions pass gates, because they are in replica role, so they have to ask. Locks
-- the table as a writer does, until the end of the transaction, so that a gate which is made meanwhile is waited for.
CREATE OR REPLACE FUNCTION bdr.internal_passes_lock_gate(written regclass)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := (SELECT format('%I.%I', n.nspname, c.relname)
                  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                  WHERE c.oid = written);
BEGIN
    -- A table that is gone holds nobody back.
    IF name IS NULL THEN
        RETURN true;
    END IF;
    EXECUTE format('LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE', name);
    PERFORM pg_stat_clear_snapshot();
    RETURN bdr.internal_agent_says(1650749952, 4) OR NOT EXISTS (SELECT FROM bdr.internal_lock_gates() AS g WHERE g = written);
END
$$;
COMMENT ON FUNCTION bdr.internal_passes_lock_gate(regclass) IS 'Whether users of this node may write to a table now, and until the end of the transaction';
REVOKE ALL ON FUNCTION bdr.internal_passes_lock_gate(regclass) FROM PUBLIC;

-- For remove_bdr_from_local_node(), when no agent is at work any more.
CREATE OR REPLACE FUNCTION bdr.internal_remove_lock_gates()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gated regclass;
BEGIN
    -- Who waits at a gate has locked its table: he is let through, as the agent would (agent.sql), until this transaction ends.
    PERFORM pg_try_advisory_xact_lock_shared(1650749952, 2);
    PERFORM pg_try_advisory_xact_lock_shared(1650749952, 4);
    FOR gated IN SELECT g FROM bdr.internal_lock_gates() AS g LOOP
        PERFORM bdr.internal_open_gate(gated, 'lock');
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_remove_lock_gates() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_lock_gate_writers(tables jsonb, OUT pid integer, OUT state text)
RETURNS SETOF record
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT a.pid, a.state
    FROM pg_locks AS l
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.granted
      AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
      AND l.relation IN (SELECT t FROM bdr.internal_locked_tables(tables) AS t)
      AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
      AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
      AND NOT bdr.internal_is_agent_session(a.pid)
$$;
COMMENT ON FUNCTION bdr.internal_lock_gate_writers(jsonb) IS 'The sessions that keep gates from being made';
REVOKE ALL ON FUNCTION bdr.internal_lock_gate_writers(jsonb) FROM PUBLIC;

-- Ends these: statements are canceled, sessions that are idle in a transaction are ended.
CREATE OR REPLACE FUNCTION bdr.internal_cancel_writers(tables jsonb)
RETURNS integer
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(CASE WHEN w.state LIKE 'idle in transaction%' THEN pg_terminate_backend(w.pid) ELSE pg_cancel_backend(w.pid) END)
    FROM bdr.internal_lock_gate_writers(tables) AS w
$$;
REVOKE ALL ON FUNCTION bdr.internal_cancel_writers(jsonb) FROM PUBLIC;
