import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, type TestNode } from '../support/cluster.ts';

/**
 * What a superuser's session would do for whoever gets code to run in it. A file is left by what runs in a read-only transaction, or
 * in one that is rolled back, too.
 */
const ATTACK = `
  CREATE FUNCTION app.seize(place text) RETURNS void LANGUAGE plpgsql AS $fn$
  BEGIN
      EXECUTE format('COPY (SELECT 1) TO %L', current_setting('data_directory') || '/seized_' || place);
  END $fn$;
  CREATE FUNCTION app.attack(place text) RETURNS void LANGUAGE plpgsql AS $fn$
  DECLARE
      command text;
  BEGIN
      FOREACH command IN ARRAY ARRAY[
          'RESET ROLE', 'RESET SESSION AUTHORIZATION', 'SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres',
          format('SELECT app.seize(%L)', place),
          'ALTER ROLE mallory SUPERUSER', 'CREATE ROLE minion SUPERUSER',
          'DECLARE late CURSOR WITH HOLD FOR SELECT app.attack($$late$$)'
      ] LOOP
          BEGIN
              EXECUTE command;
          EXCEPTION WHEN OTHERS THEN
              NULL;
          END;
      END LOOP;
  END $fn$;
`;

/** Places of definitions, each of which has a function of its own to call: `app.f_check(integer)`. */
const PLACES = [
  'check',
  'builtin',
  'domain',
  'field',
  'generated',
  'generated_constant',
  'index',
  'index_constant',
  'unique',
  'exclusion',
  'statistics',
  'statistics_constant',
  'trigger',
  'policy',
  'not_valid',
  'partition_key',
  'partition_check',
  'partition_index',
  'bound',
  'whole_row',
  'aggregate',
  'literal',
  'materialized',
  'materialized_index',
];

/** An expression that needs no function of anybody's to do harm where it is computed for a superuser; true for others. */
const harm = (place: string) =>
  `CASE WHEN has_function_privilege('pg_catalog.lo_export(oid, text)', 'EXECUTE')
   THEN query_to_xml($$SELECT lo_export(lo_from_bytea(0, ''), 'seized_${place}')$$, true, false, '') IS NOT NULL
   ELSE true END`;

