import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, until, type TestNode } from '../support/cluster.ts';

/** Tries what would make its role a superuser where it runs in a session that began as one, and writes down as whom it ran. */
const ATTACK = `
  CREATE UNLOGGED TABLE app.seen (role text, mode text);
  CREATE FUNCTION app.attack() RETURNS integer LANGUAGE sql AS 'SELECT 1';
  CREATE FUNCTION app.late() RETURNS integer LANGUAGE plpgsql AS $fn$
  BEGIN
      ALTER ROLE mallory SUPERUSER;
      RETURN 1;
  EXCEPTION WHEN OTHERS THEN
      RETURN 1;
  END $fn$;
  -- Immutable, as an index wants it: what it calls need not be.
  CREATE FUNCTION app.f(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $fn$
  BEGIN
      PERFORM app.note();
      PERFORM app.attack();
      RETURN $1;
  END $fn$;
  CREATE FUNCTION app.note() RETURNS void LANGUAGE plpgsql AS $fn$
  BEGIN
      INSERT INTO app.seen (role, mode) VALUES (current_user, current_setting('session_replication_role'));
  END $fn$;
  CREATE FUNCTION app.fire() RETURNS trigger LANGUAGE plpgsql AS $fn$
  BEGIN
      PERFORM app.f(1);
      RETURN coalesce(NEW, OLD);
  END $fn$;
  CREATE DOMAIN app.checked_text AS text CHECK (app.f(length(VALUE)) >= 0);
  CREATE TYPE app.mood AS ENUM ('good', 'bad');
  CREATE FUNCTION app.mood_json(app.mood) RETURNS json LANGUAGE plpgsql AS $fn$
  BEGIN
      PERFORM app.f(1);
      RETURN '"cast"';
  END $fn$;
  CREATE CAST (app.mood AS json) WITH FUNCTION app.mood_json(app.mood);

  CREATE TABLE app.by_check (id integer PRIMARY KEY, v text, CHECK (app.f(id) > 0));
  CREATE TABLE app.by_domain (id integer PRIMARY KEY, v app.checked_text);
  CREATE TABLE app.by_column (id integer PRIMARY KEY, v text, g integer GENERATED ALWAYS AS (app.f(id)) STORED);
  CREATE TABLE app.by_index (id integer PRIMARY KEY, v text);
  CREATE INDEX ON app.by_index (app.f(id));
  CREATE TABLE app.by_constant (id integer PRIMARY KEY, v text);
  CREATE INDEX ON app.by_constant (v) WHERE app.f(1) > 0;
  CREATE TABLE app.by_trigger (id integer PRIMARY KEY, v text);
  CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON app.by_trigger FOR EACH ROW EXECUTE FUNCTION app.fire();
  ALTER TABLE app.by_trigger ENABLE ALWAYS TRIGGER t;
  CREATE TABLE app.by_cast (id integer PRIMARY KEY, v text, m app.mood DEFAULT 'good');
  CREATE TABLE app.plain (id integer PRIMARY KEY, v text CHECK (v <> ''));
  CREATE TABLE app.changed (id integer PRIMARY KEY, v text);
  CREATE TABLE app.deferred (id integer PRIMARY KEY, v text);

  -- Last: making what calls it runs it.
  CREATE OR REPLACE FUNCTION app.attack() RETURNS integer LANGUAGE plpgsql AS $fn$
  DECLARE
      command text;
  BEGIN
      FOREACH command IN ARRAY ARRAY[
          'ALTER ROLE mallory SUPERUSER', 'CREATE ROLE minion SUPERUSER',
          'RESET ROLE', 'SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION',
          'ALTER ROLE mallory SUPERUSER', 'CREATE ROLE minion SUPERUSER',
          $$SELECT set_config('role', 'postgres', false), set_config('session_authorization', 'postgres', false)$$,
          'ALTER ROLE mallory SUPERUSER',
          'DECLARE late CURSOR WITH HOLD FOR SELECT app.late()',
          'PREPARE bdr_1 AS SELECT app.late()',
          'CREATE TEMP VIEW pg_class AS SELECT app.late()', 'CREATE TEMP TABLE bdr_call ()',
          'CREATE DOMAIN pg_temp.timestamptz AS pg_catalog.timestamptz CHECK (app.late() > 0)',
          'CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (app.late() > 0)',
          'ALTER FUNCTION bdr_guard.run(text, oid) SECURITY INVOKER', 'SELECT bdr_guard.run(NULL, 0)',
          $$SET search_path = app, pg_catalog$$, $$SET datestyle = 'German'$$, $$SET bytea_output = 'escape'$$,
          $$SET timezone = 'Asia/Tokyo'$$, $$SET statement_timeout = '1ms'$$, 'RESET ALL', 'SELECT pg_advisory_unlock_all()'
      ] LOOP
          BEGIN
              EXECUTE command;
          EXCEPTION WHEN OTHERS THEN
              NULL;
          END;
      END LOOP;
      RETURN 1;
  END $fn$;
`;

