-- The global lock (DESIGN 6): asked for by a transaction that is open. The ask is a signed message in this node's own log, which
-- its agent reads and settles with the others (src/lock/protocol.ts); the agent answers by an advisory lock of the ask's number, which
-- is seen in a transaction with an old snapshot, too. The lock ends with the transaction: the agent sees its virtual transaction
-- id among the locks of the server for as long as it lasts.

CREATE OR REPLACE FUNCTION bdr.internal_is_on(setting text, fallback boolean)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(nullif(current_setting(setting, true), '')::boolean, fallback) $$;
REVOKE ALL ON FUNCTION bdr.internal_is_on(text, boolean) FROM PUBLIC;

-- Anybody may set the parameter; it counts for superusers only.
CREATE OR REPLACE FUNCTION bdr.internal_skips_locking()
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bdr.internal_is_on('bdr.skip_ddl_locking', false)
       AND (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = session_user)
$$;
REVOKE ALL ON FUNCTION bdr.internal_skips_locking() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_max_ddl_lock_delay()
RETURNS double precision
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(
        bdr.internal_setting_ms('bdr.max_ddl_lock_delay')::float8,
        bdr.internal_setting_ms('max_standby_streaming_delay')::float8,
        'infinity'
    )
$$;
COMMENT ON FUNCTION bdr.internal_max_ddl_lock_delay() IS
    'How long, in milliseconds, writers are waited for before they are canceled for a write lock of another node';
REVOKE ALL ON FUNCTION bdr.internal_max_ddl_lock_delay() FROM PUBLIC;

-- Why an ask has not been granted, for the error's detail. Nothing where the transaction's snapshot does not show it.
CREATE OR REPLACE FUNCTION bdr.internal_explain_wait()
RETURNS text
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    WITH me AS (
        SELECT sysid, timeline, dboid FROM bdr.bdr_get_local_nodeid()
    ), owners AS (
        SELECT l.*, n.node_name, (n.node_sysid, n.node_timeline, n.node_dboid) = (me.sysid, me.timeline, me.dboid) AS is_mine
        FROM bdr.bdr_global_locks AS l
        JOIN bdr.bdr_nodes AS n
          ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.owning_sysid, l.owning_timeline, l.owning_datid)
        CROSS JOIN me
        WHERE (l.owning_sysid, l.owning_timeline, l.owning_datid) = (l.acquired_sysid, l.acquired_timeline, l.acquired_datid)
          AND l.state <> 'released' AND n.node_status <> 'k'
    )
    SELECT concat_ws(' ', (
        SELECT string_agg(
            format('Node %s %s a %s since %s.', o.node_name, CASE o.state WHEN 'acquired' THEN 'holds' ELSE 'asks for' END,
                   o.locktype, o.asked_at),
            ' ' ORDER BY o.asked_at)
        FROM owners AS o WHERE NOT o.is_mine
    ), (
        SELECT format('Waiting for an answer of: %s.', string_agg(n.node_name, ', ' ORDER BY n.node_name))
        FROM bdr.bdr_nodes AS n
        CROSS JOIN me
        WHERE n.node_status NOT IN ('b', 'k') AND (n.node_sysid, n.node_timeline, n.node_dboid) <> (me.sysid, me.timeline, me.dboid)
          AND EXISTS (
              SELECT FROM owners AS o WHERE o.is_mine AND o.state = 'asked'
                AND NOT EXISTS (
                    SELECT FROM bdr.bdr_global_locks AS a
                    WHERE (a.owning_sysid, a.owning_timeline, a.owning_datid) = (o.owning_sysid, o.owning_timeline, o.owning_datid)
                      AND (a.acquired_sysid, a.acquired_timeline, a.acquired_datid) = (n.node_sysid, n.node_timeline, n.node_dboid)
                      AND a.lock_number = o.lock_number AND a.lock_round = o.lock_round AND a.state = 'acquired'
                )
          )
        HAVING count(*) > 0
    ), (
        -- What it has met may tell of rows that are none of this role's business.
        SELECT string_agg(format(
            CASE WHEN k.failed_xid IS NULL THEN 'No connection to: %s.'
                 ELSE 'What node %s has sent cannot be applied here: bdr status, or bdr.bdr_links, says why.' END,
            n.node_name), ' ' ORDER BY n.node_name)
        FROM bdr.bdr_nodes AS n
        CROSS JOIN me
        LEFT JOIN bdr.bdr_links AS k
          ON (k.provider_sysid, k.provider_timeline, k.provider_dboid) = (n.node_sysid, n.node_timeline, n.node_dboid)
        WHERE n.node_status NOT IN ('b', 'k') AND (n.node_sysid, n.node_timeline, n.node_dboid) <> (me.sysid, me.timeline, me.dboid)
          AND (k.status IS DISTINCT FROM 'streaming' OR k.failed_xid IS NOT NULL)
    ))
