-- How far back this server's commit records go (DESIGN 4.1, docs/decisions/0028-clocks-and-commit-records.md).
--
-- A row whose record is gone was written by a transaction below some id. When that one committed nobody knows any more; but by the
-- first mark at or above that id it had ended, and a commit time is never later than that.

-- Leaves a mark, unless the last is younger than ten minutes: the oldest transaction that runs, and then the clock.
CREATE OR REPLACE FUNCTION bdr.internal_mark_records()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    snapshot pg_snapshot := pg_current_snapshot();
    this_mark timestamptz := clock_timestamp();
    last_mark timestamptz := (SELECT max(m.marked_at) FROM bdr.record_mark AS m);
BEGIN
    IF last_mark > this_mark - interval '10 minutes' AND bdr.internal_oldest_record() IS NOT NULL THEN
        RETURN;
    END IF;
    -- A clock that stepped back takes nothing back: what committed before that has its time from before.
    INSERT INTO bdr.record_mark (marked_at, ended_below, next_xid)
    VALUES (greatest(this_mark, last_mark), pg_snapshot_xmin(snapshot), pg_snapshot_xmax(snapshot));
    -- On a server that does little, records live for years: then every second mark does.
    DELETE FROM bdr.record_mark AS m
    USING (
        SELECT x.ctid AS place, row_number() OVER (ORDER BY x.marked_at DESC) AS number, count(*) OVER () AS marks
        FROM bdr.record_mark AS x
    ) AS o
    WHERE o.place = m.ctid AND o.marks > 1000 AND o.number % 2 = 0;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_mark_records() FROM PUBLIC;

-- An id below which all records that are gone lie; NULL while that is not known.
--
-- pg_control_checkpoint() knows of the last checkpoint alone, and of times in which records were not kept; what was removed since then
-- lies below the oldest datfrozenxid, for by that it is removed. Where no records were kept at that checkpoint, they are kept since the
-- server was started.
CREATE OR REPLACE FUNCTION bdr.internal_oldest_record()
RETURNS xid8
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Ids have 32 bits there, and lie behind this one.
    next_id bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    checkpointed bigint := (SELECT c.oldest_commit_ts_xid::text::bigint FROM pg_control_checkpoint() AS c);
    frozen bigint := (SELECT min(next_id - bdr.internal_ids_behind(next_id, d.datfrozenxid::text::bigint)) FROM pg_database AS d);
    started bigint;
BEGIN
    IF checkpointed > 0 THEN
        RETURN greatest(frozen, next_id - bdr.internal_ids_behind(next_id, checkpointed))::text::xid8;
    END IF;
    SELECT min(m.next_xid::text::bigint) INTO started
    FROM bdr.record_mark AS m WHERE m.marked_at > pg_postmaster_start_time();
    RETURN CASE WHEN started IS NOT NULL THEN greatest(frozen, started)::text::xid8 END;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_oldest_record() FROM PUBLIC;

-- `lost_upto`: rows without a record were written no later. `may_be_false`: transaction ids have been used twice on this server, so that
-- the record of a frozen row may be another transaction's.
CREATE OR REPLACE FUNCTION bdr.internal_record_limit(OUT lost_upto timestamptz, OUT may_be_false boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    oldest xid8 := bdr.internal_oldest_record();
BEGIN
    may_be_false := pg_snapshot_xmax(pg_current_snapshot()) >= '4294967296'::xid8;
    -- By now, where there is no mark.
    lost_upto := coalesce(
        (SELECT min(m.marked_at) FROM bdr.record_mark AS m WHERE m.ended_below >= oldest), clock_timestamp()
    );
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_record_limit(OUT timestamptz, OUT boolean) FROM PUBLIC;

-- How many ids an id of 32 bits lies behind a whole one.
CREATE OR REPLACE FUNCTION bdr.internal_ids_behind(next_id bigint, id bigint)
RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT (next_id - id) & 4294967295 $$;
REVOKE ALL ON FUNCTION bdr.internal_ids_behind(bigint, bigint) FROM PUBLIC;

-- Up to when this node has applied each of its peers; NULL for one that is not known well enough.
CREATE OR REPLACE FUNCTION bdr.internal_peer_watermarks()
RETURNS SETOF timestamptz
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.watermark_at
    FROM bdr.bdr_nodes AS n
    LEFT JOIN bdr.bdr_links AS l
      ON (l.provider_sysid, l.provider_timeline, l.provider_dboid) = (n.node_sysid, n.node_timeline, n.node_dboid)
    WHERE n.node_status IN ('c', 'o', 'r')
      AND NOT EXISTS (
          SELECT FROM bdr.bdr_local_node AS me
          WHERE (me.node_sysid, me.node_timeline, me.node_dboid) = (n.node_sysid, n.node_timeline, n.node_dboid)
      )
$$;
REVOKE ALL ON FUNCTION bdr.internal_peer_watermarks() FROM PUBLIC;

-- Up to here this node has applied all that its peers have committed; NULL while one of them is not known well enough. Peers ask it.
CREATE OR REPLACE FUNCTION bdr.internal_applied_upto()
RETURNS timestamptz
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN bool_and(w IS NOT NULL) THEN min(w) END FROM bdr.internal_peer_watermarks() AS w
$$;
REVOKE ALL ON FUNCTION bdr.internal_applied_upto() FROM PUBLIC;

-- Up to here nothing that this node still sends can be older: no commit, which its clock tells, and no death of a row of its own below
-- one of a peer (docs/decisions/0027-unique-indexes.md). In microseconds since 2000; NULL while that is not known. A node that joins asks it.
CREATE OR REPLACE FUNCTION bdr.internal_settled_upto()
RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN count(*) = count(w) THEN
        least(bdr.internal_pg_time(clock_timestamp()), bdr.internal_pg_time(min(w)), bdr.internal_untold())
    END
    FROM bdr.internal_peer_watermarks() AS w
$$;
REVOKE ALL ON FUNCTION bdr.internal_settled_upto() FROM PUBLIC;
