import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, until, type TestNode } from '../support/cluster.ts';
import { failure } from '../support/failure.ts';
import { CONCURRENT_DEFINITIONS, DEFINITIONS, ROLES } from '../support/definitions.ts';
import { schemaText } from '../support/schema-text.ts';

let cluster: Cluster;
let one: TestNode;
let two: TestNode;

beforeAll(async () => {
  cluster = await Cluster.start(2, '', { replicatesDdl: true });
  [one, two] = [cluster.node(1), cluster.node(2)];
  for (const node of [one, two]) {
    await node.sql(ROLES);
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
  test.each(DEFINITIONS)('%s', async (_, commands) => {
    await one.sql(commands);
    await applied();
  });

  test('one by one as well as many at once, and rows between them', async () => {
    for (const command of CONCURRENT_DEFINITIONS) await two.sql(command);
    expect(await two.sql(`SELECT nextval('sq')`)).toEqual([['500']]);
    await two.sql(`
      BEGIN; INSERT INTO single VALUES (2); ALTER TABLE single ADD COLUMN v text DEFAULT 'first'; INSERT INTO single VALUES (3, 3, 'b');
      SAVEPOINT a; CREATE TABLE never (id integer); ROLLBACK TO a;
      ALTER TABLE single ADD COLUMN w text; UPDATE single SET w = v; ALTER TABLE single DROP COLUMN v, DROP COLUMN n; INSERT INTO single VALUES (4, 'd'); COMMIT;
      CREATE TABLE IF NOT EXISTS single (other text); CREATE TABLE "after ""all""" (id integer PRIMARY KEY)`);
    await applied();
    expect(await cluster.same('single')).toEqual(['(1,first)', '(2,first)', '(3,b)', '(4,d)']);
  });
});

describe('rows under a deferrable constraint, and then a command in the same transaction', () => {
  const CONSTRAINT = `ALTER TABLE later ADD CONSTRAINT once UNIQUE (a) DEFERRABLE INITIALLY DEFERRED`;
  const KEY = `ALTER TABLE later DROP CONSTRAINT later_pkey; ALTER TABLE later ADD PRIMARY KEY (id) DEFERRABLE; ALTER TABLE later REPLICA IDENTITY FULL`;
  const swap = (table: string, column: string) => [
    `UPDATE ${table} SET ${column} = 2 WHERE id = 1`,
    `UPDATE ${table} SET ${column} = 1 WHERE id = 2`,
  ];
  const [give, take] = swap('later', 'a') as [string, string];

  test.each<[string, string, string[], string]>([
    [
      'its table is renamed',
      CONSTRAINT,
      [give, take, 'ALTER TABLE later RENAME TO after'],
      'after',
    ],
    [
      'its table moves',
      CONSTRAINT,
      [give, take, 'ALTER TABLE later SET SCHEMA elsewhere'],
      'elsewhere.later',
    ],
    [
      'its column is renamed',
      CONSTRAINT,
      [give, take, 'ALTER TABLE later RENAME a TO aa'],
      'later',
    ],
    [
      'its column goes',
      CONSTRAINT,
      [give, take, 'SET CONSTRAINTS ALL IMMEDIATE', 'ALTER TABLE later DROP COLUMN a'],
      'later',
    ],
    [
      'its table goes',
      CONSTRAINT,
      [
        give,
        take,
        'SET CONSTRAINTS ALL IMMEDIATE',
        'DROP TABLE later',
        'CREATE TABLE later (id integer PRIMARY KEY)',
      ],
      'later',
    ],
    [
      'its key is deferrable, and its table renamed',
      KEY,
      ['INSERT INTO later VALUES (9, 9)', 'ALTER TABLE later RENAME TO after'],
      'after',
    ],
    [
      'another table is made in the middle',
      CONSTRAINT,
      [give, 'CREATE TABLE beside (id integer PRIMARY KEY)', take],
      'later',
    ],
    [
      'its constraint goes, and a value is there twice',
      CONSTRAINT,
      [
        give,
        take,
        'SET CONSTRAINTS ALL IMMEDIATE',
        'ALTER TABLE later DROP CONSTRAINT once',
        'UPDATE later SET a = 7',
      ],
      'later',
    ],
  ])('%s', async (_, before, texts, table) => {
    await one.sql(`
      CREATE SCHEMA elsewhere;
      CREATE TABLE later (id integer PRIMARY KEY, a integer, b text);
      INSERT INTO later SELECT g, g, 'b' FROM generate_series(1, 5) AS g;
      ${before}`);
    await applied();
    await one.sql(`BEGIN; ${texts.join('; ')}; COMMIT`);
    await applied();
    await cluster.equal(table);
    // Nothing has collided.
    const conflicts = `SELECT FROM bdr.bdr_conflict_history WHERE object_name IN ('later', 'after')`;
    expect(await two.sql(conflicts)).toEqual([]);
    await one.sql(`DROP TABLE IF EXISTS beside, ${table}; DROP SCHEMA elsewhere CASCADE`);
    await applied();
  });
});

describe('a long value that its change leaves out, and then a command in the same transaction', () => {
  const COMMANDS: [string, string, string][] = [
    ['its table is renamed', 'ALTER TABLE long RENAME TO lengthy', 'lengthy'],
    ['its table moves', 'ALTER TABLE long SET SCHEMA elsewhere', 'elsewhere.long'],
    ['its column is renamed', 'ALTER TABLE long RENAME v TO w', 'long'],
    ['its key is renamed', 'ALTER TABLE long RENAME id TO number', 'long'],
    ['its column goes', 'ALTER TABLE long DROP COLUMN v', 'long'],
    ['its table goes', 'DROP TABLE long; CREATE TABLE long (id integer PRIMARY KEY)', 'long'],
    ['its value changes', `ALTER TABLE long ALTER v TYPE text USING v || '!'`, 'long'],
    [
      'another column has its name',
      `ALTER TABLE long RENAME v TO w; ALTER TABLE long ADD v text`,
      'long',
    ],
    [
      'another table has its name',
      `CREATE TABLE other (LIKE long INCLUDING ALL); INSERT INTO other SELECT id, a, 'other' FROM long;
       ALTER TABLE long RENAME TO lengthy; ALTER TABLE other RENAME TO long`,
      'lengthy',
    ],
  ];
  const MEETINGS: [string, string, string][] = [
    ['of a row whose key changes', '', 'UPDATE long SET id = 12 WHERE id = 2'],
    [
      "over another node's row",
      `UPDATE long SET v = (SELECT string_agg(md5(g::text), 'two') FROM generate_series(1, 200) AS g)`,
      'UPDATE long SET a = 50 WHERE id = 2',
    ],
  ];
  const cases = MEETINGS.flatMap(([meeting, before, change]) =>
    COMMANDS.map(([command, text, table]) => ({ meeting, command, before, change, text, table })),
  );

  test.each(cases)('$meeting; $command', async ({ before, change, text, table }) => {
    await one.sql(`
      CREATE SCHEMA elsewhere;
      CREATE TABLE long (id integer PRIMARY KEY, a integer, v text);
      ALTER TABLE long ALTER v SET STORAGE EXTERNAL;
      INSERT INTO long SELECT n, n, (SELECT string_agg(md5((g * n)::text), '') FROM generate_series(1, 200) AS g) FROM generate_series(1, 3) AS n`);
    await applied();
    // Nobody has a version of the row by the node that changes it next.
    await two.sql(before);
    await applied();
    await one.sql(`BEGIN; ${change}; ${text}; COMMIT`);
    await applied();
    await cluster.equal(table);
    if (table === 'lengthy') await one.sql('DROP TABLE IF EXISTS long');
    await one.sql(`DROP TABLE ${table}; DROP SCHEMA elsewhere CASCADE`);
    await applied();
  });
});

test('a command on a table whose deferrable key is in the middle of a swap stops the link: neither row has lost', async () => {
  await one.sql(`
    CREATE TABLE swapped (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, a integer);
    ALTER TABLE swapped REPLICA IDENTITY FULL;
    INSERT INTO swapped VALUES (1, 10), (2, 20)`);
  await applied();
  await one.sql(`
    BEGIN;
    UPDATE swapped SET id = 2 WHERE id = 1; ALTER TABLE swapped RENAME a TO aa; UPDATE swapped SET id = 1 WHERE aa = 20;
    COMMIT`);
  await expect(applied()).rejects.toThrow(/have one key while a command/);
  expect(await two.sql('SELECT id, a FROM swapped ORDER BY id')).toEqual([
    [1, 10],
    [2, 20],
  ]);
  await two.sql(`
    SET bdr.permit_unsafe_ddl_commands = on;
    SELECT bdr.skip_changes_upto(provider_sysid, provider_timeline, provider_dboid, failed_commit_lsn) FROM bdr.bdr_links`);
  await one.sql('SET bdr.skip_ddl_replication = on; DROP TABLE swapped');
  await two.sql('SET bdr.skip_ddl_replication = on; DROP TABLE swapped');
  await applied();
});

test('a row that is deleted before its key gets a type that has no such value stops no reading of logs', async () => {
  await one.sql(`
    CREATE TABLE retyped (id text PRIMARY KEY, v text);
    INSERT INTO retyped VALUES ('1', 'one'), ('2', 'two'), ('x', 'ten')`);
  await applied();
  // That it is deleted there is remembered here, too.
  await two.sql(`UPDATE retyped SET v = v || '!'`);
  await applied();
  await one.sql(`
    BEGIN;
    DELETE FROM retyped WHERE id IN ('x', '2'); ALTER TABLE retyped ALTER id TYPE integer USING id::integer;
    COMMIT`);
  await applied();
  expect(await cluster.equal('retyped')).toEqual(['(1,one!)']);
});

test('rows that are deleted before their table and another one change names are not taken from the other', async () => {
  await one.sql(`
    CREATE TABLE front (id integer PRIMARY KEY, v text);
    CREATE TABLE back (LIKE front INCLUDING ALL);
    INSERT INTO front SELECT g, 'front' FROM generate_series(1, 5) AS g`);
  await applied();
  await two.sql(`INSERT INTO back SELECT g, 'back' FROM generate_series(1, 5) AS g`);
  await applied();
  await one.sql(`
    BEGIN;
    DELETE FROM front WHERE id = 3; UPDATE front SET id = 9 WHERE id = 4;
    ALTER TABLE front RENAME TO middle; ALTER TABLE back RENAME TO front; ALTER TABLE middle RENAME TO back;
    COMMIT`);
  await applied();
  expect(await cluster.equal('front')).toHaveLength(5);
  expect(await cluster.equal('back')).toHaveLength(4);
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
    // Put off and built as her, and in its place.
    await one.sqlAs('alice', 'CREATE INDEX CONCURRENTLY of_alice_n ON of_alice (n)');
    await one.sqlAs('alice', 'CREATE INDEX CONCURRENTLY of_alice_c ON of_alice (climb(n + 1))');
    await cluster.settled();
    expect(
      await two.sql(
        `SELECT count(*)::integer FROM pg_index WHERE indexrelid IN ('of_alice_n'::regclass, 'of_alice_c'::regclass) AND indisvalid`,
      ),
    ).toEqual([[2]]);
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
    // Who cannot run his own command because of that is told where to look.
    const locked = two.sql(`SET bdr.bdr_ddl_lock_timeout = '1s'; CREATE TABLE waits (id integer)`);
    await expect(locked).rejects.toMatchObject({
      code: '55P03',
      detail: expect.stringContaining('What node node1 has sent cannot be applied here') as string,
    });
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
      'CREATE TABLE big (id integer PRIMARY KEY, n integer); INSERT INTO big VALUES (1, 1)',
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

  /** Its table is there, and what it computes fails on the second node. */
  async function unbuilt(table: string): Promise<void> {
    await one.sql(`
      CREATE OR REPLACE FUNCTION halved(n integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN n / 2; END';
      CREATE TABLE ${table} (id integer PRIMARY KEY, n integer); INSERT INTO ${table} VALUES (1, 1)`);
    await applied();
    await two.sql(`
      SET bdr.skip_ddl_replication = on;
      CREATE OR REPLACE FUNCTION halved(n integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RAISE ''no halves''; END'`);
    await one.sql(`CREATE INDEX CONCURRENTLY ${table}_n ON ${table} (halved(n))`);
    await until('the failure to be shown', async () => {
      const [row] = await builds();
      return /no halves/.test(String(row?.[1]));
    });
  }
  const mend = () =>
    two.sql(`
      SET bdr.skip_ddl_replication = on;
      CREATE OR REPLACE FUNCTION halved(n integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN n / 2; END'`);
  const indexesOf = (node: TestNode, table: string) =>
    node.sql(`SELECT indexname::text FROM pg_indexes WHERE tablename = '${table}' ORDER BY 1`);

  test("keeps the node's own users from changing what it is built of, until it is", async () => {
    await unbuilt('kept');
    for (const command of [
      'ALTER TABLE kept RENAME n TO m',
      'ALTER TABLE kept RENAME TO other_kept',
      'ALTER TABLE kept DROP COLUMN n',
      'ALTER TABLE kept OWNER TO alice',
      'ALTER INDEX kept_n RENAME TO other_kept_n',
      `COMMENT ON INDEX kept_n IS 'lost when it is built again'`,
      'DROP INDEX kept_n',
    ]) {
      expect(await failure(two.sql(command)), command).toMatch(
        /^55006 cannot run .* while index kept_n of table .*kept is still to be built on this node$/,
      );
    }
    await one.sql(`COMMENT ON INDEX kept_n IS 'waits'`);
    await mend();
    await applied();
    await two.sql('ALTER TABLE kept RENAME n TO m; ALTER INDEX kept_n RENAME TO kept_m');
    await applied();
    for (const node of [one, two]) {
      expect(await indexesOf(node, 'kept')).toEqual([['kept_m'], ['kept_pkey']]);
    }
  });

  test('is given up when its table is dropped here, also where another one has the name', async () => {
    await unbuilt('gone');
    await two.sql('DROP TABLE gone');
    const isGivenUp = async () => (await builds()).length === 0;
    await until('the build to be given up', isGivenUp);
    await applied();

    await unbuilt('anew');
    await two.sql(
      'BEGIN; DROP TABLE anew; CREATE TABLE anew (id integer PRIMARY KEY, n integer); COMMIT',
    );
    await until('the build to be given up', isGivenUp);
    await applied();
    for (const node of [one, two]) {
      expect(await indexesOf(node, 'anew')).toEqual([['anew_pkey']]);
    }
    await mend();
  });

  test('is not built on a table that was made while the build waited for one of the same name', async () => {
    await one.sql('CREATE TABLE waited (id integer PRIMARY KEY, n integer)');
    await applied();
    await using holder = await two.connect();
    await holder.sql(`
      SET bdr.skip_ddl_replication = on; SET bdr.skip_ddl_locking = on;
      BEGIN; DROP TABLE waited; CREATE TABLE waited (id integer PRIMARY KEY, n integer)`);
    await one.sql('CREATE INDEX CONCURRENTLY waited_n ON waited (n)');
    await until('the build to wait for the table', async () => {
      const [row] = await two.sql(
        `SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY waited_n%' AND wait_event_type = 'Lock'`,
      );
      return row?.[0] === true;
    });
    await holder.sql('COMMIT');
    await until('it to be given up', async () => (await builds()).length === 0);
    expect(await indexesOf(two, 'waited')).toEqual([['waited_pkey']]);
    await two.sql('SET bdr.skip_ddl_replication = on; CREATE INDEX waited_n ON waited (n)');
  });
});

describe('a unique index that was built concurrently', () => {
  test('waits for rows that have its values twice, says what to do, and is there once they are gone', async () => {
    await one.sql('CREATE TABLE twice (id integer PRIMARY KEY, n integer)');
    await applied();
    await using holder = await one.connect();
    await holder.sql('BEGIN; INSERT INTO twice VALUES (100, 100)');
    // It holds the global lock until its first transaction ends, and waits for the other then.
    const built = one.sql('CREATE UNIQUE INDEX CONCURRENTLY twice_n ON twice (n)');
    await until('the build to have begun', async () => {
      const [row] = await one.sql(
        `SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('twice_n'))`,
      );
      return row?.[0] === true;
    });
    await one.sql('SELECT bdr.bdr_apply_pause()');
    await two.sql('INSERT INTO twice VALUES (1, 5)');
    await two.sql('INSERT INTO twice VALUES (2, 5)');
    await holder.sql('COMMIT');
    await built;
    const stopped = async () => {
      const [row] = await two.sql(
        `SELECT status_error::text FROM bdr.bdr_links WHERE status = 'failed'`,
      );
      return String(row?.[0]);
    };
    await until('the other node to tell of it', async () =>
      (await stopped()).includes('could not create unique index'),
    );
    expect(await stopped()).toContain('Key (n)=(5) is duplicated.');
    expect(await stopped()).toContain('but the one that was written last; the link goes on');
    await one.sql('SELECT bdr.bdr_apply_resume()');
    await two.sql('DELETE FROM twice WHERE id = 1');
    await until('the index to be there, and the link to go on', async () => {
      const [row] = await two.sql(
        `SELECT to_regclass('twice_n') IS NOT NULL AND NOT EXISTS (SELECT FROM bdr.bdr_links WHERE status = 'failed')`,
      );
      return row?.[0] === true;
    });
    await applied();
    expect(await cluster.equal('twice')).toEqual(['(100,100)', '(2,5)']);
  });
});

test('IMPORT FOREIGN SCHEMA asks the foreign server on each node, which needs its user mapping there', async () => {
  await one.sql(`
    CREATE SCHEMA far; CREATE TABLE far.away (id integer PRIMARY KEY, v text); CREATE SCHEMA near;
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '${one.host.server.port}', dbname 'app')`);
  await applied();
  for (const node of [one, two]) {
    await node.sql(`CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (user 'postgres')`);
  }
  await one.sql('IMPORT FOREIGN SCHEMA far LIMIT TO (away) FROM SERVER other INTO near');
  expect(await sameSchema()).toContain('CREATE FOREIGN TABLE near.away');
});

describe('under the global lock', () => {
  test('a column goes and another comes while the other node writes, and no link stops', async () => {
    await one.sql(
      `CREATE TABLE busy (id serial PRIMARY KEY, old text, n integer NOT NULL DEFAULT 0);
       CREATE TABLE idle (id integer PRIMARY KEY, old text, v text)`,
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
      const migrations = [
        ['ALTER TABLE busy DROP COLUMN old; ALTER TABLE busy ADD COLUMN new text'],
        // Each asks for more than the one before, which has locked its table already.
        [
          'BEGIN',
          'CREATE INDEX ON busy (n)',
          'ALTER TABLE idle DROP COLUMN v',
          `DO $$ BEGIN ALTER TABLE busy DROP COLUMN new; END $$`,
          'ALTER TABLE busy ADD COLUMN old text',
          'COMMIT',
        ],
      ];
      for (const migration of migrations) {
        const before = written;
        await until('the other node to write', () => Promise.resolve(written > before + 20));
        await using client = await one.connect();
        for (const text of migration) await client.sql(text);
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

  test('is taken by sessions that have bdr in their path, too', async () => {
    await using client = await one.connect();
    await client.sql(
      'SET search_path = public, bdr; CREATE TABLE in_path (id integer PRIMARY KEY)',
    );
    expect(await sameSchema()).toContain('in_path');
  });

  test.each<[string, string, string, string, string]>([
    [
      'an index that could not hold it',
      'CREATE TABLE long (id integer PRIMARY KEY, v text)',
      `INSERT INTO long SELECT 1, string_agg(md5(g::text), '') FROM generate_series(1, 1000) AS g`,
      'CREATE INDEX ON long (v)',
      '54000',
    ],
    [
      'an index whose expression it fails',
      'CREATE TABLE words (id integer PRIMARY KEY, v text)',
      `INSERT INTO words VALUES (1, 'abc')`,
      'CREATE INDEX ON words ((v::integer))',
      '22P02',
    ],
    [
      'a column of a domain that refuses null',
      'CREATE DOMAIN something AS integer NOT NULL; CREATE TABLE nothing (id integer PRIMARY KEY)',
      'INSERT INTO nothing VALUES (1)',
      'ALTER TABLE nothing ADD c something',
      '23502',
    ],
  ])(
    'a row that a node is writing has arrived before %s is made, which fails',
    async (_, schema, write, command, code) => {
      await one.sql(schema);
      await applied();
      const client = await two.connect();
      await client.sql(`BEGIN; ${write}`);
      const made = one.sql(command).then(
        () => 'made',
        (error: unknown) => (error as { code?: string }).code,
      );
      await until('the command to ask for the table', async () => {
        const asked = await one.sql(
          `SELECT FROM bdr.bdr_global_locks WHERE locktype = 'write_lock'`,
        );
        return asked.length > 0;
      });
      await client.sql('COMMIT');
      await client.client.end();
      expect(await made).toBe(code);
      await applied();
    },
  );

  test('two nodes that change one table at the same moment do it one after the other', async () => {
    await one.sql('CREATE TABLE fought (id integer PRIMARY KEY, c0 text)');
    await applied();
    for (let round = 1; round <= 3; round++) {
      const outcomes = await Promise.all(
        [one, two].map((node) =>
          failure(
            node.sql(
              `ALTER TABLE fought RENAME COLUMN c${round - 1} TO ${node.name}; ALTER TABLE fought ADD COLUMN c${round} text`,
            ),
          ),
        ),
      );
      // Whoever comes second finds what the first has made.
      expect(outcomes.toSorted()).toEqual([expect.stringMatching(/^42703 /), 'no error']);
      await one.sql(`ALTER TABLE fought DROP COLUMN IF EXISTS node1, DROP COLUMN IF EXISTS node2`);
      await applied();
    }
    expect(await sameSchema()).toContain('c3 text');
  });

  test('a command that waits for another needs what it needs after that', async () => {
    await using first = await one.connect();
    await first.sql('BEGIN; CREATE TABLE late (id integer PRIMARY KEY, c text)');
    await using second = await two.connect();
    await second.sql('BEGIN');
    const waiting = second.sql('ALTER TABLE late DROP COLUMN c');
    await until('it to wait', async () => {
      const rows = await two.sql(
        `SELECT FROM pg_stat_activity WHERE query LIKE 'ALTER TABLE late%' AND wait_event = 'PgSleep'`,
      );
      return rows.length === 1;
    });
    await first.sql('COMMIT');
    await waiting;
    expect(await second.sql('SELECT lock_mode, tables FROM bdr.bdr_locks')).toEqual([
      ['write_lock', [['public', 'late']]],
    ]);
    await second.sql('COMMIT');
    await sameSchema();
  });

  test('nobody holds up what he may not change', async () => {
    const asked = () => two.sql('SELECT max(lock_number) FROM bdr.bdr_global_locks');
    const before = await asked();
    for (const text of [
      'ALTER TABLE busy DROP COLUMN n',
      'DROP TABLE busy CASCADE',
      'CREATE UNIQUE INDEX ON busy (n)',
      'DROP SCHEMA public CASCADE',
      'BEGIN; CREATE TABLE refers (id integer REFERENCES busy)',
    ]) {
      expect(await failure(two.sqlAs('alice', text))).toBe(
        "42501 permission denied to hold up other nodes' writes for this command",
      );
    }
    expect(await asked()).toEqual(before);
  });

  test('what is locked or written before holds up nobody for ever', async () => {
    expect(
      await failure(one.sql('BEGIN; LOCK TABLE busy; ALTER TABLE busy DROP COLUMN n')),
    ).toMatch(/^55000 cannot acquire the global write lock after locking the table locally/);
    await one.sql(`INSERT INTO idle VALUES (1, 'first')`);
    await applied();
    await using client = await one.connect();
    await client.sql(`BEGIN; UPDATE idle SET old = 'here' WHERE id = 1`);
    await two.sql(`UPDATE idle SET old = 'there' WHERE id = 1`);
    expect(await failure(client.sql('ALTER TABLE fought DROP COLUMN c3'))).toMatch(
      /^40P01 deadlock detected while waiting for the global lock/,
    );
    await client.sql('ROLLBACK');
    expect(await cluster.equal('idle')).toEqual(['(1,there)']);
  });

  test('what is only here asks nobody', async () => {
    await one.sql('CREATE UNLOGGED TABLE unlogged (id integer PRIMARY KEY)');
    await two.host.killAgent();
    await using client = await one.connect();
    await client.sql(`SET bdr.bdr_ddl_lock_timeout = '1s'`);
    for (const text of [
      'CREATE TEMP TABLE busy (id integer)',
      'CREATE INDEX ON busy (id)',
      'ALTER TABLE busy ADD COLUMN v text',
      'GRANT SELECT ON busy TO bob',
      `DO $$ BEGIN CREATE TEMP TABLE other AS SELECT 1; DROP TABLE other; END $$`,
      'DROP TABLE busy',
      'CREATE TEMP TABLE third (id integer); ALTER TABLE third ADD COLUMN v text; DROP TABLE third',
      'ALTER TABLE unlogged ADD COLUMN v text',
      `COMMENT ON TABLE unlogged IS 'here'`,
      'DROP TABLE unlogged',
    ]) {
      await client.sql(text);
    }
    expect(await failure(client.sql('CREATE TABLE everywhere (id integer)'))).toMatch(
      /^55P03 canceling statement due to global lock timeout/,
    );
    two.host.startAgent();
    await applied();
  });
});

describe('what stays on one node', () => {
  test('is about large objects, or what the server has for all databases: commands beside it in one text arrive', async () => {
    await one.sql(`
      SELECT lo_create(4711); COMMENT ON LARGE OBJECT 4711 IS 'here'; GRANT SELECT ON LARGE OBJECT 4711 TO bob;
      ALTER LARGE OBJECT 4711 OWNER TO alice; CREATE TABLE beside_1 (id integer); SELECT lo_unlink(4711);
      COMMENT ON DATABASE app IS 'here'; COMMENT ON ROLE bob IS 'here'; GRANT TEMP ON DATABASE app TO bob;
      ALTER DATABASE app SET work_mem = '5MB'; ALTER ROLE bob SET work_mem = '5MB'; CREATE ROLE dora; ALTER ROLE dora RENAME TO dorothy;
      CREATE TABLE beside_2 (id integer); DROP ROLE dorothy; ALTER DATABASE app RESET work_mem;
      CREATE FUNCTION on_event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
      CREATE EVENT TRIGGER here ON sql_drop EXECUTE FUNCTION on_event(); ALTER EVENT TRIGGER here DISABLE;
      COMMENT ON EVENT TRIGGER here IS 'here'; CREATE TABLE beside_3 (id integer); DROP EVENT TRIGGER here`);
    await one.sql(`ALTER SYSTEM SET work_mem = '5MB'`);
    await one.sql('ALTER SYSTEM RESET work_mem');
    expect(await sameSchema()).toContain('beside_3');
    expect(
      await two.sql(
        `SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'app'`,
      ),
    ).toEqual([[null]]);
  });

  test('is temporary, unlogged, or kept there by a superuser', async () => {
    const before = await sameSchema();
    await one.sql(`
      CREATE TEMP TABLE t (id integer); CREATE INDEX ON t (id); GRANT SELECT ON t TO bob; DROP TABLE t;
      CREATE UNLOGGED TABLE u (id integer PRIMARY KEY); ALTER TABLE u ADD COLUMN v text; GRANT SELECT ON u TO bob;
      COMMENT ON TABLE u IS 'here'; DROP TABLE u;
      CREATE PUBLICATION mine FOR TABLE src; DROP PUBLICATION mine; REINDEX TABLE src;
      CREATE SUBSCRIPTION mine CONNECTION 'dbname=none' PUBLICATION none WITH (connect = false, slot_name = NONE); DROP SUBSCRIPTION mine;
      SET session_replication_role = replica; CREATE TABLE quiet (id integer); DROP TABLE quiet`);
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