const TABLES = `
  CREATE DOMAIN app.checked AS text CHECK (app.f_domain(length(VALUE)) >= 0);
  CREATE DOMAIN app.field AS integer CHECK (app.f_field(VALUE) >= 0);
  CREATE DOMAIN app.bound AS integer CHECK (app.f_bound(VALUE) >= 0);
  CREATE DOMAIN app.initial AS integer CHECK (app.f_aggregate(VALUE) >= 0);
  CREATE DOMAIN app.literal AS integer CHECK (app.f_literal(VALUE) >= 0);
  CREATE TYPE app.pair AS (a integer, b app.field);
  CREATE TYPE app.mood AS ENUM ('good', 'bad');
  CREATE FUNCTION app.add(app.initial, integer) RETURNS app.initial LANGUAGE sql AS 'SELECT $1 + $2';
  CREATE AGGREGATE app.total (integer) (SFUNC = app.add, STYPE = app.initial, INITCOND = '1');
  CREATE DOMAIN app.harmful AS integer CHECK (${harm('aggregate_alone')});
  CREATE FUNCTION app.add(app.harmful, integer) RETURNS app.harmful LANGUAGE sql AS 'SELECT $1 + $2';
  CREATE AGGREGATE app.harm (integer) (SFUNC = app.add, STYPE = app.harmful, INITCOND = '1');

  CREATE TABLE app.by_check (id integer PRIMARY KEY, v text, m app.mood DEFAULT 'good', CHECK (app.f_check(id) > 0));
  CREATE TABLE app.by_builtin (id integer PRIMARY KEY, v text,
      CHECK (query_to_xml('SELECT app.f_builtin(1)', true, false, '') IS NOT NULL AND ${harm('builtin_alone')}));
  CREATE TABLE app.by_domain (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v app.checked DEFAULT 'd');
  CREATE TABLE app.by_field (id integer PRIMARY KEY, v text, p app.pair DEFAULT '(1,2)', "many ""x""" app.field[] DEFAULT '{3,4}');
  CREATE TABLE app.by_generated (id integer PRIMARY KEY, v text,
      g integer GENERATED ALWAYS AS (app.f_generated(id)) STORED,
      c integer GENERATED ALWAYS AS (app.f_generated_constant(1)) STORED);
  CREATE TABLE app.by_index (id integer PRIMARY KEY, v text);
  CREATE INDEX by_index_f ON app.by_index (app.f_index(id));
  CREATE INDEX by_index_constant ON app.by_index (v) WHERE app.f_index_constant(1) > 0;
  CREATE UNIQUE INDEX by_index_unique ON app.by_index (coalesce(app.f_unique(id), 0));
  ALTER TABLE app.by_index ADD CONSTRAINT "by index: x" EXCLUDE USING btree ((coalesce(app.f_exclusion(id), 0)) WITH =);
  CREATE STATISTICS app.by_index_statistics ON (app.f_statistics(id)), (app.f_statistics_constant(1) + id) FROM app.by_index;
  CREATE TABLE app.by_reference (id integer PRIMARY KEY REFERENCES app.by_index, v text);
  CREATE INDEX by_reference_constant ON app.by_reference (v) WHERE app.f_index_constant(1) > 0;
  CREATE TABLE app.by_trigger (id integer PRIMARY KEY, v text);
  CREATE FUNCTION app.fire() RETURNS trigger LANGUAGE plpgsql AS $fn$
  BEGIN
      PERFORM app.f_trigger(1);
      RETURN NEW;
  END $fn$;
  CREATE TRIGGER t BEFORE INSERT ON app.by_trigger FOR EACH ROW EXECUTE FUNCTION app.fire();
  ALTER TABLE app.by_trigger ENABLE ALWAYS TRIGGER t;
  CREATE TABLE app.parts (id integer, v text) PARTITION BY RANGE ((app.f_partition_key(1) + id));
  CREATE TABLE app.part (id integer, v text, CHECK (app.f_partition_check(1) > 0));
  CREATE INDEX parts_v ON app.parts (v) WHERE app.f_partition_index(1) > 0;
  ALTER TABLE app.parts ATTACH PARTITION app.part FOR VALUES FROM (0) TO (100);
  CREATE TABLE app.lists (id app.bound, v text) PARTITION BY LIST (id);
  CREATE TABLE app.list PARTITION OF app.lists FOR VALUES IN (1, 2, 3);
  CREATE TABLE app.by_row (id integer PRIMARY KEY, v text);
  CREATE FUNCTION app.f_row(app.by_row) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $fn$
  BEGIN
      RETURN app.f_whole_row($1.id);
  END $fn$;
  ALTER TABLE app.by_row ADD CONSTRAINT by_row_check CHECK (${harm('whole_row_alone')} AND app.f_row(by_row.*) > 0);
  CREATE VIEW app.literals AS SELECT '{1,2}'::app.literal[] AS literals;
  CREATE TABLE app.by_literal (id integer PRIMARY KEY, v text);
  CREATE INDEX by_literal_index ON app.by_literal ((id = ANY ('{1,2}'::app.literal[])));
  CREATE MATERIALIZED VIEW app.materialized AS SELECT app.f_materialized(1) AS f;
  CREATE INDEX ON app.materialized (app.f_materialized_index(f)) WHERE app.f_materialized_index(1) > 0;
  CREATE TABLE app.plain (id integer PRIMARY KEY, v text CHECK (v <> ''));
  CREATE TABLE app.forced (id integer PRIMARY KEY, v text);
  ALTER TABLE app.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
  CREATE POLICY all_rows ON app.forced USING (app.f_policy(1) > 0);
  CREATE TABLE app.old (id integer PRIMARY KEY, v text);
  INSERT INTO app.old SELECT i, 'v' || i FROM generate_series(1, 3) AS i;
  ALTER TABLE app.old ADD CONSTRAINT new CHECK (app.f_not_valid(id) > 3) NOT VALID;
  CREATE SEQUENCE app.unused START 7;
  CREATE SEQUENCE app.used;
  SELECT nextval('app.used'), setval('app.unused', 9, false);
`;

/** Each with rows 1 to 3, in columns `id` and `v`. */
const FILLED = [
  'by_check',
  'by_builtin',
  'by_field',
  'by_generated',
  'by_index',
  'by_reference',
  'by_trigger',
  'part',
  'list',
  'by_row',
  'by_literal',
  'plain',
  'forced',
];

const INDEXES =
  `SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid FROM pg_index ` +
  `WHERE indrelid::regclass::text LIKE 'app.%' ORDER BY 1`;
const CONSTRAINTS =
  `SELECT conrelid::regclass::text, contypid::regtype::text, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint ` +
  `WHERE connamespace = 'app'::regnamespace ORDER BY 1, 2, 3`;
const FUNCTIONS =
  `SELECT oid::regprocedure::text, pg_get_functiondef(oid) FROM pg_proc ` +
  `WHERE pronamespace = 'app'::regnamespace AND prokind = 'f' ORDER BY 1`;

