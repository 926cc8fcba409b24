-- Rows that were lost in a conflict come back as what they are: new rows, written by whoever asks for it. So this runs with the
-- caller's rights and search_path, which triggers of the table may need; nothing here depends on it.

CREATE OR REPLACE FUNCTION bdr.bdr_restore_conflict_loser(conflict_id bigint, new_values jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
    conflict bdr.bdr_conflict_history;
    target pg_catalog.regclass;
    lost pg_catalog.jsonb;
    columns pg_catalog.text;
    restored pg_catalog.jsonb;
BEGIN
    SELECT h.* INTO conflict
    FROM bdr.bdr_conflict_history AS h
    WHERE h.conflict_id OPERATOR(pg_catalog.=) bdr_restore_conflict_loser.conflict_id;
    IF conflict.conflict_id IS NULL THEN
        RAISE EXCEPTION 'the history of this node has no conflict %', conflict_id USING ERRCODE = 'undefined_object';
    END IF;
    -- Of other conflicts the loser may be known in part only, or have been replaced.
    IF conflict.rule OPERATOR(pg_catalog.=) 'unique_index' THEN
        lost := CASE conflict.conflict_resolution::pg_catalog.text
                    WHEN 'last_update_wins_keep_local' THEN conflict.remote_tuple
                    ELSE conflict.local_tuple
                END;
    END IF;
    IF lost IS NULL THEN
        RAISE EXCEPTION 'conflict % has no row to bring back', conflict_id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Rows that lost their value in a unique index can be brought back, if the history keeps rows (bdr.conflict_logging_include_tuples).';
    END IF;
    lost := lost OPERATOR(pg_catalog.||) new_values;

    target := pg_catalog.to_regclass(pg_catalog.format('%I.%I', conflict.object_schema, conflict.object_name));
    IF target IS NULL THEN
        RAISE EXCEPTION 'table %.% does not exist any more', conflict.object_schema, conflict.object_name
            USING ERRCODE = 'undefined_table';
    END IF;
    SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ') INTO columns
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid OPERATOR(pg_catalog.=) target AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
      AND a.attgenerated OPERATOR(pg_catalog.=) '' AND pg_catalog.jsonb_exists(lost, a.attname);
    EXECUTE pg_catalog.format(
        'INSERT INTO %1$s AS t (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM pg_catalog.jsonb_populate_record(NULL::%1$s, $1)'
        ' RETURNING pg_catalog.to_jsonb(t.*)',
        target, columns
    ) INTO restored USING lost;
    RETURN restored;
END
$$;
COMMENT ON FUNCTION bdr.bdr_restore_conflict_loser(bigint, jsonb) IS
    'Inserts the row again that lost its value in a unique index in this conflict of bdr.bdr_conflict_history; new_values take the place of its own. Returns the row';
REVOKE ALL ON FUNCTION bdr.bdr_restore_conflict_loser(bigint, jsonb) FROM PUBLIC;
