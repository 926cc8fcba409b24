-- What a node publishes. FOR ALL TABLES would publish its own tables in schema bdr too, so publications name tables one by one:
--
--   bdr       what every peer gets whole: the group's own tables, and all tables of the user as long as no replication set tells apart
--   bdr_<peer's sysid>_<timeline>_<dboid>_insert, _update, _delete
--             of the tables that not every peer gets whole, those of which that peer gets these changes, and of these the rows that it
--             gets; TRUNCATE goes with deletions
--   bdr_ddl   the commands that change definitions
--   bdr_own   what the node's own stream reads: of all tables what takes rows away, always whole rows (a list of columns would make a
--             user's UPDATE fail once the replica identity changes)
--
-- A peer's link asks for bdr, bdr_ddl and the three that are named after the peer, for as long as there is a slot: the server looks at
-- them as of the position that it reads. So what changes here changes the stream from the transaction on that changed it, and no link
-- has to begin anew (docs/decisions/0034-replication-sets-as-publications.md).

CREATE OR REPLACE FUNCTION bdr.internal_publication_prefix(sysid text, timeline oid, dboid oid)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('bdr_%s_%s_%s', sysid, timeline, dboid) $$;
REVOKE ALL ON FUNCTION bdr.internal_publication_prefix(text, oid, oid) FROM PUBLIC;

