-- How a command gets into bdr.bdr_queued_commands (ddl.sql), with the values that other nodes could not compute.

-- The queue ---------------------------------------------------------------------------------------------------------------

-- The settings that decide what a command means, search_path aside. Not check_function_bodies: here that was looked at.
CREATE OR REPLACE FUNCTION bdr.internal_command_settings()
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_object_agg(name, current_setting(name))
    FROM unnest(ARRAY[
        'TimeZone', 'DateStyle', 'IntervalStyle', 'lc_monetary', 'extra_float_digits', 'bytea_output', 'xmlbinary', 'xmloption',
        'standard_conforming_strings', 'backslash_quote', 'array_nulls', 'transform_null_equals',
        'default_table_access_method', 'default_toast_compression'
    ]) AS name
$$;
REVOKE ALL ON FUNCTION bdr.internal_command_settings() FROM PUBLIC;

-- Columns that this transaction has added to a table, or to what inherits from it, whose value for the rows that there were was computed
-- at that moment, or read then, as 'now' is: the same command would compute another one elsewhere.
CREATE OR REPLACE FUNCTION bdr.internal_computed_columns(relation oid)
RETURNS SETOF pg_attribute
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE tables AS (
        SELECT relation AS oid
        UNION
        SELECT i.inhrelid FROM tables AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
    )
    SELECT a.*
    FROM tables AS t
    JOIN pg_attribute AS a ON a.attrelid = t.oid
    JOIN pg_type AS ty ON ty.oid = a.atttypid
    WHERE a.atthasmissing AND NOT a.attisdropped AND age(a.xmin) <= 0
      AND (
          bdr.internal_is_changing(bdr.internal_default_of(a.attrelid, a.attnum), true)
          OR (ty.typcategory = 'D' AND ty.typnamespace = 'pg_catalog'::regnamespace)
      )
$$;
REVOKE ALL ON FUNCTION bdr.internal_computed_columns(oid) FROM PUBLIC;

-- These values, to be sent along; NULL for none.
CREATE OR REPLACE FUNCTION bdr.internal_missing_values(relation oid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET TimeZone = 'UTC'
SET extra_float_digits = 3
SET bytea_output = 'hex'
AS $$
    SELECT jsonb_agg(jsonb_build_object(
        'schema', n.nspname, 'table', c.relname, 'column', a.attname, 'value', (a.attmissingval::text::text[])[1]
    ))
    FROM bdr.internal_computed_columns(relation) AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
$$;
REVOKE ALL ON FUNCTION bdr.internal_missing_values(oid) FROM PUBLIC;

-- Peers make these values from their texts as superusers, and values of a user's type may run his code: a domain within an array or a row.
CREATE OR REPLACE FUNCTION bdr.internal_refuse_missing_value(relation oid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    added record;
BEGIN
    SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type INTO added
    FROM bdr.internal_computed_columns(relation) AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE t.typnamespace <> 'pg_catalog'::regnamespace
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ALTER TABLE ... ADD COLUMN ... DEFAULT may only affect UNLOGGED or TEMPORARY tables when BDR is active; % is a regular table',
                relation::regclass
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('The default of column %I may be another value on each node, of type %s.', added.attname, added.type),
                  HINT = 'ADD COLUMN without the default, then ALTER COLUMN ... SET DEFAULT, then UPDATE the rows, then SET NOT NULL.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_missing_value(oid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_queue(
    role text, tag text, command text, "position" integer, is_context boolean, missing jsonb
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    seen text := bdr.internal_session_token(concat('text ', md5(command), ' ', bdr.internal_text_sent_at()));
BEGIN
    -- A long text of many commands is sent once.
    IF "position" IS NOT NULL THEN
        IF seen = current_setting('bdr.queued_text', true) THEN
            command := '';
        ELSE
            PERFORM set_config('bdr.queued_text', seen, true);
        END IF;
    END IF;
    INSERT INTO bdr.bdr_queued_commands (
        lsn, queued_at, perpetrator, command_tag, command, search_path, "position", is_context, settings, missing
    )
    VALUES (
        pg_current_wal_insert_lsn(), clock_timestamp(), role, tag, command,
        coalesce(current_setting('bdr.command_search_path', true), ''), "position", is_context,
        bdr.internal_command_settings(), missing
    );
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_queue(text, text, text, integer, boolean, jsonb) FROM PUBLIC;

-- CREATE TABLE AS ---------------------------------------------------------------------------------------------------------

-- A table of plain columns, as CREATE TABLE AS makes one, as a command of its own: its query may use what is only here.
CREATE OR REPLACE FUNCTION bdr.internal_plain_table(relation oid)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        'CREATE TABLE %I.%I (%s) USING %I%s',
        n.nspname, c.relname,
        (
            SELECT string_agg(
                concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                    CASE WHEN a.attcollation <> t.typcollation
                        THEN format('COLLATE %I.%I', cn.nspname, co.collname)
                    END),
                ', ' ORDER BY a.attnum
            )
            FROM pg_attribute AS a
            JOIN pg_type AS t ON t.oid = a.atttypid
            LEFT JOIN (pg_collation AS co JOIN pg_namespace AS cn ON cn.oid = co.collnamespace) ON co.oid = a.attcollation
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ),
        am.amname,
        (
            SELECT coalesce(' WITH (' || string_agg(
                format('%s = %L', split_part(option, '=', 1), substr(option, strpos(option, '=') + 1)), ', '
            ) || ')', '')
            FROM unnest(c.reloptions) AS option
        )
    )
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_am AS am ON am.oid = c.relam
    WHERE c.oid = relation
$$;
REVOKE ALL ON FUNCTION bdr.internal_plain_table(oid) FROM PUBLIC;

-- The command has filled the table before it could be published, so these rows are in no stream: they are written again.
CREATE OR REPLACE FUNCTION bdr.internal_write_rows_again(relation oid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
    has_rows boolean;
    kept text := format('bdr_rows_of_%s', relation);
BEGIN
    -- These commands are captured while one is: see internal_queue_command().
    PERFORM set_config('bdr.rows_again', bdr.internal_session_token('rows again'), true);
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', relation::regclass) INTO has_rows;
    IF has_rows THEN
        EXECUTE format('CREATE TEMPORARY TABLE %I ON COMMIT DROP AS SELECT * FROM %s', kept, relation::regclass);
        EXECUTE format('TRUNCATE %s', relation::regclass);
    END IF;
    PERFORM bdr.internal_sync_publication(relation::regclass);
    IF has_rows THEN
        EXECUTE format('INSERT INTO %s SELECT * FROM pg_temp.%I', relation::regclass, kept);
        EXECUTE format('DROP TABLE pg_temp.%I', kept);
    END IF;
    PERFORM set_config('bdr.rows_again', '', true);
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_write_rows_again(oid) FROM PUBLIC;