const asMallory = (node: TestNode, text: string) => node.sqlAs('mallory', text);

describe.each([14, 18])(
  'a node joins, and tables run code of a role, on PostgreSQL %i',
  (major) => {
    let cluster: Cluster;
    let one: TestNode;
    let two: TestNode;

    beforeAll(async () => {
      cluster = await Cluster.bare(2, { major });
      [one, two] = [cluster.node(1), cluster.node(2)];
      for (const node of cluster.nodes) await node.sql('CREATE ROLE mallory LOGIN');
      await one.create();
      await one.sql('CREATE SCHEMA app AUTHORIZATION mallory');
      await asMallory(one, ATTACK);
      for (const place of PLACES) {
        await asMallory(
          one,
          `CREATE FUNCTION app.f_${place}(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $fn$
         BEGIN
             PERFORM app.attack('${place}');
             RETURN $1;
         END $fn$`,
        );
      }
      await asMallory(one, TABLES);
      for (const table of FILLED) {
        await asMallory(
          one,
          `INSERT INTO app.${table} (id, v) SELECT i, 'v' || i FROM generate_series(1, 3) AS i`,
        );
      }
      await asMallory(one, `INSERT INTO app.by_domain (v) VALUES ('v1'), ('v2'), (NULL)`);
      // Made as mallory, all of that has run as mallory.
      expect(await seized(one)).toEqual([]);
      await two.join(one);
    });
    afterAll(() => cluster[Symbol.asyncDispose]());

    /** The places whose code has had a superuser's rights on a node's server. */
    async function seized(node: TestNode): Promise<unknown[]> {
      const rows = await node.sql(
        `SELECT f FROM pg_ls_dir('.') AS f WHERE f LIKE 'seized%' ORDER BY 1`,
      );
      return rows.map(([file]) => file);
    }

    test('it has a superuser’s rights neither on the new node nor on the source', async () => {
      const found = cluster.nodes.map(async (node) => ({
        node: node.name,
        seized: await seized(node),
        superusers: await node.sql(
          `SELECT rolname FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'`,
        ),
      }));
      expect(await Promise.all(found)).toEqual([
        { node: 'node1', seized: [], superusers: [] },
        { node: 'node2', seized: [], superusers: [] },
      ]);
    });

    test('all rows are there, with what is computed of them', async () => {
      for (const table of [...FILLED, 'old', 'by_domain', 'materialized']) {
        const rows = (node: TestNode) =>
          asMallory(node, `SELECT (t.*)::text FROM app.${table} AS t ORDER BY 1`);
        expect(await rows(two), table).toEqual(await rows(one));
        expect((await rows(two)).length, table).toBe(table === 'materialized' ? 1 : 3);
      }
      // By way of the indexes alone.
      for (const [condition, index] of [
        ['by_index WHERE app.f_index(id) = 2', 'by_index_f'],
        [`by_index WHERE v = 'v2'`, 'by_index_constant'],
        ['by_index WHERE coalesce(app.f_unique(id), 0) = 2', 'by_index_unique'],
        ['by_index WHERE coalesce(app.f_exclusion(id), 0) = 2', 'by index: x'],
        [
          'materialized WHERE app.f_materialized_index(f) = 1',
          'materialized_f_materialized_index_idx',
        ],
      ] as const) {
        const query = `SELECT count(*)::integer FROM app.${condition}`;
        const alone = 'SET enable_seqscan = off; ';
        expect((await asMallory(two, `${alone} EXPLAIN ${query}`)).join(), condition).toContain(
          index,
        );
        expect(await asMallory(two, alone + query), condition).toEqual([[1]]);
      }
    });

    test('sequences go on where they stood', async () => {
      expect(
        await two.sql(`SELECT nextval('app.unused')::integer, nextval('app.used')::integer`),
      ).toEqual([[9, 2]]);
    });

    test('definitions are what they were', async () => {
      for (const query of [INDEXES, CONSTRAINTS, FUNCTIONS]) {
        expect(await two.sql(query)).toEqual(await one.sql(query));
      }
    });

    test('its rows go on replicating', async () => {
      await asMallory(one, `UPDATE app.by_check SET v = 'one' WHERE id = 1`);
      await asMallory(two, `UPDATE app.by_check SET v = 'two' WHERE id = 2`);
      await cluster.settled();
      for (const node of cluster.nodes) {
        expect(await asMallory(node, 'SELECT v FROM app.by_check ORDER BY id')).toEqual([
          ['one'],
          ['two'],
          ['v3'],
        ]);
      }
    });
  },
);