-- Makes the publications of a peer, still without tables. Before any slot that is to be read with them: a server up to 17 cannot read
-- past a position at which one was not there yet.
CREATE OR REPLACE FUNCTION bdr.internal_publish_to(prefix text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    action text;
BEGIN
    -- remove_bdr_from_local_node() waits for whoever has read this, and nothing is made after it.
    IF NOT EXISTS (SELECT FROM bdr.bdr_local_node) THEN
        RAISE EXCEPTION 'BDR is not active in this database' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    FOREACH action IN ARRAY ARRAY['insert', 'update', 'delete'] LOOP
        IF NOT EXISTS (SELECT FROM pg_publication AS p WHERE p.pubname = format('%s_%s', prefix, action)) THEN
            EXECUTE format(
                'CREATE PUBLICATION %I WITH (publish = %L)',
                format('%s_%s', prefix, action), CASE action WHEN 'delete' THEN 'delete, truncate' ELSE action END
            );
        END IF;
    END LOOP;
EXCEPTION
    -- The peer made them at the same moment.
    WHEN duplicate_object OR unique_violation THEN
        NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_publish_to(text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_stop_publishing(prefix text)
RETURNS void
-- STRICT: of no peer there are none.
LANGUAGE plpgsql STRICT
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
BEGIN
    EXECUTE format('DROP PUBLICATION IF EXISTS %I, %I, %I', prefix || '_insert', prefix || '_update', prefix || '_delete');
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_stop_publishing(text) FROM PUBLIC;

-- The sets that a node gets from a provider: as it has them from that one, else from all. NULL or none: everything.
CREATE OR REPLACE FUNCTION bdr.internal_sets_from(
    sysid text, timeline oid, dboid oid, provider_sysid text, provider_timeline oid, provider_dboid oid
)
RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.sets
    FROM (
        SELECT c.conn_replication_sets AS sets, CASE c.conn_origin_sysid WHEN '0' THEN 2 ELSE 1 END AS turn
        FROM bdr.bdr_connections AS c
        WHERE (c.conn_sysid, c.conn_timeline, c.conn_dboid) = ($1, $2, $3)
          AND (
              c.conn_origin_sysid = '0'
              OR (c.conn_origin_sysid, c.conn_origin_timeline, c.conn_origin_dboid) = (provider_sysid, provider_timeline, provider_dboid)
          )
        UNION ALL
        SELECT ARRAY['default'], 3
    ) AS x
    ORDER BY x.turn
    LIMIT 1
$$;
REVOKE ALL ON FUNCTION bdr.internal_sets_from(text, oid, oid, text, oid, oid) FROM PUBLIC;

-- Those who get this node's changes, and the sets that they get from it.
CREATE OR REPLACE FUNCTION bdr.internal_subscribers(OUT prefix text, OUT sets text[])
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bdr.internal_publication_prefix(n.node_sysid, n.node_timeline, n.node_dboid),
           bdr.internal_sets_from(n.node_sysid, n.node_timeline, n.node_dboid, me.node_sysid, me.node_timeline, me.node_dboid)
    FROM bdr.bdr_local_node AS me
    JOIN bdr.bdr_nodes AS n
      ON (n.node_sysid, n.node_timeline, n.node_dboid) <> (me.node_sysid, me.node_timeline, me.node_dboid) AND n.node_status <> 'k'
$$;
REVOKE ALL ON FUNCTION bdr.internal_subscribers() FROM PUBLIC;

-- The publications that hold users' tables.
CREATE OR REPLACE FUNCTION bdr.internal_table_publications()
RETURNS SETOF name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.pubname
    FROM pg_publication AS p
    WHERE p.pubname IN ('bdr', 'bdr_own')
       OR p.pubname IN (
           SELECT format('%s_%s', s.prefix, x.action)
           FROM bdr.internal_subscribers() AS s
           CROSS JOIN (VALUES ('insert'), ('update'), ('delete')) AS x (action)
       )
$$;
REVOKE ALL ON FUNCTION bdr.internal_table_publications() FROM PUBLIC;

-- The user's tables, or one of them, and the publications that they belong into, with the condition that their rows must meet there, and the
-- columns that are listed there.
CREATE OR REPLACE FUNCTION bdr.internal_wanted_publications(
    only_one oid DEFAULT NULL, OUT publication text, OUT relation regclass, OUT filter text, OUT columns int2[]
)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH tables AS MATERIALIZED (
        SELECT t.relation, t.sets, t.filters, CASE
            WHEN t.relation IN (SELECT l.relation FROM bdr.table_local_columns AS l) THEN bdr.internal_listed_columns(t.relation)
        END AS columns
        FROM bdr.internal_table_sets(only_one) AS t
    ),
    sent AS MATERIALIZED (
        SELECT m.sets, m.filters, s.prefix, a.*
        FROM (SELECT DISTINCT t.sets, t.filters FROM tables AS t) AS m
        CROSS JOIN bdr.internal_subscribers() AS s
        CROSS JOIN LATERAL bdr.internal_sent_actions(m.sets, m.filters, s.sets) AS a
    ),
    uneven AS MATERIALIZED (
        SELECT DISTINCT s.sets, s.filters FROM sent AS s
        WHERE NOT (s.inserts AND s.updates AND s.deletes)
           OR coalesce(s.insert_filter, s.update_filter, s.delete_filter) IS NOT NULL
    )
    SELECT 'bdr_own', t.relation, NULL, NULL FROM tables AS t
    UNION ALL
    SELECT 'bdr', t.relation, NULL, t.columns FROM tables AS t WHERE (t.sets, t.filters) NOT IN (SELECT u.sets, u.filters FROM uneven AS u)
    UNION ALL
    SELECT format('%s_%s', s.prefix, x.action), t.relation, x.filter, t.columns
    FROM tables AS t
    JOIN uneven AS u ON (u.sets, u.filters) = (t.sets, t.filters)
    JOIN sent AS s ON (s.sets, s.filters) = (t.sets, t.filters)
    CROSS JOIN LATERAL (
        VALUES ('insert', s.inserts, s.insert_filter), ('update', s.updates, s.update_filter), ('delete', s.deletes, s.delete_filter)
    ) AS x (action, is_sent, filter)
    WHERE x.is_sent
$$;
REVOKE ALL ON FUNCTION bdr.internal_wanted_publications(oid) FROM PUBLIC;

-- What is published otherwise than it should be: `filter` and `columns` are what it should be with. What is no table of the user's any more is left alone.
CREATE OR REPLACE FUNCTION bdr.internal_publication_changes(
    only_one oid DEFAULT NULL, OUT relation regclass, OUT publication text, OUT is_wanted boolean, OUT filter text, OUT columns int2[]
)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH wanted AS (
        SELECT w.publication, w.relation, w.filter, w.columns FROM bdr.internal_wanted_publications(only_one) AS w
    ),
    present AS (
        SELECT p.pubname::text AS publication, r.prrelid::regclass AS relation, f.filter, k.columns
        FROM pg_publication AS p
        JOIN pg_publication_rel AS r ON r.prpubid = p.oid
        LEFT JOIN bdr.internal_published_filters(only_one, NULL) AS f ON f.publication = p.pubname AND f.relation = r.prrelid
        LEFT JOIN bdr.internal_published_columns(only_one) AS k ON k.publication = p.pubname AND k.relation = r.prrelid
        WHERE p.pubname IN (SELECT t FROM bdr.internal_table_publications() AS t)
          AND r.prrelid = ANY (ARRAY(SELECT t::oid FROM bdr.internal_replicated_tables(only_one) AS t))
    )
    SELECT relation, publication, w.relation IS NOT NULL, w.filter, w.columns
    FROM wanted AS w
    FULL JOIN present AS p USING (publication, relation)
    WHERE w.relation IS NULL OR p.relation IS NULL OR w.filter IS DISTINCT FROM p.filter
       OR w.columns IS DISTINCT FROM p.columns
$$;
REVOKE ALL ON FUNCTION bdr.internal_publication_changes(oid) FROM PUBLIC;

-- `wanted`: of one table; else of all. Where it does not wait, what this transaction has not locked already is left for the agent.
CREATE OR REPLACE FUNCTION bdr.internal_sync_publication(wanted regclass DEFAULT NULL, waits boolean DEFAULT true)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    publication name;
    change record;
    is_published boolean;
    changed integer := 0;
    held oid[];
BEGIN
    IF NOT EXISTS (SELECT FROM bdr.bdr_local_node) THEN
        RETURN 0;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'bdr_ddl') THEN
        -- Each node forgets old commands by itself.
        CREATE PUBLICATION bdr_ddl FOR TABLE ONLY bdr.bdr_queued_commands WITH (publish = 'insert');
    END IF;
    FOREACH publication IN ARRAY ARRAY['bdr', 'bdr_own'] LOOP
        IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = publication) THEN
            EXECUTE format(
                'CREATE PUBLICATION %I FOR TABLE ONLY bdr.bdr_nodes, ONLY bdr.bdr_connections, ONLY bdr.conflict_policy, '
                    || 'ONLY bdr.bdr_conflict_handlers, ONLY bdr.sequence_kind, ONLY bdr.bdr_replication_set_config, '
                    || 'ONLY bdr.parted_position%s WITH (publish = %L)',
                publication,
                CASE publication WHEN 'bdr' THEN ', ONLY bdr.kill, ONLY bdr.ask, ONLY bdr.bdr_global_locks' ELSE '' END,
                CASE publication
                    WHEN 'bdr' THEN 'insert, update, delete, truncate'
                    ELSE 'update, delete, truncate'
                END
            );
        END IF;
    END LOOP;
    PERFORM bdr.internal_publish_to(s.prefix) FROM bdr.internal_subscribers() AS s;
    DELETE FROM bdr.table_replication_sets AS s WHERE NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = s.relation);
    DELETE FROM bdr.table_row_filter AS f WHERE NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = f.relation);
    DELETE FROM bdr.table_local_columns AS l WHERE NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = l.relation);
    IF NOT waits THEN
        held := ARRAY(SELECT l FROM bdr.internal_own_strong_locks() AS l);
    END IF;
    FOR change IN SELECT c.* FROM bdr.internal_publication_changes(wanted) AS c ORDER BY c.relation::oid LOOP
        CONTINUE WHEN NOT waits AND change.relation::oid <> ALL (held);
        -- It may have been dropped while others were waited for.
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = change.relation);
        IF bdr.internal_is_published(change.relation, 'bdr_own') THEN
            -- So that no transaction writes to the table before and after: old minor releases might send none of its later changes.
            BEGIN
                EXECUTE format(
                    'LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE%s', change.relation, CASE WHEN waits THEN '' ELSE ' NOWAIT' END
                );
            EXCEPTION
                WHEN lock_not_available THEN
                    IF waits THEN RAISE; END IF;
                    CONTINUE;
            END;
            -- While that was waited for, sets may have changed again.
            CONTINUE WHEN NOT EXISTS (
                SELECT FROM bdr.internal_publication_changes(change.relation) AS c
                WHERE (c.relation, c.publication, c.is_wanted) = (change.relation, change.publication, change.is_wanted)
                  AND (c.filter, c.columns) IS NOT DISTINCT FROM (change.filter, change.columns)
            );
        END IF;
        -- Somebody else may have done it while that waited.
        is_published := bdr.internal_is_published(change.relation, change.publication);
        CONTINUE WHEN is_published = change.is_wanted
            AND (
                NOT is_published
                OR bdr.internal_published_filter(change.relation, change.publication) IS NOT DISTINCT FROM change.filter
                AND (
                    SELECT k.columns FROM bdr.internal_published_columns(change.relation) AS k WHERE k.publication = change.publication
                ) IS NOT DISTINCT FROM change.columns
            );
        IF is_published THEN
            EXECUTE format('ALTER PUBLICATION %I DROP TABLE ONLY %s', change.publication, change.relation);
        END IF;
        IF change.is_wanted THEN
            EXECUTE format(
                'ALTER PUBLICATION %I ADD TABLE ONLY %s%s%s', change.publication, change.relation,
                bdr.internal_column_list(change.relation, change.columns), ' WHERE (' || change.filter || ')'
            );
        END IF;
        changed := changed + 1;
    END LOOP;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION bdr.internal_sync_publication(regclass, boolean) IS
    'Puts tables into the publications that they belong into; returns how many changes that were. Does nothing while BDR is not active here';
