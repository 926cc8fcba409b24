-- Local columns: their values stay on each node (docs/concepts/replication-sets.md, decision 38). They are local on all nodes alike: lists for each
-- node would not be sound. Changes of peers leave them alone (src/apply/table.ts); what is new here gets their defaults. The calls: local-column-calls.sql.

-- Of a table; its own row alone counts, since partitions have rows of their own.
CREATE OR REPLACE FUNCTION bdr.internal_local_columns(relation oid)
RETURNS name[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ARRAY(
        SELECT a.attname
        FROM bdr.table_local_columns AS l
        JOIN pg_attribute AS a ON a.attrelid = l.relation AND a.attnum = ANY (l.columns) AND NOT a.attisdropped
        WHERE l.relation = $1
        ORDER BY a.attnum
    )
$$;
REVOKE ALL ON FUNCTION bdr.internal_local_columns(oid) FROM PUBLIC;

CREATE OR REPLACE VIEW bdr.local_columns AS
SELECT n.nspname, c.relname, bdr.internal_local_columns(c.oid) AS columns
FROM bdr.table_local_columns AS l
JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE bdr.internal_local_columns(c.oid) <> '{}';
COMMENT ON VIEW bdr.local_columns IS 'Tables with columns whose values stay on each node';
REVOKE ALL ON bdr.local_columns FROM PUBLIC;

-- What may be local ---------------------------------------------------------------------------------------------------------

-- Why a column may not be; NULL where it may. What of a table decides whether a row may be there, or by what others find it, must be the same
-- on all nodes. And a row that comes from a peer must be possible with the default.
CREATE OR REPLACE FUNCTION bdr.internal_why_not_local(relation oid, number int2)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH parts AS (
        SELECT d.classid, d.objid, d.objsubid
        FROM pg_depend AS d
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = relation AND d.refobjsubid = number
    )
    SELECT CASE
        -- ALTER TYPE ... CASCADE changes it, and what is published does not follow.
        WHEN (SELECT c.reloftype FROM pg_class AS c WHERE c.oid = relation) <> 0 THEN 'The table is of a type.'
        WHEN a.attgenerated <> '' THEN 'It is generated.'
        WHEN t.typtype = 'd' THEN 'Its type is a domain, which the default may not be of.'
        ELSE coalesce(
            (
                SELECT format('It is in unique index or exclusion constraint %I.', x.relname)
                FROM pg_index AS i
                JOIN pg_class AS x ON x.oid = i.indexrelid
                WHERE i.indrelid = relation AND (i.indisunique OR i.indisexclusion)
                  AND (number = ANY (i.indkey::int2[])
                       OR concat(i.indexprs::text, i.indpred::text) ~ format(':varattno (0|%s) ', number))
                LIMIT 1
            ),
            (
                SELECT format('CHECK constraint %I uses it.', k.conname)
                FROM pg_constraint AS k
                WHERE k.conrelid = relation AND k.contype = 'c' AND k.conbin::text ~ format(':varattno (0|%s) ', number)
                LIMIT 1
            ),
            (
                SELECT format('It is in foreign key %I.', k.conname)
                FROM pg_constraint AS k
                WHERE k.contype = 'f' AND (k.conrelid = relation AND number = ANY (k.conkey) OR k.confrelid = relation AND number = ANY (k.confkey))
                LIMIT 1
            ),
            (
                SELECT format('Generated column %I is computed from it.', g.attname)
                FROM parts AS p
                LEFT JOIN pg_attrdef AS e ON p.classid = 'pg_attrdef'::regclass AND e.oid = p.objid
                JOIN pg_attribute AS g
                  ON g.attrelid = relation AND g.attgenerated <> ''
                 AND g.attnum = CASE WHEN p.classid = 'pg_class'::regclass AND p.objid = relation THEN p.objsubid ELSE e.adnum END
                LIMIT 1
            ),
            (
                SELECT format('It is in the partition key of table %s.', above.relid::regclass)
                FROM pg_partition_ancestors(relation) AS above (relid)
                JOIN pg_partitioned_table AS k ON k.partrelid = above.relid
                JOIN pg_attribute AS theirs ON theirs.attrelid = above.relid AND theirs.attname = a.attname
                WHERE theirs.attnum = ANY (k.partattrs::int2[])
                   OR k.partexprs::text ~ format(':varattno (0|%s) ', theirs.attnum)
                LIMIT 1
            ),
            CASE
                WHEN a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
                    THEN 'It is NOT NULL and has no default, so that rows of other nodes could not be inserted.'
            END
        )
    END
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = relation AND a.attnum = number AND NOT a.attisdropped
$$;
REVOKE ALL ON FUNCTION bdr.internal_why_not_local(oid, int2) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_check_local_columns(relation oid)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bad record;
BEGIN
    SELECT a.attrelid::regclass AS name, a.attname, why.detail INTO bad
    FROM bdr.table_local_columns AS l
    JOIN pg_attribute AS a ON a.attrelid = l.relation AND a.attnum = ANY (l.columns) AND NOT a.attisdropped
    CROSS JOIN LATERAL bdr.internal_why_not_local(a.attrelid, a.attnum) AS why (detail)
    WHERE l.relation = $1 AND why.detail IS NOT NULL
    ORDER BY a.attnum
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of table % may not be local', bad.attname, bad.name
            USING ERRCODE = 'invalid_column_reference', DETAIL = bad.detail,
                  HINT = 'Nodes must agree on what of a table keeps rows apart or out: only columns that nothing of that depends on may have values that stay on each node.';
    END IF;
    SELECT l.relation::regclass AS name INTO bad
    FROM bdr.table_local_columns AS l
    WHERE l.relation = $1 AND bdr.internal_local_columns(l.relation) <> '{}' AND NOT EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = l.relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attnum <> ALL (l.columns)
    );
    IF FOUND THEN
        RAISE EXCEPTION 'not all columns of table % may be local', bad.name
            USING ERRCODE = 'invalid_column_reference', HINT = 'Leave one that is replicated.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_local_columns(oid) FROM PUBLIC;

