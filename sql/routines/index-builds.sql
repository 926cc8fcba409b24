-- Indexes that a peer's users have built CONCURRENTLY are built so here too, beside the links: apply notes the command as it arrives, and
-- the agent runs it in a session of its own (src/node/index-builder.ts). All later commands of peers wait, because any of them may
-- need the index, or take away what it is for; rows do not.

-- Notes the command; false where it is to run in its place. Only a function could run it with the rights of an ordinary role and no
-- others, and no function can run it: what it computes before it has a table to build on, of constants in expressions, would run
-- with the rights of the session. `is_plain`: there are no expressions.
CREATE OR REPLACE FUNCTION bdr.internal_put_off_index(
    perpetrator text, command text, search_path text, settings jsonb, "table" text, index text, is_plain boolean
)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = perpetrator AND (r.rolsuper OR is_plain)) THEN
        RETURN false;
    END IF;
    INSERT INTO bdr.index_build (perpetrator, command, search_path, settings, table_name, index_name)
    VALUES (perpetrator, command, search_path, settings, "table", index);
    NOTIFY bdr;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_put_off_index(text, text, text, jsonb, text, text, boolean) FROM PUBLIC;
