-- Rows that break a foreign key. Apply does not check foreign keys, as the rows of one transaction come in no order that would
-- satisfy them; so a parent deleted on one node and a child inserted on another leave a child without a parent, on all nodes.

-- Reads tables whole, with the rights of the caller: what he may not read is left out with a NOTICE. Values are compared as the
-- constraint compares them.
CREATE OR REPLACE FUNCTION bdr.bdr_orphans(relation regclass DEFAULT NULL)
RETURNS TABLE (
    table_name regclass,
    constraint_name name,
    referenced_table regclass,
    referenced_key jsonb,
    row_key jsonb
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fk record;
BEGIN
    FOR fk IN
        SELECT c.conname,
               c.conrelid::regclass AS child,
               c.confrelid::regclass AS parent,
               has_schema_privilege(r.relnamespace, 'USAGE') AND has_table_privilege(r.oid, 'SELECT')
                   AND has_schema_privilege(p.relnamespace, 'USAGE') AND has_table_privilege(p.oid, 'SELECT') AS may_read,
               -- Of a partitioned table its partitions hold the rows; a constraint does not reach other tables that inherit.
               CASE r.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END AS child_only,
               CASE p.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END AS parent_only,
               -- MATCH SIMPLE asks for a parent where all columns are given, MATCH FULL where any is.
               CASE c.confmatchtype WHEN 'f' THEN ' OR ' ELSE ' AND ' END AS combine,
               -- A foreign key with PERIOD (18) wants its last column covered by the periods of all rows with that key together.
               coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false) AS has_period,
               k.given, k.equal, k.child_period, k.parent_period, k.referenced,
               coalesce(i.row_key, 'to_jsonb(t)') AS row_key
        FROM pg_constraint AS c
        JOIN pg_class AS r ON r.oid = c.conrelid
        JOIN pg_class AS p ON p.oid = c.confrelid
        CROSS JOIN LATERAL (
            SELECT array_agg(format('t.%I IS NOT NULL', a.attname) ORDER BY u.at) AS given,
                   array_agg(
                       format('p.%I OPERATOR(%I.%s) t.%I', b.attname, n.nspname, o.oprname, a.attname) ORDER BY u.at
                   ) AS equal,
                   (array_agg(format('t.%I', a.attname) ORDER BY u.at DESC))[1] AS child_period,
                   (array_agg(format('p.%I', b.attname) ORDER BY u.at DESC))[1] AS parent_period,
                   string_agg(format('%L, t.%I', b.attname, a.attname), ', ' ORDER BY u.at) AS referenced
            FROM unnest(c.conkey, c.confkey, c.conpfeqop) WITH ORDINALITY AS u (child, parent, operator, at)
            JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = u.child
            JOIN pg_attribute AS b ON b.attrelid = c.confrelid AND b.attnum = u.parent
            JOIN pg_operator AS o ON o.oid = u.operator
            JOIN pg_namespace AS n ON n.oid = o.oprnamespace
        ) AS k
        LEFT JOIN LATERAL (
            SELECT format('jsonb_build_object(%s)', string_agg(format('%L, t.%I', a.attname, a.attname), ', ' ORDER BY u.at))
                AS row_key
            FROM pg_index AS x
            CROSS JOIN LATERAL unnest(x.indkey::smallint[]) WITH ORDINALITY AS u (attnum, at)
            JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = u.attnum
            WHERE x.indrelid = c.conrelid AND x.indisprimary AND u.at <= x.indnkeyatts
            GROUP BY x.indexrelid
        ) AS i ON true
        WHERE c.contype = 'f'
          -- Those of partitions are their parents'; those that are not enforced (18) promise nothing.
          AND c.conparentid = 0
          AND coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
          AND (relation IS NULL OR c.conrelid = relation)
        ORDER BY c.conrelid::regclass::text, c.conname
    LOOP
        IF NOT fk.may_read THEN
            RAISE NOTICE 'foreign key % of table % is left out: not both tables may be read', quote_ident(fk.conname), fk.child;
            CONTINUE;
        END IF;
        RETURN QUERY EXECUTE format(
            'SELECT $1, $2, $3, jsonb_build_object(%s), %s FROM %s%s AS t WHERE (%s) AND %s',
            fk.referenced,
            fk.row_key,
            fk.child_only,
            fk.child,
            array_to_string(fk.given, fk.combine),
            CASE
                WHEN fk.has_period THEN format(
                    '(%s OPERATOR(pg_catalog.<@) (SELECT range_agg(%s) FROM %s%s AS p WHERE %s)) IS NOT TRUE',
                    fk.child_period, fk.parent_period, fk.parent_only, fk.parent,
                    array_to_string(fk.equal[:cardinality(fk.equal) - 1], ' AND ')
                )
                ELSE format(
                    'NOT EXISTS (SELECT FROM %s%s AS p WHERE %s)',
                    fk.parent_only, fk.parent, array_to_string(fk.equal, ' AND ')
                )
            END
        ) USING fk.child, fk.conname, fk.parent;
    END LOOP;
END
$$;
COMMENT ON FUNCTION bdr.bdr_orphans(regclass) IS
    'Rows whose foreign key refers to no row, of one table or of all: what conflicts between nodes may leave';
