-- A node that applies a peer's command tells the others so in its own log, before what its users write under the new definition: they
-- take nothing that follows before they have the command too (docs/concepts/ddl.md). Else a row of a table that was made anew would
-- get into the old one, and be gone with it.

CREATE OR REPLACE FUNCTION bdr.internal_tell_definition(sysid text, timeline oid, dboid oid, commit_lsn pg_lsn)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Of no transaction, so that it stands in the log at once.
    PERFORM pg_logical_emit_message(false, 'bdr', bdr.internal_sign_message(jsonb_build_object('definition', jsonb_build_object(
        'sysid', sysid, 'timeline', timeline::bigint, 'dboid', dboid::bigint, 'lsn', commit_lsn
    ))));
END
$$;
COMMENT ON FUNCTION bdr.internal_tell_definition(text, oid, oid, pg_lsn) IS
    'Internal: tells that a command of another node comes before what this node''s users write from now on';
REVOKE ALL ON FUNCTION bdr.internal_tell_definition(text, oid, oid, pg_lsn) FROM PUBLIC;

-- Whether what a node committed there is applied here; a node that is none any more is not waited for.
CREATE OR REPLACE FUNCTION bdr.internal_has_definition(sysid text, timeline oid, dboid oid, commit_lsn pg_lsn)
RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT EXISTS (
        SELECT FROM bdr.bdr_nodes AS n
        WHERE (n.node_sysid, n.node_timeline, n.node_dboid) = ($1, $2, $3) AND n.node_status <> 'k'
          AND NOT EXISTS (
              SELECT FROM bdr.bdr_local_node AS me
              WHERE (me.node_sysid, me.node_timeline, me.node_dboid) = ($1, $2, $3)
          )
    ) OR EXISTS (
        SELECT FROM bdr.bdr_links AS k
        JOIN pg_replication_origin AS o ON o.roname = k.origin_name
        WHERE (k.provider_sysid, k.provider_timeline, k.provider_dboid) = ($1, $2, $3)
          -- The end of the last transaction that was applied, which may be where the next one begins to commit.
          AND pg_replication_origin_progress(o.roname, false) > $4
    )
$$;
COMMENT ON FUNCTION bdr.internal_has_definition(text, oid, oid, pg_lsn) IS 'Internal: whether a command of another node is here too';
REVOKE ALL ON FUNCTION bdr.internal_has_definition(text, oid, oid, pg_lsn) FROM PUBLIC;
