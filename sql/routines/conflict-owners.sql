-- Who may say how conflicts of a table are resolved: its owner, as in BDR. The functions that do it run with the rights of whoever calls
-- them, so that nothing has to be believed about who that is; what they write goes through row security, and is checked by triggers
-- (docs/concepts/trust.md).

-- Whether the role that asks has the rights of the table's owner. Not SECURITY DEFINER: there it would be another role that asks.
CREATE OR REPLACE FUNCTION bdr.internal_is_owner(schema_name text, table_name text)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND pg_has_role(c.relowner, 'USAGE')
    )
$$;
COMMENT ON FUNCTION bdr.internal_is_owner(text, text) IS 'Internal: whether the current role has the rights of the owner of a table';

-- For a message that people understand: row security would say less.
CREATE OR REPLACE FUNCTION bdr.internal_check_owner(relation regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND pg_has_role(c.relowner, 'USAGE')) THEN
        RAISE EXCEPTION 'permission denied to relation %', relation
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'How its conflicts are resolved is for the owner of the table, and for superusers.';
    END IF;
END
$$;
COMMENT ON FUNCTION bdr.internal_check_owner(regclass) IS 'Internal: refuses whoever has not the rights of the owner of a table';

ALTER TABLE bdr.conflict_policy ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_owners ON bdr.conflict_policy;
CREATE POLICY of_owners ON bdr.conflict_policy
    USING (bdr.internal_is_owner(schema_name, table_name)) WITH CHECK (bdr.internal_is_owner(schema_name, table_name));
GRANT SELECT, INSERT, UPDATE, DELETE ON bdr.conflict_policy TO PUBLIC;

ALTER TABLE bdr.bdr_conflict_handlers ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_owners ON bdr.bdr_conflict_handlers;
CREATE POLICY of_owners ON bdr.bdr_conflict_handlers
    USING (bdr.internal_is_owner(ch_schema, ch_table)) WITH CHECK (bdr.internal_is_owner(ch_schema, ch_table));
GRANT SELECT, INSERT, UPDATE, DELETE ON bdr.bdr_conflict_handlers TO PUBLIC;
