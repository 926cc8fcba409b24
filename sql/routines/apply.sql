-- What apply sends without waiting for an answer: statements that stop the server where somebody must look first. All messages
-- up to the next Sync are passed over then, so the transactions behind the one that stopped do not run.

CREATE OR REPLACE FUNCTION bdr.internal_look_again(reason text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- An everyday event, which is nothing for the server's log.
SET log_min_messages = fatal
AS $$
BEGIN
    RAISE EXCEPTION 'a replicated change has to be looked at first: %', reason USING ERRCODE = 'BDR01', DETAIL = reason;
END
$$;
COMMENT ON FUNCTION bdr.internal_look_again(text) IS 'Always fails: what was sent ahead ends here, and the agent goes on step by step';
REVOKE ALL ON FUNCTION bdr.internal_look_again(text) FROM PUBLIC;
