-- Which command of a statement it is, where a function has run the statement: EXECUTE may run several commands at once, and event triggers
-- are not told which of them it is (docs/concepts/ddl.md).
--
-- They are counted. A statement is known by the call stack from it on. Its commands all run, or an error takes the statement back as a
-- whole, and this count with it, because a setting that is made for the transaction goes back to what it was before. So whenever a statement
-- is over, what was counted for its stack is a multiple of its number of commands: of n commands it is the one in place count modulo n,
-- also when a loop runs the statement again. Where the stack is not at the end of that of a later command, its statement is over, and its
-- count is dropped: what is kept are counts of the statements that are under way.

-- What is counted in this transaction for statements at the end of a call stack, the outermost first. NULL where nothing was.
CREATE OR REPLACE FUNCTION bdr.internal_statement_counts(stack text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    token text := current_setting('bdr.statement_commands', true);
    content text := substring(token FROM ' (statements .*)$');
BEGIN
    IF content IS NULL OR token <> bdr.internal_session_token(content) THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT coalesce(jsonb_agg(s.entry ORDER BY (s.entry ->> 'length')::integer), '[]')
        FROM jsonb_array_elements(substr(content, length('statements ') + 1)::jsonb) AS s (entry)
        WHERE s.entry ->> 'hash' = md5(right(stack, (s.entry ->> 'length')::integer))
    );
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_statement_counts(text) FROM PUBLIC;

-- Whether commands of statements were counted in this transaction: said by a lock, which is taken back when the count is, and by no
-- RESET ALL.
CREATE OR REPLACE FUNCTION bdr.internal_counts_statements()
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.pid = pg_backend_pid() AND l.locktype = 'advisory' AND l.classid = 1650749952 AND l.objid = 5 AND l.objsubid = 2
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_counts_statements() FROM PUBLIC;

-- Counts a command that begins. `stack` is what has called, without what event triggers are called by.
CREATE OR REPLACE FUNCTION bdr.internal_count_command(stack text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    counts jsonb;
    hash text := md5(stack);
    counted integer;
BEGIN
    -- One command by itself.
    IF strpos(stack, ';') = 0 THEN
        RETURN;
    END IF;
    counts := bdr.internal_statement_counts(stack);
    IF counts IS NULL THEN
        IF bdr.internal_counts_statements() THEN
            RAISE EXCEPTION 'DDL command attempted after RESET ALL in one transaction'
                USING ERRCODE = 'feature_not_supported',
                      DETAIL = 'Which command of its statement it is cannot be told any more.',
                      HINT = 'EXECUTE the commands one by one, or RESET the settings by name.';
        END IF;
        PERFORM pg_advisory_xact_lock_shared(1650749952, 5);
        counts := '[]';
    END IF;
    counted := (
        SELECT (s.entry ->> 'count')::integer FROM jsonb_array_elements(counts) AS s (entry) WHERE s.entry ->> 'hash' = hash
    );
    IF counted IS NOT NULL THEN
        -- The innermost one is that of the whole stack.
        counts := counts - -1;
    END IF;
    counts := counts || jsonb_build_object('hash', hash, 'length', length(stack), 'count', coalesce(counted, 0) + 1);
    PERFORM set_config('bdr.statement_commands', bdr.internal_session_token('statements ' || counts::text), true);
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_count_command(text) FROM PUBLIC;

-- What is queued of a command that a function has run, and which command of that it is: NULL for the only one. Where other nodes could
-- not tell its text from what is known, it is refused.
CREATE OR REPLACE FUNCTION bdr.internal_statement_command(stack text, OUT command text, OUT "position" integer)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF stack LIKE 'SQL function "%' THEN
        command := bdr.internal_sql_function_text(stack);
        IF command IS NULL THEN
            RAISE EXCEPTION 'DDL command attempted inside function or multi-statement string'
                USING ERRCODE = 'feature_not_supported',
                      DETAIL = split_part(stack, E'\n', 1),
                      HINT = 'Several functions in SQL have that name, or it was made in this transaction, so the text of the command is not known. '
                          || 'Use PL/pgSQL, or bdr.bdr_replicate_ddl_command(...).';
        END IF;
        RETURN;
    END IF;
    command := stack;
    IF strpos(stack, ';') > 0 THEN
        "position" := (
            SELECT (s.entry ->> 'count')::integer
            FROM jsonb_array_elements(bdr.internal_statement_counts(stack)) AS s (entry)
            WHERE s.entry ->> 'hash' = md5(stack)
        );
    END IF;
    -- Where the statement ends is told by what has run it.
    IF stack !~ E'^SQL statement ".*"(\\n(PL/|SQL )|$)' OR ("position" IS NULL AND strpos(stack, ';') > 0) THEN
        RAISE EXCEPTION 'DDL command attempted inside function or multi-statement string'
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = split_part(stack, E'\n', 1),
                  HINT = 'The text of the command is not known. Use PL/pgSQL and one EXECUTE for each command, or bdr.bdr_replicate_ddl_command(...).';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_statement_command(text) FROM PUBLIC;

-- The line of a call stack that tells of a statement of a function in SQL, and below it the function's body. NULL where it is not certain
-- which function it is: the line has its bare name, and one that this transaction has made, or another since the statement was sent, may
-- not be the one that is running.
CREATE OR REPLACE FUNCTION bdr.internal_sql_function_text(stack text)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    line text := split_part(stack, E'\n', 1);
    name text := substring(line FROM '^SQL function "(.*)" statement [0-9]+$');
BEGIN
    RETURN (
        SELECT line || E'\n' || min(p.prosrc)
        FROM pg_proc AS p
        JOIN pg_language AS l ON l.oid = p.prolang
        WHERE l.lanname = 'sql' AND p.proname = name
          -- BEGIN ATOMIC takes no such commands.
          AND p.prosqlbody IS NULL
        HAVING count(DISTINCT p.prosrc) = 1
           AND bool_and(age(p.xmin) > 0 AND CASE
               WHEN current_setting('track_commit_timestamp') = 'on'
               THEN coalesce(pg_xact_commit_timestamp(p.xmin) < statement_timestamp(), true)
           END)
    );
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_sql_function_text(text) FROM PUBLIC;
