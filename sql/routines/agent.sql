-- Between SQL and the agent. Functions write rows and NOTIFY; the agent does the work after COMMIT.
--
-- Advisory locks, all of two keys, the first 1650749952 ("bdr" in ASCII):
--   1  an agent serves this server; held for its life, in one database
--   2  a session of the agent in this database; shared, so that a successor finds and ends what a dead agent left behind
--   3  schema bdr is being installed or upgraded by `bdr install`
--   4  gates are open, those of the global lock (lock-gates.sql)
--   5  a transaction counts commands of statements (statement-commands.sql); shared
--   6  a transaction asks for the global lock, and needs its ask put on disk (before 17); shared
-- and the first one 1650749953 to 1650749957, of what an ask for the global lock is answered, with the number of the ask (locks.sql)

CREATE OR REPLACE FUNCTION bdr.internal_agent_pid()
RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    -- Any role can take an advisory lock: it counts only if its holder could do an agent's work.
    SELECT l.pid
    FROM pg_locks AS l
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    JOIN pg_roles AS r ON r.oid = a.usesysid
    WHERE l.locktype = 'advisory' AND l.classid = 1650749952 AND l.objid = 1 AND l.objsubid = 2
      AND l.granted AND r.rolsuper
    LIMIT 1
$$;
COMMENT ON FUNCTION bdr.internal_agent_pid() IS 'Backend in which the server''s agent holds its lock; NULL when no agent is there';
REVOKE ALL ON FUNCTION bdr.internal_agent_pid() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_tell_agent()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NOTIFY bdr;
    IF bdr.internal_agent_pid() IS NULL THEN
        RAISE WARNING 'no bdr agent is running for this server'
            USING HINT = format('Nothing happens until one is started beside the server: bdr agent --dsn "host=... port=%s user=%s dbname=%s"',
                                current_setting('port'), current_user, current_database());
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_tell_agent() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.bdr_connections_changed()
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT bdr.internal_tell_agent() $$;
COMMENT ON FUNCTION bdr.bdr_connections_changed() IS
    'Makes the agent read bdr_nodes and bdr_connections again; call it after changing them by hand';
REVOKE ALL ON FUNCTION bdr.bdr_connections_changed() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.bdr_apply_pause()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Waits for the transactions that are being applied; those that begin later see the flag. So nothing is applied once
    -- this has committed.
    LOCK TABLE bdr.bdr_local_node IN EXCLUSIVE MODE;
    UPDATE bdr.bdr_local_node SET apply_paused = true;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'BDR is not active in this database' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM bdr.internal_tell_agent();
END
$$;
COMMENT ON FUNCTION bdr.bdr_apply_pause() IS
    'Stops applying changes of all peers on this node, until bdr_apply_resume(); survives restarts. Nothing is lost: peers keep what is not applied';
REVOKE ALL ON FUNCTION bdr.bdr_apply_pause() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.bdr_apply_resume()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE bdr.bdr_local_node SET apply_paused = false;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'BDR is not active in this database' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM bdr.internal_tell_agent();
END
$$;
COMMENT ON FUNCTION bdr.bdr_apply_resume() IS 'Goes on applying after bdr_apply_pause()';
REVOKE ALL ON FUNCTION bdr.bdr_apply_resume() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.bdr_apply_is_paused()
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce((SELECT apply_paused FROM bdr.bdr_local_node), false) $$;
COMMENT ON FUNCTION bdr.bdr_apply_is_paused() IS 'Whether apply is paused on this node';
