import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, until, type TestNode } from '../support/cluster.ts';
import { schemaText } from '../support/schema-text.ts';

let cluster: Cluster;
let one: TestNode;
let two: TestNode;

beforeAll(async () => {
  cluster = await Cluster.start(2, '', { replicatesDdl: true });
  [one, two] = [cluster.node(1), cluster.node(2)];
  for (const node of [one, two]) {
    await node.sql(
      `CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; GRANT ALL ON DATABASE app TO alice; GRANT alice TO bob`,
    );
  }
  await one.sql('GRANT ALL ON SCHEMA public TO alice');
});
afterAll(() => cluster[Symbol.asyncDispose]());

/** Both nodes have applied everything; fails at once with the reason of a link that has stopped. */
async function applied(): Promise<void> {
  for (const node of [one, two]) {
    await until(`all that ${node.name} has committed to be applied`, async () => {
      for (const reader of [one, two]) {
        const [failed] = await reader.sql(
          `SELECT status_error FROM bdr.bdr_links WHERE status = 'failed'`,
        );
        if (failed) throw new Error(`${reader.name}: ${JSON.stringify(failed[0])}`);
      }
      return node.applied('1s').then(
        () => true,
        () => false,
      );
    });
  }
}

/** Both nodes have applied everything, and pg_dump says the same of both, letter by letter. */
async function sameSchema(): Promise<string> {
  await applied();
  await cluster.settled();
  const [first, second] = await Promise.all([schemaText(one), schemaText(two)]);
  expect(second).toBe(first);
  return first ?? '';
}

describe('commands arrive on the other node', () => {
  test.each([
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
  ])('%s', async (_, commands) => {
    await one.sql(commands);
    await applied();
  });

  test('one by one as well as many at once, and rows between them', async () => {
    for (const command of [
      'CREATE TABLE single (id integer PRIMARY KEY)',
      'CREATE INDEX CONCURRENTLY single_i ON single (id)',
      'DROP INDEX CONCURRENTLY single_i',
      'INSERT INTO single VALUES (1)',
    ]) {
      await two.sql(command);
    }
    await two.sql(`
      BEGIN; INSERT INTO single VALUES (2); ALTER TABLE single ADD COLUMN v text DEFAULT 'first'; INSERT INTO single VALUES (3, 'b');
      SAVEPOINT a; CREATE TABLE never (id integer); ROLLBACK TO a;
      ALTER TABLE single ADD COLUMN w text; UPDATE single SET w = v; ALTER TABLE single DROP COLUMN v; INSERT INTO single VALUES (4, 'd'); COMMIT;
      CREATE TABLE IF NOT EXISTS single (other text); CREATE TABLE "after ""all""" (id integer PRIMARY KEY)`);
    await applied();
    expect(await cluster.same('single')).toEqual(['(1,first)', '(2,first)', '(3,b)', '(4,d)']);
  });
});

test('definitions are the same letter by letter, and so are rows: those that commands made or changed, too', async () => {
  await sameSchema();
  const tables = await one.sql('SELECT t::text FROM bdr.internal_replicated_tables() AS t');
  for (const [table] of tables) await cluster.same(String(table));
});

describe('whose command it is', () => {
  test("is the same on all nodes: of ordinary roles, after SET ROLE, in functions with their owner's rights", async () => {
    await one.sqlAs(
      'alice',
      `CREATE TABLE of_alice (id integer PRIMARY KEY, n integer);
       CREATE FUNCTION make_one() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
       BEGIN
           EXECUTE 'CREATE TABLE made_by_function (id integer PRIMARY KEY)';
           ALTER TABLE made_by_function ADD COLUMN v text;
       END $$`,
    );
    await two.sqlAs('alice', 'CREATE INDEX ON of_alice (n)').catch(() => undefined);
    await applied();
    await two.sqlAs('bob', 'SELECT public.make_one()');
    await one.sql(`SET ROLE alice; CREATE TABLE by_set_role (id integer PRIMARY KEY)`);
    await applied();
    expect(
      await two.sql(
        `SELECT c.relname, r.rolname FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner
         WHERE c.relname IN ('of_alice', 'made_by_function', 'by_set_role') ORDER BY 1`,
      ),
    ).toEqual([
      ['by_set_role', 'alice'],
      ['made_by_function', 'alice'],
      ['of_alice', 'alice'],
    ]);
  });

  test('gives what it calls no more rights on the other node', async () => {
    await one.sqlAs(
      'alice',
      `CREATE FUNCTION climb(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
       DECLARE command text;
       BEGIN
           FOREACH command IN ARRAY ARRAY['RESET ROLE', 'SET SESSION AUTHORIZATION postgres', 'ALTER ROLE alice SUPERUSER',
               $c$SELECT set_config('role', 'postgres', false)$c$, 'ALTER ROLE alice SUPERUSER'] LOOP
               BEGIN EXECUTE command; EXCEPTION WHEN OTHERS THEN NULL; END;
           END LOOP;
           RETURN $1;
       END $$;
       INSERT INTO of_alice VALUES (1, 1);
       ALTER TABLE of_alice ADD CHECK (climb(n) > 0);
       ALTER TABLE of_alice ADD COLUMN c integer DEFAULT climb(3);
       CREATE INDEX ON of_alice (climb(n))`,
    );
    await applied();
    for (const node of [one, two]) {
      expect(await node.sql(`SELECT rolsuper FROM pg_roles WHERE rolname = 'alice'`)).toEqual([
        [false],
      ]);
    }
  });

  test('must be a role of the other node too: until then the link waits, and nothing is half done', async () => {
    await one.sql('CREATE ROLE carol LOGIN; GRANT ALL ON SCHEMA public TO carol');
    await two.sql('CREATE ROLE dave');
    await expect(applied()).rejects.toThrow(/carol/);
    await two.sql('CREATE ROLE carol LOGIN');
    await one.applied();
    await one.sqlAs('carol', 'CREATE TABLE of_carol (id integer PRIMARY KEY)');
    await applied();
  });
});

