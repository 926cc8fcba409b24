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

-- Where a transaction that is sent ahead begins: from here on nobody can begin to pause apply until the commit, and the tables
-- named stay what they are.
CREATE OR REPLACE FUNCTION bdr.internal_enter_ahead(tables oid[], and_casts boolean, definitions text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE bdr.bdr_local_node IN ROW SHARE MODE;
    IF NOT bdr.internal_hold_definitions(tables, and_casts, definitions) THEN
        PERFORM bdr.internal_look_again('definitions');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_enter_ahead(oid[], boolean, text) FROM PUBLIC;

-- Whether this node is sent the deletions of the rows of which it is sent updates: in a set that sends none, rows stay where they were
-- deleted elsewhere.
CREATE OR REPLACE FUNCTION bdr.internal_gets_deletions(
    relation oid, provider_sysid text, provider_timeline oid, provider_dboid oid
)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.deletes AND (a.delete_filter IS NULL OR a.delete_filter = a.update_filter)
    FROM bdr.bdr_local_node AS me
    CROSS JOIN LATERAL bdr.internal_sent_actions(
        bdr.internal_sets_of(relation), bdr.internal_filters_of(relation),
        bdr.internal_sets_from(
            me.node_sysid, me.node_timeline, me.node_dboid, provider_sysid, provider_timeline, provider_dboid
        )
    ) AS a
$$;
REVOKE ALL ON FUNCTION bdr.internal_gets_deletions(oid, text, oid, oid) FROM PUBLIC;