$$;
REVOKE ALL ON FUNCTION bdr.internal_explain_wait() FROM PUBLIC;

-- Of these sessions, those that a session of the agent waits for.
CREATE OR REPLACE FUNCTION bdr.internal_waited_for(pids integer[])
RETURNS SETOF integer
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT b.pid
    FROM pg_locks AS l
    JOIN pg_stat_activity AS a ON a.pid = l.pid AND a.wait_event_type = 'Lock'
    CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b (pid)
    WHERE l.locktype = 'advisory' AND l.classid = 1650749952 AND l.objid = 2 AND l.objsubid = 2 AND b.pid = ANY (pids)
$$;
REVOKE ALL ON FUNCTION bdr.internal_waited_for(integer[]) FROM PUBLIC;

-- What the agent has answered an ask: NULL for nothing yet. As bdr.internal_agent_says(); src/postgres/advisory.ts names the answers.
CREATE OR REPLACE FUNCTION bdr.internal_lock_answer(ask integer)
RETURNS text
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE l.classid::bigint - 1650749952 WHEN 1 THEN 'granted' WHEN 2 THEN 'forbidden' WHEN 3 THEN 'locked' WHEN 4 THEN 'deadlock' WHEN 5 THEN 'nothing' END
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.classid::bigint BETWEEN 1650749953 AND 1650749957 AND l.objid = ask::oid AND l.objsubid = 2
      AND l.granted AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
      AND bdr.internal_is_agent_session(l.pid)
    LIMIT 1
$$;
REVOKE ALL ON FUNCTION bdr.internal_lock_answer(integer) FROM PUBLIC;

-- Whether this transaction holds the lock already, as much as it needs. Nothing where its snapshot may be an old one.
CREATE OR REPLACE FUNCTION bdr.internal_holds_lock(lockmode text, named jsonb, majority_will_do boolean)
RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') AND EXISTS (
        SELECT FROM bdr.bdr_global_locks AS l
        JOIN bdr.bdr_local_node AS n
          ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.owning_sysid, l.owning_timeline, l.owning_datid)
         AND (n.node_sysid, n.node_timeline, n.node_dboid) = (l.acquired_sysid, l.acquired_timeline, l.acquired_datid)
        WHERE l.state = 'acquired' AND l.owner_transaction = bdr.internal_own_transaction()
          AND l.owner_server_start = pg_postmaster_start_time()
          AND CASE lockmode
                  WHEN 'ddl_lock' THEN l.locktype = 'write_lock' OR NOT l.may_be_majority OR majority_will_do
                  ELSE l.locktype = 'write_lock' AND (l.tables IS NULL OR named IS NOT NULL AND NOT EXISTS (
                      SELECT FROM jsonb_array_elements(named) AS n (pair)
                      WHERE n.pair NOT IN (SELECT h.pair FROM jsonb_array_elements(l.tables) AS h (pair))
                  ))
              END
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_holds_lock(text, jsonb, boolean) FROM PUBLIC;

