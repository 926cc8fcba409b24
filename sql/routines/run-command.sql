-- Running what a peer has captured (sql/routines/ddl.sql), in the apply transaction in which it arrives.

-- What rows that were there before an ADD COLUMN have in the new column: as on the node where it was run. Each value is that of a
-- column of a table made for this, because the catalog's own type takes no other.
CREATE OR REPLACE FUNCTION bdr.internal_set_missing_values("values" jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET TimeZone = 'UTC'
AS $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT a.attrelid, a.attnum, format_type(a.atttypid, a.atttypmod) AS type, x.value
        FROM jsonb_to_recordset("values") AS x (schema text, "table" text, "column" text, value text)
        JOIN pg_namespace AS n ON n.nspname = x.schema
        JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = x."table"
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = x."column"
        JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.atthasmissing AND (a.attmissingval::text::text[])[1] IS DISTINCT FROM x.value
          -- To make a value of a user's type could run his code.
          AND t.typnamespace = 'pg_catalog'::regnamespace
    LOOP
        CREATE TEMPORARY TABLE bdr_value () ON COMMIT DROP;
        EXECUTE format('ALTER TABLE pg_temp.bdr_value ADD COLUMN v %s DEFAULT %L', one.type, one.value);
        UPDATE pg_attribute AS a SET attmissingval = v.attmissingval
        FROM pg_attribute AS v
        WHERE v.attrelid = 'pg_temp.bdr_value'::regclass AND v.attname = 'v'
          AND (a.attrelid, a.attnum) = (one.attrelid, one.attnum);
        DROP TABLE pg_temp.bdr_value;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_set_missing_values(jsonb) FROM PUBLIC;

-- Runs a command with the rights of the role that ran it elsewhere: it, and what it calls, gets no others, and no way to them (docs/
-- concepts/trust.md). What a superuser ran is run as one. Settings that the command brings are taken back at the end: all that it can
-- bring stand below.
CREATE OR REPLACE FUNCTION bdr.internal_run_command(perpetrator text, command text, search_path text, settings jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET lc_monetary = 'C'
SET extra_float_digits = 3
SET bytea_output = 'hex'
SET xmlbinary = 'base64'
SET xmloption = 'content'
SET standard_conforming_strings = on
SET backslash_quote = safe_encoding
SET array_nulls = on
SET transform_null_equals = off
SET check_function_bodies = off
SET default_table_access_method = 'heap'
SET default_toast_compression = 'pglz'
-- What apply sessions do without, and users' sessions have.
SET enable_hashjoin = on
SET enable_mergejoin = on
SET enable_seqscan = on
SET plan_cache_mode = auto
-- Users hold what a command needs for longer than they hold rows. Nobody waits for what apply holds by then, but who queues behind it.
SET lock_timeout = '2s'
AS $$
DECLARE
    role record;
    statement text;
BEGIN
    SELECT r.oid, r.rolsuper INTO role FROM pg_roles AS r WHERE r.rolname = perpetrator;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'role "%" does not exist', perpetrator
            USING ERRCODE = 'undefined_object',
                  HINT = 'Roles are not replicated: CREATE ROLE on this node too. The link goes on by itself.';
    END IF;
    -- SET comes first, always: of what begins with SELECT an answer would be expected.
    SELECT 'SET LOCAL search_path = pg_catalog; '
               || coalesce(string_agg(format('SET LOCAL %I = %L; ', s.key, s.value), '' ORDER BY s.key), '')
               || format('SELECT pg_catalog.set_config(''search_path'', %L, true); ', search_path)
               || command
    INTO statement
    FROM jsonb_each_text(settings) AS s
    WHERE s.key IN (
        'TimeZone', 'DateStyle', 'IntervalStyle', 'lc_monetary', 'extra_float_digits', 'bytea_output', 'xmlbinary', 'xmloption',
        'array_nulls', 'transform_null_equals', 'default_table_access_method', 'default_toast_compression'
    );
    -- How the text is read, which is before any of it is run.
    PERFORM set_config(s.key, s.value, true)
    FROM jsonb_each_text(settings) AS s
    WHERE s.key IN ('standard_conforming_strings', 'backslash_quote');
    IF role.rolsuper THEN
        EXECUTE format('SET LOCAL ROLE %I', perpetrator);
        EXECUTE statement;
        RESET ROLE;
    ELSE
        PERFORM bdr.internal_run_restricted(role.oid, statement, true);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_run_command(text, text, text, jsonb) FROM PUBLIC;
