-- The calls about local columns (local-columns.sql), and what follows from them.

CREATE OR REPLACE FUNCTION bdr.table_get_local_columns(relation regclass, OUT columns name[])
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT bdr.internal_local_columns(relation) $$;
COMMENT ON FUNCTION bdr.table_get_local_columns(regclass) IS 'The columns of a table whose values stay on each node';

-- For the owner of the table: a list of names can run nothing.
CREATE OR REPLACE FUNCTION bdr.table_set_local_columns(p_relation regclass, p_columns name[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- It is off in sessions of the agent, where the call arrives.
SET row_security = on
AS $$
DECLARE
    unknown name;
BEGIN
    PERFORM bdr.internal_check_table_call(p_relation);
    PERFORM bdr.internal_order_definition();
    SELECT u.name INTO unknown
    FROM unnest(p_columns) AS u (name)
    WHERE NOT EXISTS (
        SELECT FROM pg_attribute AS a WHERE a.attrelid = p_relation AND a.attname = u.name AND a.attnum > 0 AND NOT a.attisdropped
    )
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of table % does not exist', unknown, p_relation USING ERRCODE = 'undefined_column';
    END IF;
    IF coalesce(p_columns, '{}') = '{}' AND NOT EXISTS (SELECT FROM bdr.table_local_columns AS l WHERE l.relation = p_relation) THEN
        RETURN;
    END IF;
    INSERT INTO bdr.table_local_columns AS l (relation, columns)
    SELECT p_relation, ARRAY(
        SELECT a.attnum FROM pg_attribute AS a
        WHERE a.attrelid = p_relation AND a.attname = ANY (p_columns) AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
    )
    ON CONFLICT ON CONSTRAINT table_local_columns_pkey DO UPDATE SET columns = EXCLUDED.columns;
END
$$;
COMMENT ON FUNCTION bdr.table_set_local_columns(regclass, name[]) IS
    'Keeps the values of these columns of a table on each node, for good: changes of peers leave them alone. On all nodes';

ALTER TABLE bdr.table_local_columns ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_owners ON bdr.table_local_columns;
CREATE POLICY of_owners ON bdr.table_local_columns
    USING (bdr.internal_is_owner(relation)) WITH CHECK (bdr.internal_is_owner(relation));
GRANT SELECT, INSERT, UPDATE (columns) ON bdr.table_local_columns TO PUBLIC;

-- Gives partitions, and what is below them, the local columns of the tables above them: of one, or those partitions that the command has locked,
-- since it has made them, or brought them here. By name, since their numbers differ. Without pg_partition_tree(), which locks all that it
-- tells, and foreign tables and unlogged ones, which are not replicated.
CREATE OR REPLACE FUNCTION bdr.internal_hand_down_local_columns(changed oid DEFAULT NULL)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE below AS (
        SELECT l.relation AS top, i.inhrelid AS relid
        FROM bdr.table_local_columns AS l
        JOIN pg_class AS c ON c.oid = l.relation AND c.relkind = 'p'
        JOIN pg_inherits AS i ON i.inhparent = l.relation
        WHERE changed IS NULL OR l.relation = changed
        UNION
        SELECT b.top, i.inhrelid FROM below AS b JOIN pg_inherits AS i ON i.inhparent = b.relid
    )
    INSERT INTO bdr.table_local_columns AS l (relation, columns)
    SELECT x.relation, x.columns
    FROM (
        SELECT mine.attrelid AS relation, array_agg(DISTINCT mine.attnum ORDER BY mine.attnum) AS columns
        FROM below
        JOIN bdr.table_local_columns AS above ON above.relation = below.top
        JOIN pg_class AS c ON c.oid = below.relid AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
        JOIN pg_attribute AS theirs
          ON theirs.attrelid = below.top AND theirs.attnum = ANY (above.columns) AND NOT theirs.attisdropped
        JOIN pg_attribute AS mine ON mine.attrelid = below.relid AND mine.attname = theirs.attname
        WHERE changed IS NOT NULL OR below.relid IN (SELECT h FROM bdr.internal_own_strong_locks() AS h)
        GROUP BY mine.attrelid
    ) AS x
    LEFT JOIN bdr.table_local_columns AS own ON own.relation = x.relation
    WHERE own.relation IS NULL OR NOT own.columns @> x.columns
    ORDER BY x.relation
    ON CONFLICT ON CONSTRAINT table_local_columns_pkey DO UPDATE
    SET columns = ARRAY(SELECT u FROM unnest(l.columns || EXCLUDED.columns) AS u GROUP BY u ORDER BY u)
$$;
REVOKE ALL ON FUNCTION bdr.internal_hand_down_local_columns(oid) FROM PUBLIC;

-- Whether the tables above a partition give it all of its local columns.
CREATE OR REPLACE FUNCTION bdr.internal_has_columns_from_above(relation oid)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bdr.internal_local_columns($1) <@ ARRAY(
        SELECT u FROM pg_partition_ancestors($1) AS above (relid)
        CROSS JOIN LATERAL unnest(bdr.internal_local_columns(above.relid)) AS u
        WHERE above.relid <> $1
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_has_columns_from_above(oid) FROM PUBLIC;

-- As internal_table_sets_changed(): here, and where a peer's command brings it. Where somebody set it, the call goes to the others as a
-- command, with the rights of the table's owner: who may write the row has these.
CREATE OR REPLACE FUNCTION bdr.internal_local_columns_changed()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed bdr.table_local_columns;
    before int2[] := '{}';
    after int2[] := '{}';
    lost name;
    place record;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
    ELSE
        changed := NEW;
        after := NEW.columns;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        before := OLD.columns;
    END IF;
    SELECT p.* INTO place FROM bdr.internal_place_of(changed.relation) AS p;
    -- Of a table that is gone; or BDR is being removed, or the node filled.
    IF place.relname IS NULL OR NOT EXISTS (SELECT FROM bdr.bdr_local_node) OR bdr.internal_is_being_filled() THEN
        RETURN NULL;
    END IF;
    -- For who writes the row himself.
    PERFORM bdr.internal_order_definition();
    IF NOT bdr.internal_is_replica() AND NOT bdr.internal_has_columns_from_above(changed.relation) THEN
        PERFORM bdr.internal_refuse_old_snapshot('local columns');
    END IF;
    PERFORM bdr.internal_check_replicated_table(changed.relation);
    -- Whoever makes an index or a constraint of it, and whoever writes to it, comes before or after this.
    PERFORM bdr.internal_lock_named(changed.relation, place.nspname, place.relname, 'SHARE ROW EXCLUSIVE');
    SELECT a.attname INTO lost
    FROM pg_attribute AS a
    WHERE a.attrelid = changed.relation AND a.attnum = ANY (before) AND a.attnum <> ALL (after) AND NOT a.attisdropped
    ORDER BY a.attnum
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'local column "%" of table % cannot be replicated again', lost, changed.relation::regclass USING
            ERRCODE = 'object_not_in_prerequisite_state',
            DETAIL = 'Its values may differ between nodes, and nothing would make them equal.',
            HINT = 'Name all columns that are to be local. Or add another column, UPDATE the rows to have its values there, and drop this one.';
    END IF;
    -- Whoever writes the row himself could name one that is to come.
    IF EXISTS (
        SELECT FROM unnest(after) AS u (number)
        WHERE (u.number = ANY (before)) IS NOT TRUE
          AND NOT EXISTS (
              SELECT FROM pg_attribute AS a
              WHERE a.attrelid = changed.relation AND a.attnum = u.number AND a.attnum > 0 AND NOT a.attisdropped
          )
    ) THEN
        RAISE EXCEPTION 'table % has not all of the columns %', changed.relation::regclass, after USING ERRCODE = 'undefined_column';
    END IF;
    -- What arrives was looked at where it was set.
    IF NOT bdr.internal_is_replica() THEN
        PERFORM bdr.internal_check_local_columns(changed.relation);
    END IF;
    PERFORM bdr.internal_hand_down_local_columns(changed.relation);
    -- What apply knows of tables is read anew.
    INSERT INTO bdr.definition_change DEFAULT VALUES;
    PERFORM bdr.internal_sync_publication(l) FROM bdr.internal_replicated_tables(changed.relation) AS l;
    -- What the table above gives to a partition comes to the others' partitions by itself.
    IF NOT bdr.internal_has_columns_from_above(changed.relation) THEN
        PERFORM bdr.internal_queue_call('bdr.table_set_local_columns', place.owner, format(
            '%L, %L', format('%I.%I', place.nspname, place.relname), bdr.internal_local_columns(changed.relation)
        ));
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_local_columns_changed() FROM PUBLIC;

CREATE OR REPLACE TRIGGER local_columns_changed AFTER INSERT OR UPDATE OR DELETE ON bdr.table_local_columns
    FOR EACH ROW EXECUTE FUNCTION bdr.internal_local_columns_changed();
ALTER TABLE bdr.table_local_columns ENABLE ALWAYS TRIGGER local_columns_changed;

-- Definitions ---------------------------------------------------------------------------------------------------------------

-- Refuses what would make a local column one on which nodes must agree. A partition that was made, or has come, gets those of the tables above it.
-- Before what is published follows the command: bdr_publish_new_tables has the greater name.
CREATE OR REPLACE FUNCTION bdr.internal_keep_local_columns()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM bdr.table_local_columns) OR NOT EXISTS (SELECT FROM bdr.bdr_local_node) THEN
        RETURN;
    END IF;
    -- By itself: while bdr is installed there is no such function yet.
    IF bdr.internal_is_being_filled() THEN
        RETURN;
    END IF;
    PERFORM bdr.internal_hand_down_local_columns();
    IF NOT bdr.internal_is_replica() THEN
        -- Of the tables that the command has locked; one that builds an index CONCURRENTLY has let its table go by now.
        PERFORM bdr.internal_check_local_columns(l.relation)
        FROM bdr.table_local_columns AS l
        WHERE l.relation IN (
            SELECT held FROM bdr.internal_own_strong_locks() AS held
            UNION ALL
            SELECT i.indrelid
            FROM pg_event_trigger_ddl_commands() AS c
            JOIN pg_index AS i ON i.indexrelid = c.objid
            WHERE c.classid = 'pg_class'::regclass
        );
    END IF;
END
$$;

-- A default goes with what it is computed by: DROP SEQUENCE ... CASCADE and the like.
CREATE OR REPLACE FUNCTION bdr.internal_keep_local_defaults()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF bdr.internal_is_replica() OR NOT EXISTS (SELECT FROM bdr.table_local_columns) OR NOT EXISTS (SELECT FROM bdr.bdr_local_node) THEN
        RETURN;
    END IF;
    PERFORM bdr.internal_check_local_columns(c.oid)
    FROM pg_event_trigger_dropped_objects() AS d
    JOIN pg_namespace AS n ON n.nspname = d.address_names[1]
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = d.address_names[2]
    WHERE d.object_type = 'default value';
END
$$;

-- The server refuses to drop a column that a list has, and to change its type; and with CASCADE it takes the table out of the publication. So
-- the lists are taken away before a command that may do that, and are back at its end, in the same transaction: what is sent meanwhile is
-- nothing, and where a list is missing for longer other nodes leave what they are sent alone. Nobody knows yet what the command is about:
-- it may be about what its text names.

-- Takes the lists of tables away, the tables still published. These are locked as the command will lock them.
CREATE OR REPLACE FUNCTION bdr.internal_take_lists_away(relations oid[])
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- The words of PG_CONTEXT.
SET lc_messages = 'C'
AS $$
DECLARE
    stack text;
    listed record;
    one oid;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    PERFORM bdr.internal_called_from(stack, E'PL/pgSQL function bdr\\.internal_before_columns_change\\(\\)');
    FOREACH one IN ARRAY relations LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM bdr.table_local_columns AS l WHERE l.relation = one);
        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', one::regclass);
        FOR listed IN
            SELECT k.publication, bdr.internal_published_filter(one, k.publication) AS filter
            FROM bdr.internal_published_columns(one) AS k
            WHERE k.publication = 'bdr' OR k.publication ~ '^bdr_[0-9]+_[0-9]+_[0-9]+_(insert|update|delete)$'
        LOOP
            EXECUTE format('ALTER PUBLICATION %I DROP TABLE ONLY %s', listed.publication, one::regclass);
            EXECUTE format(
                'ALTER PUBLICATION %I ADD TABLE ONLY %s%s', listed.publication, one::regclass, ' WHERE (' || listed.filter || ')'
            );
        END LOOP;
    END LOOP;
    RETURN true;
END
$$;

-- Which tables a text names, of those whose columns are listed and whose owner the role is. Of a table above them, too.
CREATE OR REPLACE FUNCTION bdr.internal_listed_tables_in(command text)
RETURNS oid[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
-- It is off in sessions of the agent, where commands arrive.
SET row_security = on
SET standard_conforming_strings = on
AS $$
    WITH RECURSIVE words AS MATERIALIZED (
        SELECT lower(replace(trim(BOTH '"' FROM m[1]), '""', '"')) AS word
        -- As they stand in a text, and as they stand in what a call stack says of one, which has it in quotes.
        FROM unnest(ARRAY['"(?:[^"]|"")+"', '(?:[A-Za-z0-9_$]|[^\u0001-\u007f])+']) AS pattern
        CROSS JOIN LATERAL regexp_matches(regexp_replace(command, '(^|\n)SQL statement "', '\1', 'g'), pattern, 'g') AS m
        -- An SQL function's text is not known; names in U&"..." are not read.
        WHERE command !~* 'SQL function "|u&"'
    ),
    above (relation, name, level) AS (
        SELECT l.relation, l.relation, 0 FROM bdr.table_local_columns AS l
        UNION
        SELECT a.relation, i.inhparent, a.level + 1 FROM above AS a JOIN pg_inherits AS i ON i.inhrelid = a.name
    ),
    named AS (
        SELECT a.relation, a.name, a.level
        FROM above AS a
        JOIN pg_class AS c ON c.oid = a.name
        WHERE trim(BOTH '"' FROM lower(c.relname)) IN (SELECT trim(BOTH '"' FROM w.word) FROM words AS w) OR NOT EXISTS (SELECT FROM words)
    )
    -- Those above first, as the command will lock them.
    SELECT ARRAY(
        SELECT x.oid
        FROM (
            SELECT n.name AS oid, max(n.level) AS level FROM named AS n GROUP BY n.name
            UNION
            SELECT n.relation, 0 FROM named AS n
        ) AS x
        JOIN pg_class AS c ON c.oid = x.oid
        -- Others' are not locked for it, whatever the text names.
        WHERE bdr.internal_is_owner(x.oid)
        GROUP BY x.oid
        ORDER BY max(x.level) DESC, x.oid
    )
    WHERE command ~* '\m(?:drop|type)\M|SQL function "'
$$;
COMMENT ON FUNCTION bdr.internal_listed_tables_in(text) IS 'Internal: the caller''s tables with local columns that a text names';

CREATE OR REPLACE FUNCTION bdr.internal_before_columns_change()
RETURNS event_trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $$
DECLARE
    stack text;
    relations oid[];
    done boolean;
BEGIN
    IF current_setting('server_version_num')::integer < 150000 THEN
        RETURN;
    END IF;
    GET DIAGNOSTICS stack = PG_CONTEXT;
    -- Below this function's own line is what has run the command, if not the session itself.
    relations := bdr.internal_listed_tables_in(concat(current_query(), E'\n', substring(stack FROM E'\n(.*)$')));
    IF relations <> '{}' THEN
        done := bdr.internal_take_lists_away(relations);
    END IF;
END
$$;

-- What a command has locked is published as it should be: with its lists, and where the server has taken it out of a publication.
CREATE OR REPLACE FUNCTION bdr.internal_list_columns_again()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- By itself: while bdr is installed there is not all of what follows.
    IF NOT EXISTS (SELECT FROM bdr.table_local_columns) THEN
        RETURN;
    END IF;
    PERFORM bdr.internal_sync_publication(l.relation, false)
    FROM (
        SELECT c.oid::regclass AS relation
        FROM bdr.internal_own_strong_locks() AS held
        JOIN bdr.table_local_columns AS x ON x.relation = held
        JOIN pg_class AS c ON c.oid = held AND c.relkind = 'r'
    ) AS l;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'bdr_keep_local_columns') THEN
        CREATE EVENT TRIGGER bdr_keep_local_columns ON ddl_command_end
            WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE INDEX', 'CREATE SCHEMA')
            EXECUTE FUNCTION bdr.internal_keep_local_columns();
        -- What a peer's command makes counts as well.
        ALTER EVENT TRIGGER bdr_keep_local_columns ENABLE ALWAYS;
        -- Behind bdr_capture_start, which waits for the global lock.
        CREATE EVENT TRIGGER bdr_list_columns_before ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
            EXECUTE FUNCTION bdr.internal_before_columns_change();
        ALTER EVENT TRIGGER bdr_list_columns_before ENABLE ALWAYS;
        CREATE EVENT TRIGGER bdr_list_columns_again ON ddl_command_end
            WHEN TAG IN (
                'ALTER TABLE', 'DROP COLLATION', 'DROP DOMAIN', 'DROP EXTENSION', 'DROP FOREIGN TABLE', 'DROP MATERIALIZED VIEW', 'DROP OWNED',
                'DROP SCHEMA', 'DROP TABLE', 'DROP TYPE', 'DROP VIEW'
            )
            EXECUTE FUNCTION bdr.internal_list_columns_again();
        ALTER EVENT TRIGGER bdr_list_columns_again ENABLE ALWAYS;
        CREATE EVENT TRIGGER bdr_keep_local_defaults ON sql_drop
            WHEN TAG IN (
                'DROP DOMAIN', 'DROP EXTENSION', 'DROP FUNCTION', 'DROP OPERATOR', 'DROP OWNED', 'DROP ROUTINE', 'DROP SCHEMA', 'DROP SEQUENCE', 'DROP TYPE'
            )
            EXECUTE FUNCTION bdr.internal_keep_local_defaults();
    END IF;
END
$$;