-- Before 17 a message that no transaction ends is put on disk, from where it is sent, only with the next commit. Who asks rings by an
-- advisory lock, and this makes a commit.
CREATE OR REPLACE FUNCTION bdr.internal_flush_asks()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.classid = 1650749952 AND l.objid = 6 AND l.objsubid = 2
          AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
    ) THEN
        -- A commit is waited for only if something was written before it.
        PERFORM pg_logical_emit_message(true, 'bdr_flush', '');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_flush_asks() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_refuse_late_lock(locked text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'cannot acquire the global write lock after locking the table locally'
        USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('Locked: %s.', locked),
              HINT = 'Begin the transaction with the command, or with bdr.acquire_global_lock(''write_lock''), which a superuser may grant to the role. '
                     'A tool that locks tables by itself may be run by a superuser with bdr.skip_ddl_locking = on, while no other node writes these tables.';
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_late_lock(text) FROM PUBLIC;

-- Says an ask again and again, until the agent answers it: `granted`, or `nothing` where a command needs no lock.
CREATE OR REPLACE FUNCTION bdr.internal_wait_for_lock(ask jsonb)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    began timestamptz := clock_timestamp();
    ms bigint := coalesce(
        bdr.internal_setting_ms('bdr.bdr_ddl_lock_timeout'), nullif(bdr.internal_setting_ms('lock_timeout'), 0), 60000
    );
    deadline timestamptz := CASE WHEN ms > 0 THEN began + make_interval(secs => ms / 1000.0) ELSE 'infinity' END;
    -- By chance that no session can choose, and not from a sequence: DROP INDEX CONCURRENTLY must not have a transaction id yet.
    number integer := ('x' || left(gen_random_uuid()::text, 8))::bit(32)::integer & 2147483647;
    message text := bdr.internal_sign_message(jsonb_build_object('lock', ask || jsonb_build_object(
        'ask', number,
        'at', bdr.internal_pg_time(began),
        'pid', pg_backend_pid(),
        'transaction', bdr.internal_own_transaction(),
        'start', bdr.internal_pg_time(pg_postmaster_start_time())
    )));
    told timestamptz;
    agent_seen timestamptz := began;
    pause double precision := 0.002;
    answer text;
    reason text;
BEGIN
    -- Wakes the agent when the transaction commits. It also keeps the transaction from being prepared: the lock would end before it.
    PERFORM pg_notify('bdr', '');
    LOOP
        -- Again and again: an agent that is started anew does not know what its predecessor was told.
        IF told IS NULL OR clock_timestamp() > told + interval '1 s' THEN
            told := clock_timestamp();
            PERFORM bdr.internal_emit_message(message);
            IF bdr.internal_server_major() < 17 THEN
                PERFORM pg_try_advisory_xact_lock_shared(1650749952, 6);
            END IF;
        END IF;
        -- Else sessions are seen as they were when this transaction looked at them first.
        PERFORM pg_stat_clear_snapshot();
        answer := bdr.internal_lock_answer(number);
        CASE coalesce(answer, '')
            WHEN '' THEN
            WHEN 'granted', 'nothing' THEN
                RETURN answer;
            WHEN 'forbidden' THEN
                RAISE EXCEPTION 'permission denied to hold up other nodes'' writes for this command'
                    USING ERRCODE = 'insufficient_privilege',
                          DETAIL = 'The role does not own what the command changes, as other sessions see it, or that is not known.',
                          HINT = 'Let its owner, or a superuser, run the command.';
            WHEN 'locked' THEN
                SELECT string_agg(l::regclass::text, ', ' ORDER BY l::regclass::text) INTO reason
                FROM bdr.internal_own_strong_locks() AS l
                WHERE l IN (SELECT r FROM bdr.internal_replicated_tables() AS r);
                PERFORM bdr.internal_refuse_late_lock(reason);
            WHEN 'deadlock' THEN
                RAISE EXCEPTION 'deadlock detected while waiting for the global lock'
                    USING ERRCODE = 'deadlock_detected',
                          DETAIL = 'Changes of other nodes, which must be applied first, wait for what this transaction has locked or written.',
                          HINT = 'Run the transaction again; begin it with what changes definitions, or with bdr.acquire_global_lock(''write_lock''), which a superuser may grant to the role.';
        END CASE;
        IF clock_timestamp() > deadline THEN
            reason := nullif(bdr.internal_explain_wait(), '');
            IF reason ~ '^Node ' THEN
                RAISE EXCEPTION 'database is locked against ddl by another node'
                    USING ERRCODE = 'lock_not_available', DETAIL = reason,
                          HINT = 'bdr.bdr_ddl_lock_timeout says how long to wait; SELECT * FROM bdr.bdr_locks shows who holds the lock.';
            END IF;
            RAISE EXCEPTION 'canceling statement due to global lock timeout'
                USING ERRCODE = 'lock_not_available', DETAIL = coalesce(reason, 'Not all nodes have answered.'),
                      HINT = 'bdr.bdr_ddl_lock_timeout says how long to wait. A node that is lost for good holds everybody up: part it from the group.';
        END IF;
        IF bdr.internal_agent_pid() IS NOT NULL THEN
            agent_seen := clock_timestamp();
        ELSIF clock_timestamp() > agent_seen + interval '10 s' THEN
            RAISE EXCEPTION 'no bdr agent is running for this server'
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Start one beside the server: bdr agent --dsn "..."';
        END IF;
        PERFORM pg_sleep(pause);
        pause := least(pause * 1.2, 0.05);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_wait_for_lock(jsonb) FROM PUBLIC;

-- False where the lock is passed over; an error where this session may not ask for it.
CREATE OR REPLACE FUNCTION bdr.internal_may_ask_for_lock()
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF bdr.internal_skips_locking() THEN
        RETURN false;
    END IF;
    IF NOT bdr.internal_is_on('bdr.permit_ddl_locking', true) THEN
        RAISE EXCEPTION 'Global DDL locking attempt rejected by configuration'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'bdr.permit_ddl_locking is off: SET bdr.permit_ddl_locking = on; in this session.';
    END IF;
    IF NOT EXISTS (
        SELECT FROM bdr.bdr_nodes AS n
        JOIN bdr.bdr_local_node AS l
          ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.node_sysid, l.node_timeline, l.node_dboid)
        WHERE n.node_status = 'r'
    ) THEN
        RAISE EXCEPTION 'No peer nodes or peer node count unknown, cannot acquire global lock'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'BDR is probably still starting up, wait a while';
    END IF;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_may_ask_for_lock() FROM PUBLIC;