describe('an index that is built concurrently', () => {
  const builds = () => two.sql('SELECT index_name, error FROM bdr.index_build');
  const states = (node: TestNode) =>
    node.sql(
      `SELECT c.relname, i.indisvalid, obj_description(c.oid) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
       WHERE c.relname LIKE 'big\\_n%' ORDER BY 1`,
    );

  test('is built beside the link: rows go on, other commands wait, and a crash begins it again', async () => {
    await one.sql(
      'CREATE TABLE big (id integer PRIMARY KEY, n integer); INSERT INTO big VALUES (1, 1); GRANT ALL ON SCHEMA public TO carol',
    );
    await applied();
    await using holder = await two.connect();
    await holder.sql('BEGIN; INSERT INTO big VALUES (2, 2)');
    await one.sql('CREATE INDEX CONCURRENTLY big_n ON big (n) WHERE n > 0');
    const isBegun = async () => (await states(two)).length === 1;
    await until('the other node to have begun it', isBegun);
    await one.sql('INSERT INTO big VALUES (3, 3)');
    await applied();
    expect(await builds()).toEqual([['big_n', null]]);
    expect(await states(two)).toEqual([['big_n', false, null]]);

    await one.sql(`COMMENT ON INDEX big_n IS 'built'; INSERT INTO big VALUES (4, 4)`);
    await two.host.killAgent();
    two.host.startAgent();
    await until('the build that was ended to be given up', async () => {
      const [row] = await two.sql(
        `SELECT count(*) = 0 FROM pg_stat_activity WHERE query ILIKE 'CREATE INDEX CONCURRENTLY big_n%' AND state = 'active'`,
      );
      return row?.[0] === true;
    });
    expect(await states(two)).toEqual([['big_n', false, null]]);
    await holder.sql('COMMIT');
    await applied();
    expect(await states(two)).toEqual([['big_n', true, 'built']]);
    expect(await builds()).toEqual([]);
    expect(await cluster.equal('big')).toHaveLength(4);
  });

  test('says why it cannot be built, and may be given up', async () => {
    await two.sql('SET bdr.skip_ddl_replication = on; ALTER TABLE big RENAME TO other_big');
    await one.sql('CREATE INDEX CONCURRENTLY big_n2 ON big (n)');
    await until('the failure to be shown', async () => {
      const [row] = await builds();
      return /"big" does not exist/.test(String(row?.[1]));
    });
    await two.sql(`
      SET bdr.skip_ddl_replication = on; ALTER TABLE other_big RENAME TO big; CREATE INDEX big_n2 ON big (n); DELETE FROM bdr.index_build`);
    await one.sql('DROP INDEX CONCURRENTLY big_n2');
    await applied();
    expect(await states(two)).toEqual(await states(one));
  });
});

describe('under the global lock', () => {
  test('a column goes and another comes while the other node writes, and no link stops', async () => {
    await one.sql(
      'CREATE TABLE busy (id serial PRIMARY KEY, old text, n integer NOT NULL DEFAULT 0)',
    );
    await applied();
    await two.sql(`SELECT setval('busy_id_seq', 1000000)`);
    let isOver = false;
    let written = 0;
    const writing = (async () => {
      await using client = await two.connect();
      let columns = 'old';
      while (!isOver) {
        try {
          await client.sql(`INSERT INTO busy (${columns}) VALUES ('x')`);
          written += 1;
        } catch (error) {
          const { code } = error as { code?: string };
          // The definition has arrived; or the statement had to make room for it.
          if (code === '42703') columns = columns === 'old' ? 'new' : 'old';
          else if (code !== '40001') throw error;
        }
      }
    })();
    try {
      for (const [from, to] of [
        ['old', 'new'],
        ['new', 'old'],
      ]) {
        const before = written;
        await until('the other node to write', () => Promise.resolve(written > before + 20));
        await one.sql(`
          BEGIN; SELECT bdr.acquire_global_lock('write_lock');
          ALTER TABLE busy DROP COLUMN ${from}; ALTER TABLE busy ADD COLUMN ${to} text; COMMIT`);
        await applied();
      }
      const before = written;
      await until('the other node to write again', () => Promise.resolve(written > before + 20));
    } finally {
      isOver = true;
      await writing;
    }
    await applied();
    expect(await cluster.equal('busy')).toHaveLength(written);
  });
});

