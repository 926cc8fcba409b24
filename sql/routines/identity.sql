-- Who this node is, and which version it runs.

CREATE OR REPLACE FUNCTION bdr.bdr_version()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT '1.0.0-pg-bdr' $$;
COMMENT ON FUNCTION bdr.bdr_version() IS 'Version of the bdr objects in this database';

CREATE OR REPLACE FUNCTION bdr.bdr_version_num()
RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT 10000 $$;
COMMENT ON FUNCTION bdr.bdr_version_num() IS 'The version as major * 10000 + minor * 100 + revision';

-- Event triggers and others that are not ENABLE ALWAYS do not fire then: in apply sessions, and where a superuser wants that.
CREATE OR REPLACE FUNCTION bdr.internal_is_replica()
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT current_setting('session_replication_role') = 'replica' $$;
REVOKE ALL ON FUNCTION bdr.internal_is_replica() FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_server_major()
RETURNS smallint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT (current_setting('server_version_num')::integer / 10000)::smallint $$;

CREATE OR REPLACE FUNCTION bdr.bdr_min_remote_version_num()
RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT 10000 $$;
COMMENT ON FUNCTION bdr.bdr_min_remote_version_num() IS 'The oldest version that a peer may have';

CREATE OR REPLACE FUNCTION bdr.bdr_variant()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT 'BDR' $$;

-- The stored identity counts only in the database it was made for: in a copy of it (CREATE DATABASE ... TEMPLATE) it is
-- somebody else's, and that copy must not act as the node.
CREATE OR REPLACE FUNCTION bdr.bdr_get_local_nodeid(OUT sysid text, OUT timeline oid, OUT dboid oid)
RETURNS record
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(l.node_sysid, s.system_identifier::text),
           coalesce(l.node_timeline, c.timeline_id::bigint::oid),
           d.oid
    FROM pg_control_system() AS s
    CROSS JOIN pg_control_checkpoint() AS c
    JOIN pg_database AS d ON d.datname = current_database()
    LEFT JOIN bdr.bdr_local_node AS l ON l.node_dboid = d.oid
$$;
COMMENT ON FUNCTION bdr.bdr_get_local_nodeid() IS 'Identity of this node; works also while BDR is not active';

CREATE OR REPLACE FUNCTION bdr.bdr_get_local_node_name()
RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT n.node_name
    FROM bdr.bdr_nodes AS n
    JOIN bdr.bdr_get_local_nodeid() AS me
      ON (n.node_sysid, n.node_timeline, n.node_dboid) = (me.sysid, me.timeline, me.dboid)
$$;
COMMENT ON FUNCTION bdr.bdr_get_local_node_name() IS 'Name of this node, or NULL';

CREATE OR REPLACE FUNCTION bdr.bdr_is_active_in_db()
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM bdr.bdr_local_node AS l
        JOIN pg_database AS d ON d.oid = l.node_dboid
        WHERE d.datname = current_database()
    )
$$;
COMMENT ON FUNCTION bdr.bdr_is_active_in_db() IS
    'True from the commit of create or join until BDR is removed from this node, parted or not';

CREATE OR REPLACE FUNCTION bdr.bdr_format_slot_name(
    remote_sysid text, remote_timeline oid, remote_dboid oid, local_dboid oid, replication_name name DEFAULT ''
)
RETURNS name
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('bdr_%s_%s_%s_%s__%s', local_dboid, remote_sysid, remote_timeline, remote_dboid, replication_name)::name $$;
COMMENT ON FUNCTION bdr.bdr_format_slot_name(text, oid, oid, oid, name) IS
    'Name of the slot in database local_dboid from which the remote node reads';

CREATE OR REPLACE FUNCTION bdr.bdr_parse_slot_name(
    slot_name name,
    OUT remote_sysid text, OUT remote_timeline oid, OUT remote_dboid oid, OUT local_dboid oid, OUT replication_name name
)
RETURNS record
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p[2], p[3]::oid, p[4]::oid, p[1]::oid, p[5]::name
    FROM (SELECT regexp_match(slot_name::text, E'^bdr_(\\d+)_(\\d+)_(\\d+)_(\\d+)__(.*)$')) AS parsed (p)
$$;
COMMENT ON FUNCTION bdr.bdr_parse_slot_name(name) IS 'The parts of a slot''s name; NULLs when it is not one of BDR''s';

CREATE OR REPLACE FUNCTION bdr.bdr_format_replident_name(
    remote_sysid text, remote_timeline oid, remote_dboid oid, local_dboid oid, replication_name name DEFAULT ''
)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('bdr_%s_%s_%s_%s_%s', remote_sysid, remote_timeline, remote_dboid, local_dboid, replication_name) $$;
COMMENT ON FUNCTION bdr.bdr_format_replident_name(text, oid, oid, oid, name) IS
    'Name of the replication origin under which changes of the remote node are applied in database local_dboid';

