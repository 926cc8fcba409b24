/** What the definitions need that is not replicated, on each node. */
export const ROLES = `
  CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; GRANT ALL ON DATABASE app TO alice; GRANT alice TO bob`;

/** Commands of every kind that is replicated (docs/concepts/ddl.md), each text as one, in their order. All majors know them. */
export const DEFINITIONS: readonly (readonly [name: string, commands: string])[] = [
  [
    'CREATE SCHEMA with tables in it',
    `CREATE SCHEMA s1 CREATE TABLE a (id integer PRIMARY KEY) CREATE VIEW v AS SELECT * FROM a`,
  ],
  [
    'CREATE TABLE in all its forms',
    `CREATE TABLE parent (id bigserial PRIMARY KEY, v text NOT NULL DEFAULT 'x', n numeric(10, 2) CHECK (n > 0), at timestamptz DEFAULT now());
       CREATE TABLE child (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent bigint REFERENCES parent ON DELETE CASCADE, UNIQUE (parent));
       CREATE TABLE likewise (LIKE parent INCLUDING ALL);
       CREATE TABLE heir (extra text) INHERITS (parent);
       CREATE TABLE parted (id integer, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
       CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')`,
  ],
  [
    'ALTER TABLE in many forms',
    `CREATE TABLE alt (id integer PRIMARY KEY, a text, b integer);
       INSERT INTO alt VALUES (1, '1', 1), (2, '2', 2);
       ALTER TABLE alt ADD COLUMN c text, ADD COLUMN d integer DEFAULT 7, ADD COLUMN at timestamptz NOT NULL DEFAULT now();
       ALTER TABLE alt ALTER COLUMN a TYPE integer USING a::integer, ALTER COLUMN b TYPE bigint;
       ALTER TABLE alt ADD COLUMN g bigint GENERATED ALWAYS AS (b * 2) STORED;
       ALTER TABLE alt RENAME COLUMN c TO cc;
       ALTER TABLE alt ADD CONSTRAINT alt_b CHECK (b > 0) NOT VALID;
       ALTER TABLE alt VALIDATE CONSTRAINT alt_b;
       ALTER TABLE alt ALTER COLUMN cc SET DEFAULT 'z', ALTER COLUMN d SET NOT NULL, ALTER COLUMN cc SET STATISTICS 10;
       ALTER TABLE alt DROP COLUMN cc;
       ALTER TABLE alt RENAME TO alt2;
       ALTER TABLE alt2 SET (fillfactor = 70);
       ALTER TABLE alt2 REPLICA IDENTITY FULL; ALTER TABLE alt2 REPLICA IDENTITY DEFAULT;
       CREATE SCHEMA moved; ALTER TABLE alt2 SET SCHEMA moved; ALTER TABLE moved.alt2 OWNER TO alice;
       UPDATE moved.alt2 SET d = 8 WHERE id = 1`,
  ],
  [
    'indexes',
    `CREATE TABLE ix (id integer PRIMARY KEY, v text, n integer);
       CREATE INDEX ix_v ON ix (lower(v)) WHERE n > 0;
       CREATE UNIQUE INDEX ON ix (n);
       ALTER INDEX ix_v RENAME TO ix_w;
       CREATE INDEX gone ON ix (n);
       DROP INDEX gone`,
  ],
  [
    'views and materialized views',
    `CREATE TABLE src (id integer PRIMARY KEY, v text);
       CREATE VIEW v1 AS SELECT v FROM src; CREATE OR REPLACE VIEW v1 AS SELECT v, id FROM src;
       CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM src; CREATE UNIQUE INDEX ON mv (n);
       INSERT INTO src VALUES (1, 'a'); REFRESH MATERIALIZED VIEW mv`,
  ],
  [
    'types, domains and enums',
    `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a integer, b text); CREATE TYPE span AS RANGE (subtype = integer);
       CREATE DOMAIN positive AS integer CHECK (VALUE > 0); ALTER DOMAIN positive ADD CONSTRAINT small CHECK (VALUE < 100);
       ALTER TYPE pair ADD ATTRIBUTE c date; ALTER TYPE mood RENAME VALUE 'ok' TO 'fine';
       CREATE TYPE old AS (a integer); DROP TYPE old`,
  ],
  ['ALTER TYPE ADD VALUE', `ALTER TYPE mood ADD VALUE 'happy' AFTER 'fine'`],
  [
    'functions, procedures, aggregates, operators, casts',
    `CREATE FUNCTION plus(a integer, b integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT a + b; -- ; "';
       CREATE FUNCTION body(a integer) RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT a; SELECT a + 1; END;
       CREATE PROCEDURE nothing() LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
       CREATE AGGREGATE total (integer) (SFUNC = plus, STYPE = integer, INITCOND = '0');
       CREATE OPERATOR @+@ (FUNCTION = plus, LEFTARG = integer, RIGHTARG = integer);
       CREATE FUNCTION gone(text DEFAULT 'x') RETURNS text LANGUAGE sql AS 'SELECT $1'; DROP FUNCTION gone;
       CREATE AGGREGATE gone (integer) (SFUNC = plus, STYPE = integer); DROP AGGREGATE gone (integer);
       ALTER FUNCTION plus OWNER TO alice; ALTER FUNCTION plus COST 5`,
  ],
  [
    'triggers, rules, policies',
    `CREATE TABLE tr (id integer PRIMARY KEY, v text);
       CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := NEW.v || '!'; RETURN NEW; END $$;
       CREATE TRIGGER t BEFORE INSERT ON tr FOR EACH ROW EXECUTE FUNCTION fire();
       CREATE TRIGGER gone BEFORE UPDATE ON tr FOR EACH ROW EXECUTE FUNCTION fire(); DROP TRIGGER gone ON tr;
       ALTER TABLE tr ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON tr USING (v <> ''); CREATE POLICY q ON tr USING (true); DROP POLICY q ON tr;
       CREATE RULE r AS ON DELETE TO tr DO ALSO NOTIFY deleted; CREATE RULE r2 AS ON UPDATE TO tr DO ALSO NOTIFY updated; DROP RULE r2 ON tr;
       INSERT INTO tr VALUES (1, 'a')`,
  ],
  [
    'sequences, comments, grants, default privileges, statistics, text search, extensions',
    `CREATE SEQUENCE sq INCREMENT 5; ALTER SEQUENCE sq MAXVALUE 1000;
       COMMENT ON TABLE src IS 'it''s; a source'; GRANT SELECT, UPDATE (v) ON src TO alice WITH GRANT OPTION; REVOKE UPDATE (v) ON src FROM alice;
       ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO bob;
       CREATE STATISTICS st ON id, v FROM src; CREATE TEXT SEARCH CONFIGURATION ts (COPY = simple);
       ALTER TEXT SEARCH CONFIGURATION ts DROP MAPPING FOR word;
       CREATE EXTENSION citext; CREATE TABLE ci (v citext PRIMARY KEY); DROP TABLE ci; DROP EXTENSION citext; CREATE EXTENSION hstore SCHEMA s1;
       CREATE COLLATION co (provider = icu, locale = 'de'); CREATE CAST (pair AS text) WITH INOUT`,
  ],
  [
    'operator classes and families, conversions, languages, transforms, text search, access methods',
    `CREATE OPERATOR FAMILY fam USING btree; CREATE OPERATOR CLASS cls FOR TYPE integer USING btree FAMILY fam AS
           OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(integer, integer);
       ALTER OPERATOR FAMILY fam USING btree RENAME TO family; CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
       CREATE LANGUAGE other HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler VALIDATOR plpgsql_validator;
       CREATE TRANSFORM FOR integer LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
       CREATE TEXT SEARCH TEMPLATE tmpl (INIT = dsimple_init, LEXIZE = dsimple_lexize); CREATE TEXT SEARCH DICTIONARY dict (TEMPLATE = tmpl);
       CREATE TEXT SEARCH PARSER prs (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype);
       CREATE ACCESS METHOD stack TYPE TABLE HANDLER heap_tableam_handler`,
  ],
  [
    'foreign data wrappers, servers, foreign tables, user mappings',
    `CREATE FOREIGN DATA WRAPPER fdw; CREATE SERVER srv FOREIGN DATA WRAPPER fdw; ALTER SERVER srv OPTIONS (ADD a 'b');
       CREATE FOREIGN TABLE ft (id integer) SERVER srv; ALTER FOREIGN TABLE ft ADD COLUMN v text;
       CREATE USER MAPPING FOR alice SERVER srv; DROP USER MAPPING FOR alice SERVER srv`,
  ],
  [
    'and all of these dropped',
    `DROP OPERATOR CLASS cls USING btree; DROP OPERATOR FAMILY family USING btree; DROP CONVERSION conv; DROP LANGUAGE other;
       DROP TRANSFORM FOR integer LANGUAGE sql; DROP TEXT SEARCH DICTIONARY dict; DROP TEXT SEARCH TEMPLATE tmpl; DROP TEXT SEARCH PARSER prs;
       DROP ACCESS METHOD stack; DROP FOREIGN TABLE ft; DROP SERVER srv; DROP FOREIGN DATA WRAPPER fdw;
       CREATE OPERATOR @-@ (FUNCTION = plus, LEFTARG = integer, RIGHTARG = integer); DROP OPERATOR @-@ (integer, integer);
       CREATE PROCEDURE gone(a integer, INOUT b integer) LANGUAGE sql AS 'SELECT a'; DROP PROCEDURE gone;
       CREATE CAST (pair AS xml) WITH INOUT; DROP CAST (pair AS xml); CREATE COLLATION gone FROM "C"; DROP COLLATION gone;
       CREATE STATISTICS gone ON id, v FROM src; DROP STATISTICS gone; CREATE DOMAIN gone AS text; DROP DOMAIN gone;
       CREATE SEQUENCE gone; DROP SEQUENCE gone; CREATE VIEW gone AS SELECT 1 AS a; DROP VIEW gone;
       CREATE MATERIALIZED VIEW gone AS SELECT 1 AS a; DROP MATERIALIZED VIEW gone;
       CREATE TEXT SEARCH CONFIGURATION gone (COPY = simple); DROP TEXT SEARCH CONFIGURATION gone`,
  ],
  [
    'sequences that begin again, schemas with other names, tablespaces by name',
    `ALTER SEQUENCE sq RESTART WITH 500; CREATE SCHEMA renamed; ALTER SCHEMA renamed RENAME TO other_name;
       CREATE TABLE other_name.placed (id integer PRIMARY KEY) TABLESPACE pg_default`,
  ],
  [
    'partitions attached and detached',
    `CREATE TABLE parted_2 (LIKE parted INCLUDING ALL); ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
       ALTER TABLE parted DETACH PARTITION parted_1; INSERT INTO parted VALUES (1, '2027-05-05')`,
  ],
  [
    'tables made from queries, with their rows',
    `CREATE TEMP TABLE only_here AS SELECT g AS id, 'v' || g AS v FROM generate_series(1, 10) AS g;
       CREATE TABLE from_query AS SELECT id, v COLLATE "C" AS v, ARRAY[id]::smallint[] AS a FROM only_here; SELECT id INTO from_select FROM only_here;
       CREATE TABLE empty AS SELECT * FROM only_here WITH NO DATA; DROP TABLE only_here`,
  ],
  [
    'functions that run commands in many ways',
    `CREATE FUNCTION run_in_sql() RETURNS void LANGUAGE sql AS $$
           CREATE TABLE by_sql_1 (id integer PRIMARY KEY); CREATE TABLE by_sql_2 (id integer PRIMARY KEY);
           INSERT INTO src VALUES (2, 'b') $$;
       DO $do$ BEGIN
           FOR i IN 1..3 LOOP
               EXECUTE 'CREATE TABLE IF NOT EXISTS many_1 (id integer PRIMARY KEY); CREATE TABLE IF NOT EXISTS many_2 (id integer PRIMARY KEY);
                   ALTER TABLE many_1 ADD COLUMN IF NOT EXISTS a text; ALTER TABLE many_2 ADD COLUMN IF NOT EXISTS b text';
           END LOOP;
       END $do$;
       SELECT bdr.bdr_replicate_ddl_command('CREATE TABLE public.many_3 (id integer PRIMARY KEY); CREATE TABLE public.many_4 (id integer PRIMARY KEY)')`,
  ],
  ['functions in SQL that run commands', 'SELECT run_in_sql()'],
  [
    'privileges on tables of which some are only here',
    `CREATE UNLOGGED TABLE un (id integer); CREATE TEMP TABLE te (id integer);
       GRANT SELECT ON many_1, un, many_2 TO alice, bob; GRANT SELECT ON te, un TO bob; REVOKE SELECT ON un, te, many_1 FROM bob; DROP TABLE un`,
  ],
  [
    'objects that depend on what is dropped',
    `DROP TABLE parent CASCADE; DROP SCHEMA moved CASCADE; DROP TABLE IF EXISTS not_there; DROP OWNED BY bob`,
  ],
];