REVOKE ALL ON FUNCTION bdr.internal_sync_publication(regclass, boolean) FROM PUBLIC;

-- Takes a table out of them until the caller has it put back by internal_sync_publication(), in the same transaction.
CREATE OR REPLACE FUNCTION bdr.internal_unpublish(relation regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    publication name;
BEGIN
    -- As there: no transaction may write to the table before and after.
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', relation);
    FOR publication IN SELECT t FROM bdr.internal_table_publications() AS t WHERE bdr.internal_is_published(relation, t) LOOP
        EXECUTE format('ALTER PUBLICATION %I DROP TABLE ONLY %s', publication, relation);
    END LOOP;
END
$$;
COMMENT ON FUNCTION bdr.internal_unpublish(regclass) IS
    'Lets apply change rows of a table for which the server takes no REPLICA IDENTITY, within a transaction';
REVOKE ALL ON FUNCTION bdr.internal_unpublish(regclass) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_is_published(relation regclass, publication text)
RETURNS boolean
-- VOLATILE: it is to see what others have committed since the caller's statement began.
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_publication_rel AS r
        JOIN pg_publication AS p ON p.oid = r.prpubid
        WHERE r.prrelid = relation AND p.pubname = publication
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_published(regclass, text) FROM PUBLIC;

-- A failing event trigger would break every user's DDL, so this one ends quietly when there is nothing to keep up to date.
CREATE OR REPLACE FUNCTION bdr.internal_publish_new_tables()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF tg_tag = 'ALTER TABLE' THEN
        -- Partitions that come and go are locked by it, but not named.
        PERFORM bdr.internal_sync_publication(a.relation, false)
        FROM (
            SELECT DISTINCT CASE WHEN c.relkind <> 'p' THEN c.oid::regclass END
            FROM pg_event_trigger_ddl_commands() AS d
            JOIN pg_class AS c ON c.oid = d.objid
            WHERE d.classid = 'pg_class'::regclass
        ) AS a (relation);
    ELSE
        PERFORM bdr.internal_sync_publication(m.relation)
        FROM (
            SELECT DISTINCT d.objid::regclass
            FROM pg_event_trigger_ddl_commands() AS d
            WHERE d.classid = 'pg_class'::regclass AND d.object_type = 'table'
        ) AS m (relation);
    END IF;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'bdr_publish_new_tables') THEN
        CREATE EVENT TRIGGER bdr_publish_new_tables ON ddl_command_end
            WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE SCHEMA')
            EXECUTE FUNCTION bdr.internal_publish_new_tables();
        -- What a peer's command makes counts as well.
        ALTER EVENT TRIGGER bdr_publish_new_tables ENABLE ALWAYS;
    END IF;