CREATE OR REPLACE FUNCTION bdr.bdr_parse_replident_name(
    replident text,
    OUT remote_sysid text, OUT remote_timeline oid, OUT remote_dboid oid, OUT local_dboid oid, OUT replication_name name
)
RETURNS record
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p[1], p[2]::oid, p[3]::oid, p[4]::oid, p[5]::name
    FROM (SELECT regexp_match(replident, E'^bdr_(\\d+)_(\\d+)_(\\d+)_(\\d+)_(.*)$')) AS parsed (p)
$$;
COMMENT ON FUNCTION bdr.bdr_parse_replident_name(text) IS 'The parts of an origin''s name; NULLs when it is not one of BDR''s';

-- SECURITY DEFINER, because the server lets only superusers ask, and triggers of any role may want to.
CREATE OR REPLACE FUNCTION bdr.bdr_replication_identifier_is_replaying()
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_replication_origin_session_is_setup() $$;
COMMENT ON FUNCTION bdr.bdr_replication_identifier_is_replaying() IS
    'True in a session that applies changes of another node; for triggers that ask why they fire';

CREATE OR REPLACE FUNCTION bdr.node_status_from_char("char")
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE $1
        WHEN 'b' THEN 'BDR_NODE_STATUS_BEGINNING_INIT'
        WHEN 'i' THEN 'BDR_NODE_STATUS_COPYING_INITIAL_DATA'
        WHEN 'c' THEN 'BDR_NODE_STATUS_CATCHUP'
        WHEN 'o' THEN 'BDR_NODE_STATUS_CREATING_OUTBOUND_SLOTS'
        WHEN 'r' THEN 'BDR_NODE_STATUS_READY'
        WHEN 'k' THEN 'BDR_NODE_STATUS_KILLED'
    END
$$;

CREATE OR REPLACE FUNCTION bdr.node_status_to_char(text)
RETURNS "char"
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE $1
        WHEN 'BDR_NODE_STATUS_BEGINNING_INIT' THEN 'b'
        WHEN 'BDR_NODE_STATUS_COPYING_INITIAL_DATA' THEN 'i'
        WHEN 'BDR_NODE_STATUS_CATCHUP' THEN 'c'
        WHEN 'BDR_NODE_STATUS_CREATING_OUTBOUND_SLOTS' THEN 'o'
        WHEN 'BDR_NODE_STATUS_READY' THEN 'r'
        WHEN 'BDR_NODE_STATUS_KILLED' THEN 'k'
    END::"char"
$$;

-- What a domain is made of, through all domains between; any other type is itself.
CREATE OR REPLACE FUNCTION bdr.internal_base_type(type oid)
RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE base AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type AS t WHERE t.oid = type
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
    )
    SELECT b.oid FROM base AS b WHERE b.typtype <> 'd'
$$;
REVOKE ALL ON FUNCTION bdr.internal_base_type(oid) FROM PUBLIC;

-- Whether hash_record_extended() takes values of a type: its parts decide, which only the server itself knows.
CREATE OR REPLACE FUNCTION bdr.internal_is_hashable(type oid)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A domain may not allow the NULL by which its type is tried.
    EXECUTE format('SELECT hash_record_extended(ROW(NULL::%s), 0)', format_type(bdr.internal_base_type(type), NULL));
    RETURN true;
EXCEPTION
    WHEN undefined_function THEN
        RETURN false;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_hashable(oid) FROM PUBLIC;

-- A generated column of the key by which the rows of a table are told apart where they are sent; NULL for none. The server does not send it, so
-- that a key would mean other rows elsewhere. From 18 on it refuses UPDATE and DELETE there.
CREATE OR REPLACE FUNCTION bdr.internal_generated_key_column(relation oid)
RETURNS name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.attname
    FROM pg_class AS c
    JOIN pg_index AS i
      ON i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
    CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum AND a.attgenerated <> ''
    WHERE c.oid = relation AND k.place <= i.indnkeyatts
    ORDER BY k.place
    LIMIT 1
$$;
REVOKE ALL ON FUNCTION bdr.internal_generated_key_column(oid) FROM PUBLIC;

-- What this transaction has locked so that apply cannot write to it.
CREATE OR REPLACE FUNCTION bdr.internal_own_strong_locks()
RETURNS SETOF oid
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT l.relation
    FROM pg_locks AS l
    WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
      AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
      AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock')
$$;
REVOKE ALL ON FUNCTION bdr.internal_own_strong_locks() FROM PUBLIC;
