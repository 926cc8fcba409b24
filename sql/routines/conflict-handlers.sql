-- Functions of users that resolve conflicts, with BDR's names, arguments and errors. A handler is called on one node, the one whose
-- own row has lost, and what it makes of the row is written there and travels (docs/concepts/conflicts.md).

-- Why a function cannot be a handler of the table, in BDR's words; NULL where it can.
CREATE OR REPLACE FUNCTION bdr.internal_handler_flaw(relation regclass, handler regprocedure)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN p.prorettype <> 'record'::regtype THEN 'Return type is not RECORD.'
        WHEN coalesce(cardinality(p.proallargtypes), 0) <> 7 THEN 'Function doesn''t have 7 arguments.'
        WHEN cardinality(array_positions(p.proargmodes, 'o'::"char")) <> 2 THEN 'Function doesn''t have 2 OUT arguments'
        WHEN p.proargmodes <> '{i,i,i,i,i,o,o}'::"char"[] THEN 'There must be five IN arguments and two OUT arguments.'
        WHEN p.proallargtypes[6:7] <> ARRAY[c.reltype, 'bdr.bdr_conflict_handler_action'::regtype]
            THEN 'OUT argument are not of the expected types.'
        WHEN p.proallargtypes[3:5] <> ARRAY['text'::regtype::oid, 'regclass'::regtype, 'bdr.bdr_conflict_type'::regtype]
            THEN 'Three last input arguments are not (text, regclass, bdr.bdr_conflict_type).'
        WHEN p.proallargtypes[1:2] <> ARRAY[c.reltype, c.reltype]
            THEN 'First (or Second) input argument must be of the same type as the table.'
    END
    FROM pg_proc AS p
    CROSS JOIN pg_class AS c
    WHERE p.oid = handler AND c.oid = relation
$$;
COMMENT ON FUNCTION bdr.internal_handler_flaw(regclass, regprocedure) IS 'Internal: why a function cannot be a conflict handler of a table';

-- A handler runs with the rights of its owner, on rows of the table. Who owns the table decides which function that is, and what it is
-- given: so it must be rights that he has, on the node where it runs.
CREATE OR REPLACE FUNCTION bdr.internal_is_owners_handler(relation regclass, handler regprocedure)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_has_role(c.relowner, p.proowner, 'USAGE')
    FROM pg_proc AS p
    CROSS JOIN pg_class AS c
    WHERE p.oid = handler AND c.oid = relation
$$;
COMMENT ON FUNCTION bdr.internal_is_owners_handler(regclass, regprocedure) IS
    'Internal: whether the owner of a table has the rights of the owner of a function';

CREATE OR REPLACE FUNCTION bdr.internal_check_handler(relation regclass, handler regprocedure)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    flaw text := bdr.internal_handler_flaw(relation, handler);
BEGIN
    IF flaw IS NOT NULL THEN
        RAISE EXCEPTION 'conflict handler function signature must be (IN tablerow, IN tablerow, IN text, IN regclass, IN bdr.bdr_conflict_type, OUT tablerow, OUT bdr.bdr_conflict_handler_action)'
            USING ERRCODE = 'invalid_function_definition', HINT = flaw;
    END IF;
    IF NOT bdr.internal_is_owners_handler(relation, handler) THEN
        RAISE EXCEPTION 'permission denied for function %', handler
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('A conflict handler runs with the rights of its owner, which the owner of table %s must have.', relation),
                  HINT = 'ALTER FUNCTION ... OWNER TO the owner of the table, on each node.';
    END IF;
END
$$;
COMMENT ON FUNCTION bdr.internal_check_handler(regclass, regprocedure) IS 'Internal: refuses a function that cannot be a conflict handler of a table';

CREATE OR REPLACE FUNCTION bdr.bdr_create_conflict_handler(
    ch_rel regclass, ch_name name, ch_proc regprocedure, ch_type bdr.bdr_conflict_type, ch_timeframe interval DEFAULT NULL
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    policy text;
BEGIN
    IF ch_rel IS NULL OR ch_name IS NULL OR ch_proc IS NULL OR ch_type IS NULL THEN
        RAISE EXCEPTION 'only ch_timeframe may be null' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM bdr.internal_check_owner(ch_rel);
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', ch_rel);
    PERFORM bdr.internal_check_handler(ch_rel, ch_proc);
    SELECT p.policy INTO policy
    FROM bdr.conflict_policy AS p
    JOIN pg_namespace AS n ON n.nspname = p.schema_name
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = p.table_name
    WHERE c.oid = ch_rel;
    IF policy IS NULL THEN
        PERFORM bdr.bdr_set_conflict_policy(ch_rel, 'handler');
    ELSIF policy <> 'handler' THEN
        RAISE EXCEPTION 'conflicts of table % are resolved by policy %', ch_rel, policy
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('SELECT bdr.bdr_set_conflict_policy(%L, ''handler''); first.', ch_rel);
    END IF;
    INSERT INTO bdr.bdr_conflict_handlers (ch_name, ch_type, ch_schema, ch_table, ch_fun, ch_timeframe)
    SELECT ch_name, ch_type, n.nspname, c.relname, ch_proc::text, ch_timeframe
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = ch_rel;
END
$$;
COMMENT ON FUNCTION bdr.bdr_create_conflict_handler(regclass, name, regprocedure, bdr.bdr_conflict_type, interval) IS
    'Has a function resolve conflicts of a table, of one type, on all nodes; the function itself must be made on each';

-- As bdr.internal_admit_policy().
CREATE OR REPLACE FUNCTION bdr.internal_admit_handler()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    handler regprocedure := NEW.ch_fun::regprocedure;
BEGIN
    -- Peers look it up as it is written.
    IF handler::text <> NEW.ch_fun THEN
        RAISE EXCEPTION 'conflict handler function must be written as %', handler USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM bdr.internal_check_handler(format('%I.%I', NEW.ch_schema, NEW.ch_table)::regclass, handler);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_admit_handler() FROM PUBLIC;

CREATE OR REPLACE TRIGGER admit_handler AFTER INSERT OR UPDATE ON bdr.bdr_conflict_handlers
    FOR EACH ROW EXECUTE FUNCTION bdr.internal_admit_handler();

CREATE OR REPLACE FUNCTION bdr.bdr_drop_conflict_handler(ch_rel regclass, ch_name name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM bdr.internal_check_owner(ch_rel);
    DELETE FROM bdr.bdr_conflict_handlers AS h
    USING pg_class AS c, pg_namespace AS n
    WHERE n.oid = c.relnamespace AND c.oid = ch_rel
      AND (h.ch_schema, h.ch_table, h.ch_name) = (n.nspname, c.relname, ch_name);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'handler % for relation with oid % not found', ch_name, ch_rel::oid USING ERRCODE = 'undefined_object';
    END IF;
END
$$;
COMMENT ON FUNCTION bdr.bdr_drop_conflict_handler(regclass, name) IS 'Takes a conflict handler of a table away, on all nodes';

CREATE OR REPLACE VIEW bdr.bdr_list_conflict_handlers AS
SELECT h.ch_name, h.ch_type, c.oid AS ch_reloid, h.ch_fun, h.ch_timeframe
FROM bdr.bdr_conflict_handlers AS h
LEFT JOIN (
    pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
) ON n.nspname = h.ch_schema AND c.relname = h.ch_table;
COMMENT ON VIEW bdr.bdr_list_conflict_handlers IS 'Conflict handlers with the tables that they are of on this node';
REVOKE ALL ON bdr.bdr_list_conflict_handlers FROM PUBLIC;