const TABLES = [
  'by_check',
  'by_domain',
  'by_column',
  'by_index',
  'by_constant',
  'by_trigger',
  'by_cast',
  'plain',
];

const asMallory = (node: TestNode, text: string) => node.sqlAs('mallory', text);

describe.each([14, 18])('code of an ordinary role, on PostgreSQL %i', (major) => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;

  beforeAll(async () => {
    cluster = await Cluster.bare(2, { major });
    [one, two] = [cluster.node(1), cluster.node(2)];
    for (const node of cluster.nodes) await node.sql('CREATE ROLE mallory LOGIN');
    await one.create();
    await two.join(one);
    // A join is another matter: docs/concepts/trust.md.
    for (const node of cluster.nodes) {
      await node.sql('CREATE SCHEMA app AUTHORIZATION mallory');
      await asMallory(node, ATTACK);
    }
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  /** Settles and compares, as mallory too: a superuser who only looks at a table may run its code. */
  async function equal(table: string): Promise<string[]> {
    await cluster.settled();
    const [first, second] = await Promise.all(
      cluster.nodes.map(async (node) => {
        const rows = await asMallory(node, `SELECT (t.*)::text FROM ${table} AS t ORDER BY id`);
        return rows.map(([row]) => String(row));
      }),
    );
    expect(second).toEqual(first);
    return first ?? [];
  }

  async function noSuperuser(): Promise<void> {
    for (const node of cluster.nodes) {
      expect(
        await node.sql(`SELECT rolname FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'`),
        node.name,
      ).toEqual([]);
    }
  }

  test.each(TABLES)(
    'its rows replicate, with their conflicts, and it gains nothing: %s',
    async (name) => {
      const table = `app.${name}`;
      await two.sql('TRUNCATE app.seen');
      await asMallory(
        one,
        `INSERT INTO ${table} (id, v) VALUES (1, 'a'), (2, E'it''s \\\\ "b"'), (3, 'c'), (4, 'd');
       UPDATE ${table} SET v = 'aa' WHERE id = 1; DELETE FROM ${table} WHERE id = 3; UPDATE ${table} SET id = 5 WHERE id = 4`,
      );
      await cluster.settled();
      await concurrently([one, two], async () => {
        await asMallory(
          one,
          `UPDATE ${table} SET v = 'loses' WHERE id = 1; DELETE FROM ${table} WHERE id = 2`,
        );
        await asMallory(one, `INSERT INTO ${table} (id, v) VALUES (7, 'loses')`);
        await asMallory(two, `UPDATE ${table} SET v = 'wins' WHERE id IN (1, 2)`);
        await asMallory(two, `INSERT INTO ${table} (id, v) VALUES (7, 'wins')`);
      });
      const rows = await equal(table);
      expect(rows.map((row) => row.replace(/^\((\d+),([^,)]*).*$/, '$1 $2'))).toEqual([
        '1 wins',
        '2 wins',
        '5 d',
        '7 wins',
      ]);
      await asMallory(one, `TRUNCATE ${table}`);
      expect(await equal(table)).toEqual([]);
      await noSuperuser();
      // What a peer's rows ran there ran as mallory, in replica role.
      const seen = await two.sql(`SELECT DISTINCT role FROM app.seen`);
      expect(seen).toEqual(name === 'plain' ? [] : [['mallory']]);
    },
  );

  test('apply is what it was: other tables go on, and sessions are marked', async () => {
    await one.sql(`CREATE TABLE t (id integer PRIMARY KEY, at timestamptz, b bytea)`);
    await two.sql(`CREATE TABLE t (id integer PRIMARY KEY, at timestamptz, b bytea)`);
    await asMallory(one, `INSERT INTO app.by_check VALUES (100, 'x')`);
    await one.sql(`INSERT INTO t VALUES (1, '2020-02-03 04:05:06+00', '\\x00ff')`);
    expect(await cluster.equal('t')).toHaveLength(1);
    const [marked] = await two.sql(`
      SELECT count(*) > 0 AND count(*) = count(l.pid)
      FROM pg_stat_activity AS a
      LEFT JOIN pg_locks AS l ON l.pid = a.pid AND l.locktype = 'advisory' AND l.classid = 1650749952 AND l.objid = 2
      WHERE a.application_name LIKE '%apply%'`);
    expect(marked).toEqual([true]);
  });

  test('a table that begins to run code while its rows are coming is noticed at once', async () => {
    await asMallory(one, `INSERT INTO app.changed VALUES (1, 'a')`);
    await cluster.settled();
    await two.sql('TRUNCATE app.seen');
    await asMallory(two, 'ALTER TABLE app.changed ADD CHECK (app.f(id) > 0)');
    await asMallory(one, `INSERT INTO app.changed VALUES (2, 'b')`);
    expect(await equal('app.changed')).toEqual(['(1,a)', '(2,b)']);
    await noSuperuser();
    expect(await two.sql(`SELECT DISTINCT role FROM app.seen`)).toEqual([['mallory']]);
  });

  test('he can neither look into nor change what runs it', async () => {
    const [index] = await two.sql(
      `SELECT format('bdr_guard.role_%s_run', 'mallory'::regrole::oid)::regclass::oid`,
    );
    for (const text of [
      'SELECT bdr_guard.pending(0)',
      'ALTER FUNCTION bdr_guard.run(text, oid) SECURITY DEFINER',
      `SELECT bdr.internal_run_restricted(0, 'SELECT 1')`,
      `DO $$ BEGIN EXECUTE format('ALTER TABLE bdr_guard.role_%s ADD x integer', 'mallory'::regrole::oid); END $$`,
    ]) {
      await expect(asMallory(two, text), text).rejects.toMatchObject({ code: '42501' });
    }
    // A view of his in the place where a superuser's functions would read: they do not.
    await asMallory(
      two,
      `CREATE TEMP VIEW bdr_call AS SELECT 1::bigint AS call, 'SELECT 1' AS statement, app.late() > 0 AS is_taken, '' AS answer;
       SELECT brin_desummarize_range(${String(index?.[0])}, 0), brin_summarize_range(${String(index?.[0])}, 0)`,
    );
    await noSuperuser();
  });

  test('a trigger that would wait for COMMIT stops the link, and says why', async () => {
    const defer = `
      CREATE CONSTRAINT TRIGGER later AFTER INSERT ON app.deferred DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION app.fire();
      ALTER TABLE app.deferred ENABLE ALWAYS TRIGGER later`;
    await asMallory(two, defer);
    await asMallory(one, `INSERT INTO app.deferred VALUES (1, 'a')`);
    await until('the link to stop', async () => {
      const rows = await two.sql(`
        SELECT FROM bdr.bdr_links WHERE status = 'failed'
          AND status_error->>'message' LIKE '%app.deferred%cannot fire deferred trigger within security-restricted operation'`);
      return rows.length === 1;
    });
    await noSuperuser();
    await asMallory(two, 'DROP TRIGGER later ON app.deferred');
    expect(await equal('app.deferred')).toEqual(['(1,a)']);
  });
});