/** One by one: these want no transaction around them. */
export const CONCURRENT_DEFINITIONS: readonly string[] = [
  'CREATE TABLE single (id integer PRIMARY KEY, n integer)',
  'CREATE INDEX CONCURRENTLY single_i ON single (id)',
  'CREATE UNIQUE INDEX CONCURRENTLY single_u ON single (n)',
  'CREATE INDEX CONCURRENTLY ON single (n, id)',
  'DROP INDEX CONCURRENTLY single_i',
  'INSERT INTO single VALUES (1, 1)',
  'ALTER TABLE single ADD CONSTRAINT single_n UNIQUE USING INDEX single_u',
  'ALTER TABLE parted DETACH PARTITION parted_2 CONCURRENTLY',
];

/** Everything that users have defined, as its identity and its kind; for nodes whose pg_dump texts need not be the same. */
export const DEFINED = /* sql */ `
  SELECT i.type || ' ' || i.identity
  FROM (
      SELECT 'pg_class'::regclass AS class, oid, relnamespace AS schema FROM pg_class WHERE relpersistence = 'p'
      UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
      UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type
      UNION ALL SELECT 'pg_constraint'::regclass, oid, connamespace FROM pg_constraint WHERE contype <> 'n'
      UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace FROM pg_operator
      UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace FROM pg_ts_config
      UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxnamespace FROM pg_statistic_ext
      UNION ALL SELECT 'pg_trigger'::regclass, t.oid, c.relnamespace FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
      UNION ALL SELECT 'pg_policy'::regclass, p.oid, c.relnamespace FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
  ) AS o
  JOIN pg_namespace AS n ON n.oid = o.schema
  CROSS JOIN pg_identify_object(o.class, o.oid, 0) AS i
  WHERE n.nspname <> ALL ('{pg_catalog,information_schema,pg_toast,bdr,bdr_guard}') AND n.nspname NOT LIKE 'pg_temp%'
  ORDER BY 1`;