describe('what stays on one node', () => {
  test('is temporary, unlogged, or kept there by a superuser', async () => {
    const before = await sameSchema();
    await one.sql(`
      CREATE TEMP TABLE t (id integer); CREATE INDEX ON t (id); GRANT SELECT ON t TO bob; DROP TABLE t;
      CREATE UNLOGGED TABLE u (id integer PRIMARY KEY); ALTER TABLE u ADD COLUMN v text; GRANT SELECT ON u TO bob;
      COMMENT ON TABLE u IS 'here'; DROP TABLE u;
      CREATE PUBLICATION mine FOR TABLE src; DROP PUBLICATION mine`);
    await two.sql(`SET bdr.skip_ddl_replication = on; CREATE TABLE only_on_two (id integer)`);
    await applied();
    expect(await schemaText(one)).toBe(before);
    expect(await schemaText(two)).toContain('only_on_two');
    await two.sql(`SET bdr.skip_ddl_replication = on; DROP TABLE only_on_two`);
    await expect(
      two.sqlAs('alice', 'SET bdr.skip_ddl_replication = on; CREATE TABLE hidden (id integer)'),
    ).rejects.toMatchObject({ code: '42501' });
  });
});

test('a read-only node takes definitions of others, and none of its users', async () => {
  await one.sql(`SELECT bdr.bdr_node_set_read_only('node2', true)`);
  await applied();
  await expect(two.sql('CREATE TABLE mine (id integer)')).rejects.toMatchObject({ code: '25006' });
  await expect(two.sql('DROP TABLE single')).rejects.toMatchObject({ code: '25006' });
  await two.sql('CREATE TEMP TABLE mine (id integer); DROP TABLE mine');
  await one.sql('CREATE TABLE theirs (id integer PRIMARY KEY)');
  await applied();
  await one.sql(`SELECT bdr.bdr_node_set_read_only('node2', false)`);
  await applied();
  await two.sql('DROP TABLE theirs');
});

describe('what would make the nodes differ', () => {
  test.each([
    [
      'a value for each row that is there',
      'ALTER TABLE ix ADD COLUMN u uuid DEFAULT gen_random_uuid()',
      '0A000',
    ],
    [
      'a value that is another one at each moment, in a table that is written anew',
      'ALTER TABLE ix ADD COLUMN at timestamptz DEFAULT now(), ADD COLUMN g integer GENERATED ALWAYS AS (n) STORED',
      '0A000',
    ],
    [
      'a value of a type of users that is another one at each moment',
      'CREATE DOMAIN moment AS timestamptz; ALTER TABLE ix ADD COLUMN at moment DEFAULT now()',
      '0A000',
    ],
    ['a number for each row that is there', 'ALTER TABLE ix ADD COLUMN s bigserial', '0A000'],
    [
      'rows that only one node has',
      'CREATE UNLOGGED TABLE lonely (id integer); ALTER TABLE lonely SET LOGGED',
      '0A000',
    ],
    ['rows that exclude each other', 'ALTER TABLE ix ADD EXCLUDE USING btree (n WITH =)', '0A000'],
    [
      'a command in a function that may not be the one that is running',
      `CREATE FUNCTION in_sql() RETURNS void LANGUAGE sql AS 'CREATE TABLE x (id integer)'; SELECT in_sql()`,
      '0A000',
    ],
  ])('is refused: %s', async (_, command, code) => {
    await one.sql(`INSERT INTO ix VALUES (1, 'a', 1) ON CONFLICT DO NOTHING`);
    await expect(one.sql(command)).rejects.toMatchObject({ code });
  });

  test('is not refused where there are no rows, or where a superuser permits it', async () => {
    await one.sql(`
      CREATE TABLE no_rows (id integer PRIMARY KEY);
      ALTER TABLE no_rows ADD COLUMN u uuid DEFAULT gen_random_uuid(), ADD COLUMN s bigserial;
      SET bdr.permit_unsafe_ddl_commands = on;
      ALTER TABLE no_rows ADD EXCLUDE USING btree (s WITH =)`);
    await applied();
  });

  test('comes out alike with bdr_replicate_ddl_command(), which wants names in full', async () => {
    await expect(
      one.sql(`SELECT bdr.bdr_replicate_ddl_command('CREATE TABLE named (id integer)')`),
    ).rejects.toMatchObject({ code: '3F000' });
    await one.sql(
      `SELECT bdr.bdr_replicate_ddl_command('CREATE TABLE public.named (id integer PRIMARY KEY); ALTER TABLE public.named ADD COLUMN v text')`,
    );
    expect(await sameSchema()).toContain('CREATE TABLE public.named');
  });
});