-- Asks, and waits. Only for functions that have made sure that their caller may. `named`: pairs of schema and name, NULL for all.
CREATE OR REPLACE FUNCTION bdr.internal_ask_for_lock(lockmode text, named jsonb, majority_will_do boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reason text;
BEGIN
    IF lockmode = 'nolock' THEN
        RETURN;
    ELSIF lockmode IS NULL OR lockmode NOT IN ('ddl_lock', 'write_lock') THEN
        RAISE EXCEPTION 'unknown lock type %', coalesce(lockmode, 'NULL') USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT bdr.internal_may_ask_for_lock() OR bdr.internal_holds_lock(lockmode, named, majority_will_do) THEN
        RETURN;
    END IF;
    -- Not here, where the lock is asked for too late: what the transaction holds, changes of other nodes may wait for, which must be
    -- applied before a write lock is granted. A table that it has made is on no other node.
    IF lockmode = 'write_lock' THEN
        SELECT string_agg(l::regclass::text, ', ' ORDER BY l::regclass::text) INTO reason
        FROM bdr.internal_own_strong_locks() AS l
        JOIN bdr.internal_locked_tables(named) AS t ON t = l;
        IF reason IS NOT NULL THEN
            PERFORM bdr.internal_refuse_late_lock(reason);
        END IF;
    END IF;
    PERFORM bdr.internal_wait_for_lock(jsonb_build_object(
        'mode', lockmode,
        'tables', named,
        'majority', majority_will_do AND current_setting('bdr.ddl_lock_quorum', true) IS NOT DISTINCT FROM 'majority',
        'command', NULL
    ));
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_ask_for_lock(text, jsonb, boolean) FROM PUBLIC;

-- A group of one has nobody to ask; who joins it, copies what is committed, and runs what comes later.
CREATE OR REPLACE FUNCTION bdr.internal_is_alone()
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT count(*) <= 1 FROM bdr.bdr_nodes AS n WHERE n.node_status NOT IN ('b', 'k') $$;
REVOKE ALL ON FUNCTION bdr.internal_is_alone() FROM PUBLIC;

-- For everybody: a ddl_lock for what is replicated as a command, and is none, so that it comes in one order on all nodes.
CREATE OR REPLACE FUNCTION bdr.internal_order_definition()
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Not where it arrives, nor where it stays on this node.
    IF bdr.internal_is_replica() OR NOT bdr.internal_captures_commands()
       OR bdr.internal_superuser_setting('bdr.skip_ddl_replication', session_user) OR bdr.internal_is_alone()
    THEN
        RETURN;
    END IF;
    PERFORM bdr.internal_ask_for_lock('ddl_lock', '[]', false);
END
$$;
COMMENT ON FUNCTION bdr.internal_order_definition() IS 'Internal: the global lock of calls that are replicated';

-- Waits until a command may run. What it needs, the agent finds out from its text, or its call stack: which tables, and how strong.
CREATE OR REPLACE FUNCTION bdr.internal_lock_for_command(
    role text, command text, is_context boolean, path text[]
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    -- Bytes of a text that is told to the agent.
    longest CONSTANT integer := 16 * 1024 * 1024;
    this text;
    answer text;
BEGIN
    IF bdr.internal_is_alone()
       OR NOT bdr.internal_may_ask_for_lock()
       OR bdr.internal_holds_lock('write_lock', NULL, false)
    THEN
        RETURN;
    END IF;
    -- The first command of a text asks for all that are in it.
    this := concat_ws(' ', md5(command), bdr.internal_text_sent_at(), role, path);
    IF NOT is_context AND bdr.internal_session_token('locks ' || this) = current_setting('bdr.locked_text', true) THEN
        RETURN;
    END IF;
    answer := bdr.internal_wait_for_lock(jsonb_build_object(
        'mode', NULL,
        'tables', NULL,
        'majority', current_setting('bdr.ddl_lock_quorum', true) IS NOT DISTINCT FROM 'majority',
        'command', jsonb_build_object(
            'text', CASE WHEN octet_length(command) <= longest THEN command END,
            'isContext', is_context,
            'isAlone', NOT is_context AND transaction_timestamp() = statement_timestamp(),
            'place', jsonb_build_object(
                'role', role,
                'path', path,
                'temporary', ARRAY(SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = pg_my_temp_schema() AND c.relkind <> 'i'),
                'locked', (
                    SELECT coalesce(jsonb_agg(jsonb_build_object('oid', l::bigint, 'schema', n.nspname, 'name', c.relname)), '[]')
                    FROM bdr.internal_own_strong_locks() AS l
                    LEFT JOIN pg_class AS c ON c.oid = l
                    LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
                )
            )
        )
    ));
    IF NOT is_context THEN
        PERFORM set_config('bdr.locked_text', bdr.internal_session_token('locks ' || this), true);
    END IF;
    IF answer = 'nothing' THEN
        PERFORM set_config('bdr.local_text', bdr.internal_local_text_token(command), true);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_lock_for_command(text, text, boolean, text[]) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.acquire_global_lock(lockmode text)
RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT bdr.internal_ask_for_lock(lockmode, NULL, false) $$;
COMMENT ON FUNCTION bdr.acquire_global_lock(text) IS
    'Takes the global lock, ddl_lock or write_lock on all tables, until the transaction ends; returns when all nodes have granted it';
REVOKE ALL ON FUNCTION bdr.acquire_global_lock(text) FROM PUBLIC;

-- For everybody, and with his own rights: who may lock the tables against writes here may hold back those of other nodes, too. The
-- locks that he takes here are what the next function goes by.
CREATE OR REPLACE FUNCTION bdr.internal_acquire_lock(lockmode text, tables regclass[], may_be_majority boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target regclass;
BEGIN
    IF lockmode = 'write_lock' THEN
        FOREACH target IN ARRAY tables LOOP
            EXECUTE format('LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE', target);
        END LOOP;
    END IF;
    PERFORM bdr.internal_acquire_lock_on_locked(lockmode, tables, may_be_majority);
END
$$;
COMMENT ON FUNCTION bdr.internal_acquire_lock(text, regclass[], boolean) IS
    'As acquire_global_lock(), where a write lock covers the tables named, with their partitions, and the caller may write to them';

CREATE OR REPLACE FUNCTION bdr.internal_acquire_lock_on_locked(lockmode text, tables regclass[], may_be_majority boolean)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unlocked text := (
        SELECT string_agg(t::text, ', ')
        FROM unnest(tables) AS t
        WHERE lockmode <> 'ddl_lock' AND NOT EXISTS (
            SELECT FROM pg_locks AS l
            WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.relation = t::oid AND l.granted
              AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
              AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
        )
    );
BEGIN
    IF unlocked IS NOT NULL OR tables IS NULL THEN
        RAISE EXCEPTION 'cannot acquire the global write lock on tables that are not locked'
            USING ERRCODE = 'insufficient_privilege', DETAIL = format('Not locked: %s.', unlocked),
                  HINT = 'Call bdr.internal_acquire_lock(...), which locks them with the caller''s rights.';
    END IF;
    PERFORM bdr.internal_ask_for_lock(lockmode, (
        SELECT coalesce(jsonb_agg(jsonb_build_array(n.nspname, c.relname) ORDER BY c.oid), '[]')
        FROM unnest(tables) AS t
        JOIN pg_class AS c ON c.oid = t::oid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE lockmode = 'write_lock'
    ), may_be_majority);
END
$$;
COMMENT ON FUNCTION bdr.internal_acquire_lock_on_locked(text, regclass[], boolean) IS
    'The part of internal_acquire_lock() that needs rights of its own';

CREATE OR REPLACE VIEW bdr.bdr_locks AS
WITH me AS (
    SELECT sysid, timeline, dboid FROM bdr.bdr_get_local_nodeid()
), members AS (
    SELECT n.* FROM bdr.bdr_nodes AS n WHERE n.node_status NOT IN ('b', 'k')
), owners AS (
    SELECT l.*, m.node_name, (l.owning_sysid, l.owning_timeline, l.owning_datid) = (me.sysid, me.timeline, me.dboid) AS is_mine
    FROM bdr.bdr_global_locks AS l
    JOIN members AS m ON (m.node_sysid, m.node_timeline, m.node_dboid) = (l.owning_sysid, l.owning_timeline, l.owning_datid)
    CROSS JOIN me
    WHERE (l.owning_sysid, l.owning_timeline, l.owning_datid) = (l.acquired_sysid, l.acquired_timeline, l.acquired_datid)
      AND l.state <> 'released'
), answers AS (
    SELECT o.owning_sysid, o.owning_timeline, o.owning_datid, m.node_name,
           (m.node_sysid, m.node_timeline, m.node_dboid) = (me.sysid, me.timeline, me.dboid) AS is_mine,
           a.state, a.acquired_lock_at
    FROM owners AS o
    CROSS JOIN me
    JOIN members AS m ON (m.node_sysid, m.node_timeline, m.node_dboid) <> (o.owning_sysid, o.owning_timeline, o.owning_datid)
    LEFT JOIN bdr.bdr_global_locks AS a
      ON (a.owning_sysid, a.owning_timeline, a.owning_datid) = (o.owning_sysid, o.owning_timeline, o.owning_datid)
     AND (a.acquired_sysid, a.acquired_timeline, a.acquired_datid) = (m.node_sysid, m.node_timeline, m.node_dboid)
     AND a.lock_number = o.lock_number AND a.lock_round = o.lock_round
)
SELECT o.is_mine AS owner_is_my_node,
       o.owning_sysid AS owner_sysid,
       o.owning_timeline AS owner_timeline,
       o.owning_datid AS owner_dboid,
       o.node_name AS owner_node_name,
       o.locktype AS lock_mode,
       CASE WHEN o.owning_sysid IS NULL THEN 'nolock'
            WHEN o.is_mine THEN CASE o.state WHEN 'acquired' THEN 'acquire_acquired' ELSE 'acquire_tally_confirmations' END
            ELSE CASE mine.state WHEN 'acquired' THEN 'peer_confirmed' WHEN 'catchup' THEN 'peer_catchup' ELSE 'peer_begin_catchup' END
       END AS lock_state,
       CASE WHEN o.is_mine THEN o.owner_pid END AS owner_local_pid,
       o.is_mine AND o.owner_pid = pg_catalog.pg_backend_pid() AS owner_is_my_backend,
       (SELECT r.roident FROM bdr.bdr_links AS k
        JOIN pg_catalog.pg_replication_origin AS r ON r.roname = k.origin_name
        WHERE (k.provider_sysid, k.provider_timeline, k.provider_dboid) = (o.owning_sysid, o.owning_timeline, o.owning_datid)
       ) AS owner_replorigin,
       o.lock_round AS lockcount,
       tally.npeers, tally.npeers_confirmed, 0 AS npeers_declined, tally.npeers_replayed,
       mine.acquired_lock_at AS replay_upto,
       -- BDR has none of the columns that follow.
       o.asked_at, o.changed_at, o.tables, tally.waiting_for
FROM (SELECT 1) AS always
LEFT JOIN owners AS o ON true
LEFT JOIN answers AS mine
  ON mine.is_mine AND (mine.owning_sysid, mine.owning_timeline, mine.owning_datid) = (o.owning_sysid, o.owning_timeline, o.owning_datid)
LEFT JOIN LATERAL (
    SELECT pg_catalog.count(*)::integer AS npeers,
           pg_catalog.count(*) FILTER (WHERE a.state = 'acquired')::integer AS npeers_confirmed,
           pg_catalog.count(a.state)::integer AS npeers_replayed,
           pg_catalog.array_agg(a.node_name ORDER BY a.node_name) FILTER (WHERE a.state IS DISTINCT FROM 'acquired') AS waiting_for
    FROM answers AS a
    WHERE (a.owning_sysid, a.owning_timeline, a.owning_datid) = (o.owning_sysid, o.owning_timeline, o.owning_datid)
) AS tally ON o.owning_sysid IS NOT NULL;
COMMENT ON VIEW bdr.bdr_locks IS 'Who holds the global lock or asks for it, and who has not answered; one row of NULLs while nobody does';
REVOKE ALL ON bdr.bdr_locks FROM PUBLIC;

-- As in BDR 2.0.
CREATE OR REPLACE FUNCTION bdr.global_lock_info(
    OUT owner_replorigin oid, OUT owner_sysid text, OUT owner_timeline oid, OUT owner_dboid oid, OUT lock_mode text,
    OUT lock_state text, OUT owner_local_pid integer, OUT lockcount integer, OUT npeers integer, OUT npeers_confirmed integer,
    OUT npeers_declined integer, OUT npeers_replayed integer, OUT replay_upto pg_lsn
)
RETURNS record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.owner_replorigin, l.owner_sysid, l.owner_timeline, l.owner_dboid, l.lock_mode, l.lock_state, l.owner_local_pid,
           l.lockcount, l.npeers, l.npeers_confirmed, l.npeers_declined, l.npeers_replayed, l.replay_upto
    FROM bdr.bdr_locks AS l
    -- What is held, else what was asked for first.
    ORDER BY l.lock_state LIKE '%acquired' OR l.lock_state LIKE 'peer_c%' DESC, l.asked_at
    LIMIT 1
$$;
COMMENT ON FUNCTION bdr.global_lock_info() IS 'The first row of bdr_locks';
REVOKE ALL ON FUNCTION bdr.global_lock_info() FROM PUBLIC;
