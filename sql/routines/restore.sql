-- Rows that were lost in a conflict come back as what they are: new rows, written with the rights of whoever asks for it.

CREATE OR REPLACE FUNCTION bdr.bdr_restore_conflict_loser(conflict_id bigint, new_values jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    conflict bdr.bdr_conflict_history;
    target regclass;
    lost jsonb;
    columns text;
    restored jsonb;
BEGIN
    SELECT h.* INTO conflict
    FROM bdr.bdr_conflict_history AS h
    WHERE h.conflict_id = bdr_restore_conflict_loser.conflict_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the history of this node has no conflict %', conflict_id USING ERRCODE = 'undefined_object';
    END IF;
    -- Of other conflicts the loser may be known in part only, or have been replaced.
    IF conflict.rule IN ('unique_index', 'truncated', 'insert_deleted') THEN
        lost := CASE
                    WHEN conflict.conflict_resolution IN ('last_update_wins_keep_local', 'skip_change')
                        THEN conflict.remote_tuple
                    ELSE conflict.local_tuple
                END;
    END IF;
    IF lost IS NULL THEN
        RAISE EXCEPTION 'conflict % has no row to bring back', conflict_id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Rows that lost in a unique index, to a TRUNCATE or to a deletion of their key (rules unique_index, truncated, insert_deleted) can be brought back, if the history keeps rows (bdr.conflict_logging_include_tuples).';
    END IF;
    lost := lost || new_values;

    target := to_regclass(format('%I.%I', conflict.object_schema, conflict.object_name));
    IF target IS NULL THEN
        RAISE EXCEPTION 'table %.% does not exist any more', conflict.object_schema, conflict.object_name
            USING ERRCODE = 'undefined_table';
    END IF;
    SELECT string_agg(quote_ident(a.attname), ', ') INTO columns
    FROM pg_attribute AS a
    WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND lost ? a.attname;
    EXECUTE format(
        'INSERT INTO %1$s AS t (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1)'
        ' RETURNING to_jsonb(t.*)',
        target, columns
    ) INTO restored USING lost;
    RETURN restored;
END
$$;
COMMENT ON FUNCTION bdr.bdr_restore_conflict_loser(bigint, jsonb) IS
    'Inserts the row again that a unique index, a TRUNCATE or a deletion has taken in this conflict of bdr.bdr_conflict_history; new_values take the place of its own. Returns the row';
REVOKE ALL ON FUNCTION bdr.bdr_restore_conflict_loser(bigint, jsonb) FROM PUBLIC;
