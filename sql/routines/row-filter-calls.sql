-- The calls that set row filters (row-filters.sql), and what follows from them.

CREATE OR REPLACE FUNCTION bdr.table_get_row_filter(relation regclass, set_name text, OUT filter text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT bdr.internal_filters_of(relation) ->> set_name $$;
COMMENT ON FUNCTION bdr.table_get_row_filter(regclass, text) IS
    'The condition that rows of a table must meet for a replication set to send them; NULL: it sends all';

CREATE OR REPLACE FUNCTION bdr.table_set_row_filter(p_relation regclass, p_set_name text, p_filter text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM bdr.internal_check_table_call(p_relation);
    PERFORM bdr.internal_order_definition();
    IF p_filter IS NULL THEN
        DELETE FROM bdr.table_row_filter AS f WHERE (f.relation, f.set_name) = (p_relation, p_set_name);
    ELSE
        INSERT INTO bdr.table_row_filter AS f (relation, set_name, filter)
        VALUES (p_relation, coalesce(p_set_name, ''), p_filter)
        ON CONFLICT ON CONSTRAINT table_row_filter_pkey DO UPDATE SET filter = EXCLUDED.filter;
    END IF;
END
$$;
COMMENT ON FUNCTION bdr.table_set_row_filter(regclass, text, text) IS
    'Lets a replication set send only the rows of a table that meet a condition on its key, on all nodes; NULL: all rows. Rows that are there are not sent';

-- For superusers, as what they give to a command that the server reads as theirs: it reads constants, and with them values of any type that
-- a word could name, before it says what a filter may not hold. What the words may be is looked at first; that is not all there is to trust.
REVOKE ALL ON FUNCTION bdr.table_set_row_filter(regclass, text, text) FROM PUBLIC;

-- As internal_table_sets_changed(): here, and where a peer's command brings it, what is published follows at once.
CREATE OR REPLACE FUNCTION bdr.internal_row_filter_changed()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed bdr.table_row_filter;
    wanted text;
    place record;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
    ELSE
        changed := NEW;
        wanted := NEW.filter;
    END IF;
    IF NOT EXISTS (SELECT FROM bdr.bdr_local_node) THEN
        IF TG_OP <> 'DELETE' THEN
            RAISE EXCEPTION 'BDR is not active in this database' USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        -- It is being removed.
        RETURN NULL;
    END IF;
    SELECT p.* INTO place FROM bdr.internal_place_of(changed.relation) AS p;
    -- Of a table that is gone.
    IF place.relname IS NULL THEN
        RETURN NULL;
    END IF;
    -- As it is, or in the server's words.
    IF wanted IS NOT DISTINCT FROM bdr.internal_published_filter(changed.relation, bdr.internal_filter_carrier(changed.set_name)) THEN
        RETURN NULL;
    END IF;
    -- For who writes the row himself.
    PERFORM bdr.internal_order_definition();
    IF TG_OP <> 'DELETE' THEN
        PERFORM bdr.internal_refuse_old_snapshot('row filters');
        PERFORM bdr.internal_check_set_name(changed.set_name, false);
        PERFORM bdr.internal_check_replicated_table(changed.relation);
        PERFORM bdr.internal_check_filters_are_possible();
        PERFORM bdr.internal_check_expression(wanted);
        -- What the names mean stays so until they are read: no other schema, table or column takes them meanwhile.
        PERFORM FROM pg_namespace AS n WHERE n.nspname = place.nspname FOR SHARE;
        PERFORM bdr.internal_lock_named(changed.relation, place.nspname, place.relname, 'SHARE UPDATE EXCLUSIVE');
        PERFORM bdr.internal_check_filter_names(changed.relation, wanted, NOT bdr.internal_is_being_filled());
    END IF;
    wanted := bdr.internal_carry_filter(changed.relation, changed.set_name, wanted);
    IF TG_OP <> 'DELETE' THEN
        -- In the server's words as well: these are what the other nodes get.
        PERFORM bdr.internal_check_expression(wanted);
        PERFORM bdr.internal_check_filter_names(changed.relation, wanted, NOT bdr.internal_is_being_filled());
        -- What is leakproof differs between majors.
        IF NOT bdr.internal_is_replica() THEN
            PERFORM bdr.internal_check_filter_cannot_fail(
                bdr.internal_published_filter_tree(changed.relation, bdr.internal_filter_carrier(changed.set_name))
            );
        END IF;
        UPDATE bdr.table_row_filter AS f SET filter = wanted
        WHERE (f.relation, f.set_name) = (changed.relation, changed.set_name) AND f.filter <> wanted;
    END IF;
    -- The keys come after the rows, and the join publishes at its end.
    IF bdr.internal_is_being_filled() THEN
        RETURN NULL;
    END IF;
    PERFORM bdr.internal_check_filter_columns(changed.relation);
    PERFORM bdr.internal_sync_publication(l) FROM bdr.internal_leaves(changed.relation::regclass) AS l;
    PERFORM bdr.internal_queue_call('bdr.table_set_row_filter', current_user, format(
        '%L, %L, %L', format('%I.%I', place.nspname, place.relname), changed.set_name, wanted
    ));
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_row_filter_changed() FROM PUBLIC;

CREATE OR REPLACE TRIGGER row_filter_changed AFTER INSERT OR UPDATE OR DELETE ON bdr.table_row_filter
    FOR EACH ROW EXECUTE FUNCTION bdr.internal_row_filter_changed();
ALTER TABLE bdr.table_row_filter ENABLE ALWAYS TRIGGER row_filter_changed;

-- Definitions --------------------------------------------------------------------------------------------------------------

-- Before what is published follows the command: bdr_publish_new_tables has the greater name.
CREATE OR REPLACE FUNCTION bdr.internal_keep_row_filters()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lost record;
BEGIN
    IF NOT EXISTS (SELECT FROM bdr.table_row_filter) OR NOT EXISTS (SELECT FROM bdr.bdr_local_node)
       OR bdr.internal_is_being_filled()
    THEN
        RETURN;
    END IF;
    SELECT c.oid::regclass AS name, f.set_name INTO lost
    FROM bdr.table_row_filter AS f
    JOIN pg_class AS c ON c.oid = f.relation
    WHERE NOT bdr.internal_is_published(f.relation, bdr.internal_filter_carrier(f.set_name))
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'cannot drop a column that a row filter of table % needs', lost.name USING
            ERRCODE = 'dependent_objects_still_exist',
            HINT = format('First: SELECT bdr.table_set_row_filter(%L, %L, NULL);', lost.name, lost.set_name);
    END IF;
    PERFORM bdr.internal_check_filter_columns();
    -- Columns may have been renamed.
    UPDATE bdr.table_row_filter AS f SET filter = told.filter
    FROM bdr.internal_published_filters(NULL, NULL) AS told
    WHERE (told.relation, told.publication) = (f.relation, bdr.internal_filter_carrier(f.set_name)) AND told.filter <> f.filter;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'bdr_keep_row_filters') THEN
        CREATE EVENT TRIGGER bdr_keep_row_filters ON ddl_command_end
            WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'DROP INDEX')
            EXECUTE FUNCTION bdr.internal_keep_row_filters();
        -- What a peer's command renames counts as well.
        ALTER EVENT TRIGGER bdr_keep_row_filters ENABLE ALWAYS;
    END IF;
END
$$;