END
$$;

-- DROP EXTENSION and DROP SCHEMA while active are refused by an event trigger that is no member of the extension: a member
-- would be gone before it could fire. It lives from create or join to remove.
CREATE OR REPLACE FUNCTION bdr.internal_make_guard()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- What is made is this node's own.
SET bdr.skip_ddl_replication = on
AS $$
BEGIN
    DROP EVENT TRIGGER IF EXISTS bdr_guard;
    DROP SCHEMA IF EXISTS bdr_guard CASCADE;
    CREATE SCHEMA bdr_guard;
    EXECUTE $make$
        CREATE FUNCTION bdr_guard.refuse_drop()
        RETURNS event_trigger
        LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp
        AS $guard$
        BEGIN
            IF EXISTS (
                SELECT FROM pg_event_trigger_dropped_objects() AS o
                WHERE (o.object_type IN ('extension', 'schema') AND o.object_name = 'bdr')
                   OR (o.object_type = 'table' AND o.schema_name = 'bdr')
            ) THEN
                RAISE EXCEPTION 'Dropping the BDR extension is prohibited while BDR is active'
                    USING ERRCODE = 'object_not_in_prerequisite_state',
                          HINT = 'Part this node with bdr.bdr_part_by_node_names(...) first, or if appropriate use '
                              || 'bdr.remove_bdr_from_local_node(...)';
            END IF;
        END
        $guard$
    $make$;
    CREATE EVENT TRIGGER bdr_guard ON sql_drop EXECUTE FUNCTION bdr_guard.refuse_drop();
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_make_guard() FROM PUBLIC;
