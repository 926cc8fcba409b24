-- Ids that no two nodes give out: BDR 2's layout, over an ordinary sequence (docs/decisions/0031-global-sequences.md).
--
--     id = milliseconds since 2016-10-06 23:22:19.634 UTC << 24 | the node's number << 14 | count
--
-- The sequence holds the id that was given out last. Why none comes twice:
--
-- * Nodes have different numbers.
-- * A millisecond is begun by setting the sequence to it, with count 0, which no id has. That is done under a lock, and only to a
--   millisecond above the sequence's own: so each is begun once, whatever the clock does. When the clock has stepped back, ids go on
--   in the millisecond begun last.
-- * From there nextval() counts, which gives each value once.
-- * A count above 4095 is no id: the next millisecond is begun, before its time. Sessions hold no more than one value of these, so
--   the count does not run into the node's number.

-- Milliseconds since the moment from which ids count.
CREATE OR REPLACE FUNCTION bdr.internal_snowflake_clock()
RETURNS bigint
LANGUAGE sql VOLATILE
RETURN floor(date_part('epoch', clock_timestamp()) * 1000)::bigint - 1475796139634;

-- This node's number, under which no other node gives out ids. Two nodes that join through different members at the same moment can have
-- one number; they know of each other before either is ready.
CREATE OR REPLACE FUNCTION bdr.internal_snowflake_number()
RETURNS integer
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me bdr.bdr_nodes;
    other text;
BEGIN
    SELECT n.* INTO me
    FROM bdr.bdr_local_node AS l
    JOIN pg_database AS d ON d.oid = l.node_dboid AND d.datname = current_database()
    JOIN bdr.bdr_nodes AS n
      ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.node_sysid, l.node_timeline, l.node_dboid);
    IF me.node_status IS DISTINCT FROM 'r' OR me.node_seq_id IS NULL THEN
        RAISE EXCEPTION 'node sequence ID not allocated'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = CASE
                      WHEN me.node_status IS NULL THEN 'BDR is not active in this database.'
                      WHEN me.node_status = 'k' THEN 'This node was parted from its group.'
                      ELSE 'This node is not ready yet.'
                  END;
    END IF;
    SELECT n.node_name INTO other
    FROM bdr.bdr_nodes AS n
    WHERE n.node_seq_id = me.node_seq_id
      AND (n.node_joined_at, n.node_sysid, n.node_timeline, n.node_dboid)
          < (me.node_joined_at, me.node_sysid, me.node_timeline, me.node_dboid);
    IF other IS NOT NULL THEN
        RAISE EXCEPTION 'node sequence ID not allocated'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Node "%s", which joined before, has the same number %s.', other, me.node_seq_id),
                  HINT = 'Part this node and let it join again.';
    END IF;
    IF me.node_seq_id > 1023 THEN
        RAISE EXCEPTION 'node sequence ID % does not fit into snowflake ids', me.node_seq_id
            USING ERRCODE = 'numeric_value_out_of_range', DETAIL = 'Numbers up to 1023 do.';
    END IF;
    RETURN me.node_seq_id;
END
$$;

