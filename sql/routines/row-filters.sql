-- Row filters: a set may send some rows of a table only (docs/concepts/replication-sets.md). Servers have them from 15 on.
--
-- A filter is kept in two places. bdr.table_row_filter says what it is. And the server keeps it as it keeps the filters of publications,
-- in one of our own for each set that publishes nothing: its carrier. So a filter follows when columns are renamed, what would make it
-- meaningless is refused where it is tried, and that is so on every node, whether one of its peers gets the table filtered or not. The calls:
-- row-filter-calls.sql.

CREATE OR REPLACE FUNCTION bdr.internal_filter_carrier(set_name text)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
-- A set's name may be as long as a publication's.
AS $$ SELECT 'bdr_filter_' || md5(set_name) $$;
REVOKE ALL ON FUNCTION bdr.internal_filter_carrier(text) FROM PUBLIC;

-- Of a table in a publication; of all tables, or in all publications, where that is NULL. As text. Not in SQL: servers of 14 would not
-- read it.
CREATE OR REPLACE FUNCTION bdr.internal_published_filters(
    of_relation oid, in_publication text, OUT publication name, OUT relation oid, OUT filter text
)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- Constants are read and told alike, whoever calls.
SET datestyle = 'ISO, MDY'
SET intervalstyle = postgres
SET timezone = 'UTC'
SET extra_float_digits = 1
SET bytea_output = hex
SET lc_monetary = 'C'
SET quote_all_identifiers = off
AS $$
BEGIN
    IF bdr.internal_server_major() < 15 THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT p.pubname, r.prrelid, pg_get_expr(r.prqual, r.prrelid)
        FROM pg_publication_rel AS r
        JOIN pg_publication AS p ON p.oid = r.prpubid
        WHERE r.prqual IS NOT NULL
              AND (of_relation IS NULL OR r.prrelid = of_relation)
              AND (in_publication IS NULL OR p.pubname = in_publication);
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_published_filters(oid, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_published_filter(relation oid, publication text)
RETURNS text
-- VOLATILE: it is to see what others have committed since the caller's statement began.
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT f.filter FROM bdr.internal_published_filters($1, $2) AS f WHERE $1 IS NOT NULL AND $2 IS NOT NULL $$;
REVOKE ALL ON FUNCTION bdr.internal_published_filter(oid, text) FROM PUBLIC;

-- As the server keeps it.
CREATE OR REPLACE FUNCTION bdr.internal_published_filter_tree(relation oid, publication text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT r.prqual::text
        FROM pg_publication_rel AS r
        JOIN pg_publication AS p ON p.oid = r.prpubid
        WHERE r.prrelid = relation AND p.pubname = publication
    );
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_published_filter_tree(oid, text) FROM PUBLIC;

-- The filters of a table by set: its own, else those of the partitioned table above it. As their carriers have them: a row of
-- bdr.table_row_filter whose trigger has not looked at it yet is none.
CREATE OR REPLACE FUNCTION bdr.internal_filters_of(relation oid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_object_agg(x.set_name, x.filter), '{}')
    FROM (
        SELECT DISTINCT ON (f.set_name) f.set_name, told.filter
        FROM (
            SELECT $1 AS relid, 0 AS level
            UNION ALL
            SELECT a.relid, a.level FROM pg_partition_ancestors($1) WITH ORDINALITY AS a (relid, level)
        ) AS above
        JOIN bdr.table_row_filter AS f ON f.relation = above.relid
        CROSS JOIN LATERAL bdr.internal_published_filters(f.relation, bdr.internal_filter_carrier(f.set_name)) AS told
        ORDER BY f.set_name, above.level
    ) AS x
$$;
REVOKE ALL ON FUNCTION bdr.internal_filters_of(oid) FROM PUBLIC;

-- The condition that one of several is met. In the words in which the server gives it back: IS TRUE keeps it from joining an OR within
-- one of them to the one around them.
CREATE OR REPLACE FUNCTION bdr.internal_any_filter(filters text[])
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE cardinality(filters)
        WHEN 1 THEN filters[1]
        ELSE format('(%s)', (SELECT string_agg(format('(%s IS TRUE)', f), ' OR ' ORDER BY f) FROM unnest(filters) AS f))
    END
$$;
REVOKE ALL ON FUNCTION bdr.internal_any_filter(text[]) FROM PUBLIC;

-- What may be a filter -----------------------------------------------------------------------------------------------------

-- A filter becomes part of a command that a superuser's function runs. It cannot leave the parentheses around it: outside of its
-- constants and quoted names, parentheses are in pairs, and no comment, semicolon or other kind of quotation begins.
CREATE OR REPLACE FUNCTION bdr.internal_check_expression(expression text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
-- Its own patterns are read by that, whoever calls.
SET standard_conforming_strings = on
AS $$
DECLARE
    bare text := regexp_replace(expression, $re$'[^']*'|"[^"]*"$re$, ' x ', 'g');
    depth integer := 0;
    bracket text;
BEGIN
    FOREACH bracket IN ARRAY regexp_split_to_array(regexp_replace(bare, '[^()]', '', 'g'), '') LOOP
        depth := depth + CASE bracket WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END;
        EXIT WHEN depth < 0;
    END LOOP;
    -- Without a backslash the constants E'...' and '...' end alike, whatever standard_conforming_strings is.
    IF depth <> 0 OR bare ~ $re$['"$;]|--|/\*|[uU]& x $re$ OR strpos(expression, chr(92)) > 0 OR expression !~ '\S' THEN
        RAISE EXCEPTION 'a row filter must be one expression' USING
            ERRCODE = 'syntax_error',
            DETAIL = 'It may hold constants in single quotes and names in double quotes, but no backslash, and outside of quotes no "$", '
                || 'semicolon or comment.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_expression(text) FROM PUBLIC;

-- A filter is computed where the log is read: an error there would come again with each try, and its link could never go on. So it is made
-- of what cannot fail: operators and functions that are leakproof, which says so; comparisons of numeric; remainders of a column by a
-- constant that is not 0. Of nodes of other kinds not all tell their functions. `tree`: as the server keeps the filter.
CREATE OR REPLACE FUNCTION bdr.internal_check_filter_cannot_fail(tree text)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- Its own patterns are read by that, whoever calls.
SET standard_conforming_strings = on
AS $$
DECLARE
    column_node CONSTANT text := '\{VAR [^{}]*\}';
    constant_node CONSTANT text := '\{CONST [^{}]* :constvalue \d+ \[[^]]*[1-9][^]]*\]\}';
    -- To a wider integer.
    cast_to CONSTANT text := format('\{FUNCEXPR :funcid (?:%s) [^{}]* :args \(', concat_ws(
        '|', 'int4(int2)'::regprocedure::oid, 'int8(int2)'::regprocedure::oid, 'int8(int4)'::regprocedure::oid
    ));
    remainder text := format(
        ':opfuncid (?:%s)( [^{}]* :args \((?:%s|%s%s\)[^{}]*\}) (?:%s|%s%s\)[^{}]*\})\))',
        concat_ws('|', 'int2mod(int2,int2)'::regprocedure::oid, 'int4mod(int4,int4)'::regprocedure::oid, 'int8mod(int8,int8)'::regprocedure::oid),
        column_node, cast_to, column_node, constant_node, cast_to, constant_node
    );
    -- Servers of 15 give some of them shorter names. Arrays of constants, of one dimension.
    known CONSTANT text := 'VAR|CONST|OPEXPR|SCALARARRAYOPEXPR|BOOLEXPR|NULLTEST|BOOLEANTEST|RELABELTYPE|COLLATE(?:EXPR)?|FUNCEXPR|DISTINCTEXPR';
    array_node text := format(
        '\{ARRAY(?:EXPR)? [^{}]*:elements (?:<>|\((?:(?:%1$s|%2$s%1$s\)[^{}]*\}) ?)+\)) :multidims false [^{}]*\}', '\{CONST [^{}]*\}', cast_to
    );
    bad text;
BEGIN
    SELECT format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)) INTO bad
    FROM regexp_matches(regexp_replace(tree, remainder, ':remainder\1', 'g'), ':(?:op)?funcid (\d+)[^{}]* :inputcollid (\d+)', 'g') AS m (ids)
    JOIN pg_proc AS p ON p.oid = m.ids[1]::oid
    WHERE NOT p.proleakproof
          AND NOT EXISTS (
              SELECT FROM pg_amop AS a
              JOIN pg_operator AS o ON o.oid = a.amopopr
              WHERE o.oprcode = p.oid AND a.amoplefttype = 'numeric'::regtype AND a.amoprighttype = 'numeric'::regtype
          )
       -- Of two columns whose collations differ.
       OR m.ids[2] = '0' AND EXISTS (
              SELECT FROM unnest(p.proargtypes) AS a (type) JOIN pg_type AS t ON t.oid = a.type WHERE t.typcollation <> 0
          )
    LIMIT 1;
    IF bad IS NULL THEN
        bad := lower(substring(regexp_replace(tree, array_node, '', 'g') FROM format('\{(?!(?:%s) )([A-Z]+)', known)));
    END IF;
    IF bad IS NULL AND strpos(tree, format(':consttype %s ', 'money'::regtype::oid)) > 0 THEN
        -- How it is read depends on lc_monetary.
        bad := 'money';
    END IF;
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION '% may not be used in a row filter, because it may fail', bad USING
            ERRCODE = 'feature_not_supported',
            DETAIL = 'A filter is computed while the log is read. If that failed for a row, what comes behind it could never be sent.',
            HINT = 'Use comparisons, IN, BETWEEN, IS NULL, starts_with(), and the remainder of a column by a constant (id % 4 = 1).';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_filter_cannot_fail(text) FROM PUBLIC;

-- The columns by which other nodes find a table's rows: of the replica identity, of the primary key where that is the whole row.
CREATE OR REPLACE FUNCTION bdr.internal_key_columns(relation oid)
RETURNS SETOF name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.attname
    FROM pg_class AS c
    JOIN pg_index AS i ON i.indrelid = c.oid
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    WHERE c.oid = $1
      -- Others are not sent.
      AND a.attgenerated = ''
      AND CASE c.relreplident
          WHEN 'i' THEN i.indisreplident
          WHEN 'd' THEN i.indisprimary AND i.indimmediate
          WHEN 'f' THEN i.indisprimary
          ELSE false
      END
$$;
REVOKE ALL ON FUNCTION bdr.internal_key_columns(oid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_refuse_filter_column(attname name, leaf regclass, has_key boolean)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'column "%" of table % may not be in a row filter', attname, leaf USING
        ERRCODE = 'invalid_column_reference',
        DETAIL = CASE
            WHEN has_key THEN 'It is not part of the key by which other nodes find the rows.'
            ELSE 'The table has no key by which other nodes find the rows.'
        END,
        HINT = 'Take the column into the primary key, or into the index of REPLICA IDENTITY; or take the filter away: '
            || 'bdr.table_set_row_filter(..., NULL).';
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_refuse_filter_column(name, regclass, boolean) FROM PUBLIC;

-- The server turns constants into values while it reads a filter, and refuses types of users only after that. It reads as a superuser, so a
-- domain's CHECK would run with all rights. Hence nothing is read in which there is a name besides the words below, the collations and
-- types of the server, and columns of the key whose types are the server's. `of_key`: whether the columns must be of the key already.
CREATE OR REPLACE FUNCTION bdr.internal_check_filter_names(relation oid, expression text, of_key boolean)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- Its own patterns are read by that, whoever calls.
SET standard_conforming_strings = on
AS $$
DECLARE
    -- As the server reads: no other blanks, and every character beyond ASCII is one of names.
    blank CONSTANT text := '[ \t\n\r\f\v]*';
    first CONSTANT text := '(?:[A-Za-z_]|[^\u0001-\u007f])';
    further CONSTANT text := '(?:[A-Za-z0-9_]|[^\u0001-\u007f])';
    -- "~" and "@" stand for blanks that must and may be there.
    type CONSTANT text := '(?:"char"|"bit"|(?:' || replace(replace(concat_ws(
        '|', 'smallint|integer|bigint|int|int2|int4|int8|oid|numeric|decimal|real|double~precision|float4|float8|boolean|bool|text|name|uuid',
        'character~varying|varchar|character|char|bpchar|bit~varying|varbit|bytea|inet|cidr|macaddr|macaddr8|pg_lsn|xid8|date|interval',
        'timestamptz|timetz|(?:timestamp|time)(?:@\(\d+\))?(?:~with(?:out)?~time~zone)?'
    ), '~', '[ \t\n\r\f\v]+'), '@', blank) || ')(?!' || further || '))(?:' || blank || '\(\d+(?:,\d+)?\))?(?:' || blank || '\[\])*';
    tokens CONSTANT text := concat_ws(
        '|', $re$((?:'[^']*')+$re$, '(?:"[^"]*")+', '::' || blank || type, '(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?', first || further || '*',
        '[^ \t\n\r\f\v])'
    );
    word record;
    bad record;
BEGIN
    FOR word IN
        SELECT x.token, x.previous, x.next, x.token LIKE '"%' AS is_quoted, k.catcode,
               CASE
                   WHEN x.token LIKE '"%' THEN replace(substr(x.token, 2, length(x.token) - 2), '""', '"')
                   WHEN x.token = '.' OR x.token LIKE ':%' THEN x.token
                   -- In the case that the server would take.
                   ELSE (parse_ident(x.token))[1]
               END AS name
        FROM (
            SELECT t.number, t.m[1] AS token, lag(lower(t.m[1] COLLATE "C")) OVER w AS previous, coalesce(lead(t.m[1]) OVER w, '') AS next
            FROM regexp_matches(expression COLLATE "C", tokens, 'gi') WITH ORDINALITY AS t (m, number)
            WINDOW w AS (ORDER BY t.number)
        ) AS x
        LEFT JOIN pg_get_keywords() AS k ON k.word = lower(x.token COLLATE "C")
        WHERE x.token COLLATE "C" ~ format('^(?:%s|"|\.$|:$)', first)
           -- In quotes names have their case.
           OR x.token LIKE ':%"%' AND x.token <> lower(x.token COLLATE "C")
        ORDER BY x.number
    LOOP
        CONTINUE WHEN word.previous = 'collate'
            AND EXISTS (SELECT FROM pg_collation AS c WHERE c.collnamespace = 'pg_catalog'::regnamespace AND c.collname = word.name);
        CONTINUE WHEN NOT word.is_quoted AND word.name = 'starts_with' AND word.next = '(';
        -- Words that the server takes for no name: it looks for these as ASCII.
        CONTINUE WHEN NOT word.is_quoted AND word.catcode IS NOT NULL AND word.name IN (
            'and', 'or', 'not', 'in', 'null', 'true', 'false', 'symmetric', 'asymmetric', 'distinct', 'from', 'any', 'some', 'all', 'array',
            'collate'
        );
        -- Before a constant these, and the name of a column, would be that of a type; before a parenthesis, of a function.
        IF word.next NOT LIKE '''%' AND word.next <> '(' OR word.name = 'between' AND NOT word.is_quoted THEN
            CONTINUE WHEN NOT word.is_quoted AND word.catcode IS NOT NULL AND word.name IN ('is', 'isnull', 'notnull');
            IF (word.is_quoted OR word.catcode IS NULL OR word.catcode IN ('U', 'C')) AND word.token <> '.' AND word.token NOT LIKE ':%' THEN
                SELECT l AS leaf, a.attname, EXISTS (SELECT FROM bdr.internal_key_columns(l)) AS has_key,
                       l IS NULL OR NOT of_key OR a.attname IN (SELECT k FROM bdr.internal_key_columns(l) AS k) AS is_of_key,
                       t.oid < 16384 AND t.typtype = 'b' AND t.typname !~ '^_?reg' AS has_known_type
                INTO bad
                FROM pg_attribute AS a
                JOIN pg_type AS t ON t.oid = a.atttypid
                LEFT JOIN bdr.internal_leaves(relation::regclass) AS l ON true
                WHERE a.attrelid = relation AND a.attname = word.name AND a.attnum > 0 AND NOT a.attisdropped
                ORDER BY is_of_key
                LIMIT 1;
                IF FOUND AND NOT bad.is_of_key THEN
                    PERFORM bdr.internal_refuse_filter_column(bad.attname, bad.leaf, bad.has_key);
                ELSIF FOUND AND NOT bad.has_known_type THEN
                    RAISE EXCEPTION 'column "%" of table % may not be in a row filter', bad.attname, relation::regclass USING
                        ERRCODE = 'feature_not_supported',
                        DETAIL = 'Its type is not one of the server''s own base types, or names objects.';
                END IF;
                CONTINUE WHEN FOUND;
                CONTINUE WHEN NOT word.is_quoted AND word.catcode IS NOT NULL AND word.name IN ('between', 'unknown')
                    AND word.name <> (SELECT c.relname FROM pg_class AS c WHERE c.oid = relation);
                IF (word.catcode IS NULL OR word.catcode = 'U') AND word.next <> '.' THEN
                    RAISE EXCEPTION 'column "%" of table % does not exist', word.name, relation::regclass USING ERRCODE = 'undefined_column';
                END IF;
            END IF;
        END IF;
        RAISE EXCEPTION '% may not be used in a row filter', CASE
            WHEN word.token = '.' THEN 'a name with a schema' WHEN word.token LIKE ':%' THEN 'a cast to this type' ELSE word.token
        END USING
            ERRCODE = 'feature_not_supported',
            DETAIL = 'A filter holds columns of the table''s key, constants, and what cannot fail. Names have no schema.',
            HINT = 'Use comparisons, IN, BETWEEN, IS NULL, starts_with(), and the remainder of a column by a constant (id % 4 = 1).';
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_filter_names(oid, text, boolean) FROM PUBLIC;

-- The columns that filters of a table, or of a partitioned table above it, use.
CREATE OR REPLACE FUNCTION bdr.internal_filter_columns(relation oid)
RETURNS SETOF name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.attname
    FROM bdr.table_row_filter AS f
    JOIN pg_publication AS p ON p.pubname = bdr.internal_filter_carrier(f.set_name)
    JOIN pg_publication_rel AS r ON (r.prpubid, r.prrelid) = (p.oid, f.relation)
    JOIN pg_depend AS d
      ON d.classid = 'pg_publication_rel'::regclass AND d.objid = r.oid
     AND d.refclassid = 'pg_class'::regclass AND d.refobjid = f.relation AND d.refobjsubid > 0
    JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.refobjid, d.refobjsubid)
    WHERE f.relation = $1 OR f.relation IN (SELECT pg_partition_ancestors($1))
$$;
REVOKE ALL ON FUNCTION bdr.internal_filter_columns(oid) FROM PUBLIC;

-- A key is within a filter or is not, for good: a row that is changed from one side to the other is one that goes and one that comes. By
-- other columns rows would go and come while other nodes change them too, and nodes would differ (decision 37).
CREATE OR REPLACE FUNCTION bdr.internal_check_filter_columns(wanted oid DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bad record;
BEGIN
    SELECT l AS leaf, used AS attname, EXISTS (SELECT FROM bdr.internal_key_columns(l)) AS has_key INTO bad
    FROM bdr.table_row_filter AS f
    CROSS JOIN LATERAL bdr.internal_leaves(f.relation::regclass) AS l
    CROSS JOIN LATERAL bdr.internal_filter_columns(l) AS used
    WHERE (wanted IS NULL OR f.relation = wanted)
      AND used NOT IN (SELECT k FROM bdr.internal_key_columns(l) AS k)
    LIMIT 1;
    IF FOUND THEN
        PERFORM bdr.internal_refuse_filter_column(bad.attname, bad.leaf, bad.has_key);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_filter_columns(oid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_check_filters_are_possible()
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Where a filter arrives, it is too late to refuse it for the sake of others.
    node text := (
        SELECT n.node_name FROM bdr.bdr_nodes AS n
        WHERE n.node_status <> 'k' AND coalesce(n.node_server_major, 14) < 15
          AND NOT bdr.internal_is_replica()
        ORDER BY n.node_seq_id LIMIT 1
    );
BEGIN
    IF bdr.internal_server_major() < 15 OR node IS NOT NULL THEN
        RAISE EXCEPTION 'row filters need PostgreSQL 15 or later on all nodes' USING
            ERRCODE = 'feature_not_supported',
            DETAIL = CASE WHEN node IS NULL THEN 'This server is older.' ELSE format('The server of node %s is older.', node) END;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_filters_are_possible() FROM PUBLIC;

-- Carriers -----------------------------------------------------------------------------------------------------------------

-- Puts a filter into its carrier; NULL takes it away. Returns it as the server gives it back, in words that stay when they are read again.
CREATE OR REPLACE FUNCTION bdr.internal_carry_filter(relation oid, set_name text, filter text)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Constants are read and told alike, whoever calls.
SET datestyle = 'ISO, MDY'
SET intervalstyle = postgres
SET timezone = 'UTC'
SET extra_float_digits = 1
SET bytea_output = hex
SET lc_monetary = 'C'
SET quote_all_identifiers = off
AS $$
DECLARE
    carrier CONSTANT text := bdr.internal_filter_carrier(set_name);
    given text := filter;
    told text;
BEGIN
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = carrier) THEN
            -- Only so will it take a partitioned table with a filter.
            EXECUTE format('CREATE PUBLICATION %I WITH (publish = %L, publish_via_partition_root = true)', carrier, '');
        END IF;
    EXCEPTION
        -- Somebody else made it at the same moment.
        WHEN duplicate_object OR unique_violation THEN
            NULL;
    END;
    FOR try IN 1..3 LOOP
        IF bdr.internal_is_published(relation, carrier) THEN
            EXECUTE format('ALTER PUBLICATION %I DROP TABLE ONLY %s', carrier, relation::regclass);
        END IF;
        EXIT WHEN given IS NULL;
        EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %s WHERE (%s)', carrier, relation::regclass, given);
        told := bdr.internal_published_filter(relation, carrier);
        IF told = given THEN
            RETURN told;
        END IF;
        given := told;
    END LOOP;
    IF given IS NOT NULL THEN
        RAISE EXCEPTION 'the row filter has no words that stay when they are read again' USING
            ERRCODE = 'feature_not_supported', DETAIL = format('At last it was %s.', given);
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_carry_filter(oid, text, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_drop_filter_carriers()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    carrier name;
BEGIN
    FOR carrier IN SELECT p.pubname FROM pg_publication AS p WHERE p.pubname ~ '^bdr_filter_[0-9a-f]{32}$' LOOP
        EXECUTE format('DROP PUBLICATION %I', carrier);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_drop_filter_carriers() FROM PUBLIC;

CREATE OR REPLACE VIEW bdr.replication_set_row_filters AS
SELECT n.nspname, c.relname, f.set_name, f.filter
FROM bdr.table_row_filter AS f
JOIN pg_catalog.pg_class AS c ON c.oid = f.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace;
COMMENT ON VIEW bdr.replication_set_row_filters IS 'Which rows of tables replication sets send, where that is not all of them';
REVOKE ALL ON bdr.replication_set_row_filters FROM PUBLIC;
