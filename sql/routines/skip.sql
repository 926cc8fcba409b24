-- Passing over transactions of a peer that cannot be applied here.

-- As in BDR, with its guards and texts. The agent does the work: it reads the stream from where it stands, and for each
-- transaction up to upto_lsn commits the new position together with a record of what was skipped.
CREATE OR REPLACE FUNCTION bdr.skip_changes_upto(from_sysid text, from_timeline oid, from_dboid oid, upto_lsn pg_lsn)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me record;
    link record;
    peer text;
BEGIN
    IF NOT coalesce(nullif(current_setting('bdr.permit_unsafe_ddl_commands', true), '')::boolean, false) THEN
        RAISE EXCEPTION 'skipping changes is unsafe and will cause replicas to be out of sync'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Set bdr.permit_unsafe_ddl_commands if you are sure you want to do this';
    END IF;
    -- Any role can set a parameter that no library defines: it counts where a superuser has set it.
    IF NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = session_user) THEN
        RAISE EXCEPTION 'permission denied to set parameter "bdr.permit_unsafe_ddl_commands"'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF coalesce(upto_lsn, '0/0') = '0/0' THEN
        RAISE EXCEPTION 'Target LSN must be nonzero' USING ERRCODE = 'numeric_value_out_of_range';
    END IF;
    IF coalesce(from_sysid, '') !~ E'^\\d{1,20}$' THEN
        RAISE EXCEPTION 'Parsing of remote sysid as uint64 failed' USING ERRCODE = 'internal_error';
    END IF;
    SELECT * INTO me FROM bdr.bdr_get_local_nodeid();
    IF (from_sysid, from_timeline, from_dboid) = (me.sysid, me.timeline, me.dboid) THEN
        RAISE EXCEPTION 'the passed ID is for the local node, can''t skip changes from self' USING ERRCODE = 'internal_error';
    END IF;
    SELECT l.*, pg_replication_origin_progress(o.roname, false) AS progress INTO link
    FROM bdr.bdr_links AS l
    JOIN pg_replication_origin AS o ON o.roname = l.origin_name
    WHERE (l.provider_sysid, l.provider_timeline, l.provider_dboid) = (from_sysid, from_timeline, from_dboid)
      AND l.start_lsn IS NOT NULL
    FOR UPDATE OF l;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no replication identifier found for node' USING ERRCODE = 'undefined_object';
    END IF;

    SELECT n.node_name INTO peer
    FROM bdr.bdr_nodes AS n
    WHERE (n.node_sysid, n.node_timeline, n.node_dboid) = (from_sysid, from_timeline, from_dboid);
    -- While a failing transaction is tried again its link is streaming, for a moment.
    IF link.status NOT IN ('failed', 'paused', 'down') AND link.failed_commit_lsn IS NULL THEN
        RAISE EXCEPTION 'replication from node % is not stopped', peer
            USING ERRCODE = 'object_in_use',
                  DETAIL = format('The link is %s.', link.status),
                  HINT = 'Changes can be skipped on a link that has failed, or while apply is paused: SELECT bdr.bdr_apply_pause();';
    END IF;
    -- A commit may begin where the last one that was applied has ended.
    IF upto_lsn < link.progress THEN
        RAISE EXCEPTION 'changes of node % up to % are applied already', peer, link.progress
            USING ERRCODE = 'numeric_value_out_of_range',
                  HINT = 'bdr.bdr_links.failed_commit_lsn is where the transaction that fails was committed.';
    END IF;

    UPDATE bdr.bdr_links AS l
    SET skip_upto_lsn = upto_lsn, skip_requested_by = session_user, skip_requested_at = clock_timestamp()
    WHERE (l.provider_sysid, l.provider_timeline, l.provider_dboid) = (from_sysid, from_timeline, from_dboid);
    RAISE LOG 'changes of node % up to % will be skipped, as % asks', peer, upto_lsn, session_user;
    RAISE NOTICE 'changes of node % from % up to % will be skipped', peer, link.progress, upto_lsn
        USING DETAIL = CASE WHEN bdr.bdr_apply_is_paused()
                            THEN 'Apply is paused: it is done when bdr.bdr_apply_resume() is called.'
                            ELSE 'The agent does it when this is committed; the link then goes on.' END,
              HINT = 'SELECT * FROM bdr.bdr_skipped_transactions; shows each transaction that was skipped.';
    PERFORM bdr.internal_tell_agent();
END
$$;
COMMENT ON FUNCTION bdr.skip_changes_upto(text, oid, oid, pg_lsn) IS
    'Discards the transactions of a peer whose commit lies at upto_lsn or before, and that are not applied here yet; the nodes then differ';
REVOKE ALL ON FUNCTION bdr.skip_changes_upto(text, oid, oid, pg_lsn) FROM PUBLIC;