-- Lists ---------------------------------------------------------------------------------------------------------------------

-- The numbers of the columns that publications list, so that the others are not sent; NULL where they list none. Before 15 there are no lists.
-- Where the old row is sent whole the server wants all columns in it. It has no list take a generated column, so there is none where one
-- is part of the key; and none of no columns. What is sent all the same the other nodes leave alone.
CREATE OR REPLACE FUNCTION bdr.internal_listed_columns(relation oid)
RETURNS int2[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(a.attnum ORDER BY a.attnum)
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    JOIN bdr.table_local_columns AS l ON l.relation = c.oid AND a.attnum <> ALL (l.columns)
    WHERE c.oid = $1 AND c.relreplident <> 'f' AND bdr.internal_server_major() >= 15
      AND bdr.internal_local_columns(c.oid) <> '{}'
      AND NOT EXISTS (
          SELECT FROM pg_index AS i
          JOIN pg_attribute AS k ON k.attrelid = i.indrelid AND k.attnum = ANY (i.indkey::int2[]) AND k.attgenerated <> ''
          WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)
      )
$$;
REVOKE ALL ON FUNCTION bdr.internal_listed_columns(oid) FROM PUBLIC;

-- Of a table; of all tables where that is NULL. Not in SQL: servers of 14 would not read it.
CREATE OR REPLACE FUNCTION bdr.internal_published_columns(
    of_relation oid, OUT publication name, OUT relation oid, OUT columns int2[]
)
RETURNS SETOF record
-- VOLATILE: it is to see what others have committed since the caller's statement began.
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF bdr.internal_server_major() < 15 THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT p.pubname, r.prrelid, ARRAY(SELECT u FROM unnest(r.prattrs::int2[]) AS u ORDER BY u)
        FROM pg_publication_rel AS r
        JOIN pg_publication AS p ON p.oid = r.prpubid
        WHERE r.prattrs IS NOT NULL AND (of_relation IS NULL OR r.prrelid = of_relation);
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_published_columns(oid) FROM PUBLIC;

-- As ADD TABLE takes it: nothing where there is none.
CREATE OR REPLACE FUNCTION bdr.internal_column_list(relation oid, columns int2[])
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')', '')
    FROM pg_attribute AS a
    WHERE a.attrelid = relation AND a.attnum = ANY (columns)
$$;
REVOKE ALL ON FUNCTION bdr.internal_column_list(oid, int2[]) FROM PUBLIC;