-- Begins the millisecond of the clock, or the next one, unless the sequence is in a millisecond of this node that does yet.
CREATE OR REPLACE FUNCTION bdr.internal_set_millisecond(sequence regclass, node integer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lock_key bigint := (1650749953::bigint << 32) | sequence::oid::bigint;
    is_held boolean := false;
    last bigint := pg_sequence_last_value(sequence);
    fits boolean := coalesce(last & 12288 = 0 AND (last >> 14) & 1023 = node, false);
    begun bigint := (last >> 24) & 1099511627775;
BEGIN
    IF fits AND begun >= bdr.internal_snowflake_clock() THEN
        RETURN;
    END IF;
    BEGIN
        IF fits THEN
            is_held := pg_try_advisory_lock(lock_key);
            IF NOT is_held THEN
                -- Somebody is at it. Until then ids are of the last millisecond, and as good.
                RETURN;
            END IF;
        ELSE
            is_held := pg_advisory_lock(lock_key) IS NOT NULL;
        END IF;
        last := coalesce(pg_sequence_last_value(sequence), 0);
        begun := (last >> 24) & 1099511627775;
        IF last & 12288 <> 0 OR (last >> 14) & 1023 <> node OR begun < bdr.internal_snowflake_clock() THEN
            begun := greatest(begun + 1, bdr.internal_snowflake_clock());
            IF begun > 1099511627775 THEN
                RAISE EXCEPTION 'the milliseconds of snowflake ids are used up'
                    USING ERRCODE = 'sequence_generator_limit_exceeded',
                          HINT = 'Check the server''s clock: they last until August 2051.';
            END IF;
            PERFORM setval(sequence, (begun << 24) | (node::bigint << 14));
        END IF;
        is_held := NOT pg_advisory_unlock(lock_key);
    EXCEPTION
        -- The lock is the session's, and would be held on.
        WHEN query_canceled OR OTHERS THEN
            IF is_held THEN
                PERFORM pg_advisory_unlock(lock_key);
            END IF;
            RAISE;
    END;
END
$$;

-- Whether a sequence is meant to give out snowflake ids: its owner has said so, or made it the default of a column.
CREATE OR REPLACE FUNCTION bdr.internal_is_snowflake(sequence regclass)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM bdr.sequence_kind AS k
        JOIN pg_namespace AS n ON n.nspname = k.schema_name
        JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = k.sequence_name
        WHERE c.oid = sequence AND k.kind = 'snowflake'
    ) OR EXISTS (
        SELECT FROM pg_depend AS d
        JOIN pg_attrdef AS f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
        JOIN pg_depend AS calls ON calls.classid = 'pg_attrdef'::regclass AND calls.objid = f.oid
        JOIN pg_class AS t ON t.oid = f.adrelid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = sequence
          AND calls.refclassid = 'pg_proc'::regclass AND calls.refobjid = to_regprocedure('bdr.global_seq_nextval(regclass)')
          AND has_sequence_privilege(t.relowner, sequence, 'UPDATE')
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_snowflake(regclass) FROM PUBLIC;

-- For roles that may draw values and not set them: what nextval() alone cannot do is done with the rights of this function's owner. It gives
-- nothing out, and does to a sequence no more than its next use would.
CREATE OR REPLACE FUNCTION bdr.internal_begin_millisecond(sequence regclass)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    node integer := bdr.internal_snowflake_number();
    last bigint := pg_sequence_last_value(sequence);
BEGIN
    -- Another sequence would be spoiled. One in a millisecond of this node was begun before; ordinary ones do not come to that of 2019.
    IF (((last >> 24) & 1099511627775) > 94608000000 AND (last >> 14) & 1023 = node) IS NOT TRUE
       AND NOT bdr.internal_is_snowflake(sequence)
    THEN
        RAISE EXCEPTION 'sequence % was not made for snowflake ids', sequence
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Its owner can: SELECT bdr.convert_sequence(%L, ''snowflake'');', sequence);
    END IF;
    PERFORM bdr.internal_set_millisecond(sequence, node);
    RETURN node;
END
$$;

CREATE OR REPLACE FUNCTION bdr.internal_next_snowflake(sequence regclass, drawn bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id bigint := drawn;
    clock bigint := bdr.internal_snowflake_clock();
    node integer;
BEGIN
    -- In a millisecond that this node has begun just now: mostly, where there are many.
    IF (id >> 24) & 1099511627775 = clock AND id & 12288 = 0 THEN
        RETURN id;
    END IF;
    -- Its values must be drawn one by one: what a session keeps back would run into the node's number.
    IF NOT EXISTS (
        SELECT FROM pg_sequence AS s
        WHERE s.seqrelid = sequence AND s.seqtypid = 'bigint'::regtype AND s.seqincrement = 1 AND s.seqcache = 1
    ) THEN
        RAISE EXCEPTION 'sequence % cannot give out snowflake ids', sequence
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'It must be of type bigint, and count by 1 without CACHE.',
                  HINT = format('SELECT bdr.convert_sequence(%L, ''snowflake'');', sequence);
    END IF;
    LOOP
        IF has_sequence_privilege(sequence, 'UPDATE') AND has_sequence_privilege(sequence, 'USAGE, SELECT') THEN
            node := bdr.internal_snowflake_number();
            PERFORM bdr.internal_set_millisecond(sequence, node);
        ELSE
            node := bdr.internal_begin_millisecond(sequence);
        END IF;
        -- When the clock has stepped back, or a millisecond was begun before its time.
        IF (id >> 24) & 1099511627775 >= clock AND (id >> 14) & 1023 = node AND id & 12288 = 0 THEN
            RETURN id;
        END IF;
        id := nextval(sequence);
        IF (id >> 14) & 1023 = node AND id & 12288 = 0 THEN
            RETURN id;
        END IF;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION bdr.global_seq_nextval(regclass)
RETURNS bigint
LANGUAGE sql VOLATILE
RETURN bdr.internal_next_snowflake($1, nextval($1));
COMMENT ON FUNCTION bdr.global_seq_nextval(regclass) IS
    'The next id of a sequence, which no other node gives out: milliseconds, this node''s number, and a count, as in BDR 2';
