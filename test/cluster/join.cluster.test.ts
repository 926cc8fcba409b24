import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  Cluster,
  Host,
  LOSES_WHAT_IS_RECENT,
  type TestClient,
  type TestNode,
  until,
} from '../support/cluster.ts';
import { fullMesh } from '../support/membership.ts';
import { PacedWriter } from '../support/paced-writer.ts';
import { commitsWait, waitingCommit } from '../support/waiting-commits.ts';

/** Holds the join of a node at the moment in which it is about to begin a step. */
class Hold {
  readonly #node: TestNode;
  readonly #seen = new Set<number>();

  private constructor(node: TestNode) {
    this.#node = node;
  }

  static async on(node: TestNode): Promise<Hold> {
    const hold = new Hold(node);
    await node.sql('CREATE SCHEMA test_hold');
    await hold.at('');
    await node.sql(`
      CREATE TRIGGER hold BEFORE UPDATE ON bdr.bdr_local_node FOR EACH ROW EXECUTE FUNCTION test_hold.hold();
      ALTER TABLE bdr.bdr_local_node ENABLE ALWAYS TRIGGER hold`);
    return hold;
  }

  async at(step: string): Promise<void> {
    await this.#node.sql(`
      CREATE OR REPLACE FUNCTION test_hold.hold() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF NEW.join_step IS DISTINCT FROM OLD.join_step AND NEW.join_step = '${step}' THEN
          PERFORM pg_catalog.pg_sleep(600);
        END IF;
        RETURN NEW;
      END $$`);
  }

  /** Nothing is held any more; what was is begun again. */
  async release(): Promise<void> {
    await this.at('');
    await this.#node.sql(`
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event = 'PgSleep' AND application_name LIKE '%:join'`);
  }

  /** A session that a killed agent left behind sleeps on, until the next agent ends it: only another one counts. */
  reached(step: string): Promise<void> {
    return until(`the join to reach step "${step}"`, async () => {
      const held = await this.#node.sql(
        `SELECT pid FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event = 'PgSleep' AND application_name LIKE '%:join'`,
      );
      const fresh = held.map(([pid]) => Number(pid)).find((pid) => !this.#seen.has(pid));
      if (fresh !== undefined) this.#seen.add(fresh);
      return fresh !== undefined;
    });
  }
}

const STEPS = [
  'checking',
  'registering',
  'creating slots',
  'waiting for the source',
  'waiting for transactions of the source',
  'copying',
  'taking a snapshot',
  'copying the schema',
  'copying rows',
  'building indexes and constraints',
  'starting links',
  'catching up',
  'waiting for peers',
  'ready',
];

describe('a join while every member is written', () => {
  const cluster = new Cluster();
  let writers: PacedWriter[] = [];

  beforeAll(async () => {
    for (let i = 0; i < 3; i++)
      cluster.hosts.push(await Host.start({ settings: LOSES_WHAT_IS_RECENT }));
    const [one, two] = [
      await cluster.addNode('node1', cluster.hosts[0] as Host, 'app'),
      await cluster.addNode('node2', cluster.hosts[1] as Host, 'app'),
    ];
    await one.sql(PacedWriter.SCHEMA);
    await one.sql(
      `CREATE TABLE big (id integer PRIMARY KEY, filler text NOT NULL);
       INSERT INTO big SELECT g, repeat(md5(g::text), 4) FROM generate_series(1, 300000) AS g;
       CREATE TABLE parted (id integer PRIMARY KEY) PARTITION BY RANGE (id);
       CREATE TABLE parted_all PARTITION OF parted DEFAULT;
       INSERT INTO parted SELECT generate_series(1, 100)`,
    );
    await one.create();
    await two.join(one);
    writers = [one, two].map((node) => new PacedWriter(node));
  });
  afterAll(async () => {
    await Promise.all(writers.map((writer) => writer.stop()));
    await cluster[Symbol.asyncDispose]();
  });

  test('goes through, and tells how far it is', async () => {
    const third = await cluster.addNode('node3', cluster.hosts[2] as Host, 'third');
    await third.beginJoin(cluster.node(1));
    let seen: Record<string, unknown> = {};
    await until('the copy to tell of its progress', async () => {
      const [row] = await third.sql('SELECT join_progress FROM bdr.bdr_local_node');
      const progress = row?.[0] as Record<string, unknown> | null;
      if (Number(progress?.['bytes'] ?? 0) > 0) seen = progress ?? {};
      return 'bytes' in seen;
    });
    expect(seen).toMatchObject({
      rows: expect.any(Number) as number,
      bytes: expect.any(Number) as number,
      percent: expect.any(Number) as number,
      text: expect.stringMatching(
        /^\d+ of 4 tables, \d+ rows, [\d.]+ MB, \d+ %, (time left unknown|\d+ s left)$/,
      ) as string,
    });
    expect(seen).toHaveProperty('secondsLeft');
    await third.ready();
    await fullMesh(cluster.nodes);
    writers.push(new PacedWriter(third));
  });

  test('survives kill -9 of the agent at the beginning of every step, and in the middle of the copy', async () => {
    const host = cluster.hosts[2] as Host;
    const fourth = await cluster.addNode('node4', host, 'fourth');
    const hold = await Hold.on(fourth);
    await hold.at(STEPS[0] as string);
    await fourth.beginJoin(cluster.node(2));
    for (const [index, step] of STEPS.entries()) {
      await hold.reached(step);
      await host.killAgent();
      await hold.at(STEPS[index + 1] ?? '');
      host.startAgent();
      if (STEPS[index + 1] !== 'building indexes and constraints') continue;
      await until('rows to be copied', async () => {
        const [row] = await fourth.sql(
          `SELECT (join_progress ->> 'bytes')::bigint FROM bdr.bdr_local_node`,
        );
        return Number(row?.[0] ?? 0) > 0;
      });
      await host.killAgent();
      host.startAgent();
    }
    await fourth.ready();
    await fourth.sql('DROP SCHEMA test_hold CASCADE');
    await fullMesh(cluster.nodes);
  });

  test('survives a crash of the source in the middle of the copy', async () => {
    const source = cluster.node(1);
    const fifth = await cluster.addNode('node5', cluster.hosts[1] as Host, 'fifth');
    await fifth.beginJoin(source);
    await until('rows to be copied', async () => {
      const [row] = await fifth.sql(
        `SELECT (join_progress ->> 'bytes')::bigint FROM bdr.bdr_local_node`,
      );
      return Number(row?.[0] ?? 0) > 0;
    });
    await source.host.server.crash();
    await source.host.server.start();
    await fifth.ready();
    await fullMesh(cluster.nodes);
  });

  test('then all nodes hold the same, and nothing is missing or there twice', async () => {
    await Promise.all(writers.map((writer) => writer.stop()));
    await cluster.equal('shared');
    expect(await cluster.same('parted')).toHaveLength(100);
    const journal = await cluster.equal('journal');
    expect(new Set(journal).size, 'an entry is there twice').toBe(journal.length);
    const entries = new Set(journal.map((row) => row.slice(1, -1)));
    for (const writer of writers) {
      expect(writer.committed.filter((entry) => !entries.has(entry))).toEqual([]);
      expect(writer.committed.length).toBeGreaterThan(100);
    }
    for (const node of cluster.nodes) {
      expect(await node.sql('SELECT count(*)::integer, sum(hashtext(filler)) FROM big')).toEqual(
        await cluster.node(1).sql('SELECT count(*)::integer, sum(hashtext(filler)) FROM big'),
      );
      // Nothing of the joins is left behind.
      expect(await node.sql('SELECT DISTINCT node_error FROM bdr.bdr_nodes')).toEqual([[null]]);
    }
  });
});

describe('a joining node gets', () => {
  const cluster = new Cluster();
  let one: TestNode;
  let two: TestNode;
  /** The same question gives the same answer on both nodes, and one that is not empty. */
  const same = async (question: string) => {
    const answer = await one.sql(question);
    expect(await two.sql(question), question).toEqual(answer);
    expect(answer.length).toBeGreaterThan(0);
    return answer;
  };

  beforeAll(async () => {
    cluster.hosts.push(await Host.start());
    one = await cluster.addNode('node1', cluster.hosts[0] as Host, 'one');
    two = await cluster.addNode('node2', cluster.hosts[0] as Host, 'two');
    await one.sql(`
      CREATE EXTENSION hstore; CREATE EXTENSION citext;
      CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
      CREATE TYPE pair AS (a integer, m mood);
      CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
      CREATE SEQUENCE counter START 1000 INCREMENT 5; SELECT nextval('counter'), nextval('counter');
      CREATE SEQUENCE untouched START 7;
      CREATE FUNCTION double(i integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN i * 2;
      CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'stamped'; RETURN NEW; END $$;
      CREATE TABLE parent (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code citext UNIQUE, tags hstore, moods mood[], pairs pair[],
        one_pair pair, amount positive DEFAULT 1, twice integer GENERATED ALWAYS AS (amount * 2) STORED, note text,
        serial_no serial, created timestamptz DEFAULT '2026-01-02 03:04:05.678901+00', data jsonb, bin bytea, span int4range,
        num numeric(20, 5), gone text);
      ALTER TABLE parent DROP COLUMN gone;
      CREATE TRIGGER stamp BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION stamp();
      INSERT INTO parent (code, tags, moods, pairs, one_pair, amount, data, bin, span, num)
      SELECT 'Code' || g, hstore('k', g::text), ARRAY['sad', 'happy']::mood[], ARRAY[(g, 'ok')::pair], (g, 'sad')::pair, g,
             jsonb_build_object('n', g), decode(md5(g::text), 'hex'), int4range(g, g + 5), g / 7.0
      FROM generate_series(1, 500) AS g;
      UPDATE parent SET note = 'plain' WHERE id = 2;
      CREATE TABLE child (id integer PRIMARY KEY, parent_id bigint NOT NULL REFERENCES parent ON DELETE CASCADE);
      INSERT INTO child SELECT g, g FROM generate_series(1, 100) AS g;
      CREATE INDEX child_parent ON child (parent_id);
      CREATE VIEW parents AS SELECT id, code FROM parent;
      CREATE MATERIALIZED VIEW summary AS SELECT count(*) AS n FROM parent;
      CREATE MATERIALIZED VIEW lazy AS SELECT 1 AS n WITH NO DATA;
      CREATE TABLE measure (day date, id integer, v float8, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
      CREATE TABLE measure_1 PARTITION OF measure FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
      CREATE TABLE measure_2 PARTITION OF measure FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
      INSERT INTO measure SELECT date '2026-01-01' + g, g, g / 3.0 FROM generate_series(0, 300) AS g;
      CREATE SCHEMA "Odd ""Schema";
      CREATE TABLE "Odd ""Schema"."Ta.ble 'x'" ("Co""l" integer PRIMARY KEY, "select" text);
      INSERT INTO "Odd ""Schema"."Ta.ble 'x'" VALUES (1, E'tab\\t new\\nline \\\\ back'), (2, NULL), (3, '');
      CREATE TABLE empty (id integer PRIMARY KEY);
      CREATE TABLE no_column (); INSERT INTO no_column DEFAULT VALUES; INSERT INTO no_column DEFAULT VALUES;
      CREATE UNLOGGED TABLE fleeting (id integer PRIMARY KEY); INSERT INTO fleeting VALUES (1);
      CREATE ROLE reader; GRANT SELECT ON parent TO reader;
      COMMENT ON TABLE parent IS 'the parents';
      DO $$ BEGIN FOR i IN 1..200 LOOP
        EXECUTE format('CREATE TABLE many_%s (id integer PRIMARY KEY, v text); INSERT INTO many_%1$s VALUES (1, %L)', i, 'v' || i);
      END LOOP; END $$;
    `);
    await one.create();
    await two.join(one);
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test('rows of every type, generated and dropped columns, text of any kind', async () => {
    await same('SELECT p::text FROM parent AS p ORDER BY id');
    await same(
      "SELECT moods, pairs, one_pair, tags -> 'k', twice, note FROM parent ORDER BY id LIMIT 3",
    );
    await same(`SELECT * FROM "Odd ""Schema"."Ta.ble 'x'" ORDER BY 1`);
    await same('SELECT count(*) FROM no_column');
    expect(await two.sql('SELECT count(*)::integer FROM no_column')).toEqual([[2]]);
    expect(await two.sql('SELECT count(*)::integer FROM empty')).toEqual([[0]]);
  });

  test('partitions and their rows where they belong', async () => {
    await same(
      'SELECT tableoid::regclass::text, count(*), sum(v) FROM measure GROUP BY 1 ORDER BY 1',
    );
  });

  test('sequences and identities where they stood', async () => {
    await same(
      `SELECT sequencename, start_value, increment_by, last_value FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1`,
    );
    expect(
      await two.sql(`SELECT nextval('counter')::integer, nextval('untouched')::integer`),
    ).toEqual([[1010, 7]]);
  });

  test('views, materialized views with their content, functions, triggers, keys, grants and comments', async () => {
    await same('SELECT count(*) FROM parents');
    await same('SELECT n, double(n::integer) FROM summary');
    await same(`SELECT matviewname, ispopulated FROM pg_matviews ORDER BY 1`);
    await same(
      `SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2`,
    );
    await same(`SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1`);
    await same(`SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1`);
    await same(`SELECT extname, extversion FROM pg_extension ORDER BY 1`);
    await same(
      `SELECT relacl::text, obj_description(oid, 'pg_class') FROM pg_class WHERE relname = 'parent'`,
    );
    await same(
      `SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1`,
    );
  });

  test('two hundred tables, all of them published', async () => {
    const count = `SELECT count(*)::integer FROM pg_tables WHERE tablename LIKE 'many\\_%'`;
    expect(await same(count)).toEqual([[200]]);
    await same('SELECT v FROM many_200');
    await same(
      `SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = 'bdr' ORDER BY 1, 2`,
    );
  });

  test('and then what is written on either side', async () => {
    await two.sql(
      `INSERT INTO parent (code) VALUES ('from two'); INSERT INTO "Odd ""Schema"."Ta.ble 'x'" VALUES (4, 'four')`,
    );
    await one.sql(
      `UPDATE measure SET day = '2026-12-31' WHERE id = 1; INSERT INTO no_column DEFAULT VALUES; DELETE FROM parent WHERE id = 1`,
    );
    for (const table of ['parent', 'child', 'measure', 'no_column', `"Odd ""Schema"."Ta.ble 'x'"`])
      await cluster.equal(table);
  });
});

// The stream of the slot does not have it, since its commit lies before the slot's start; a snapshot that is taken too early does not show it.
test('a joining node gets what was committed while its slot was made, and is seen later', async () => {
  await using cluster = new Cluster();
  for (let i = 0; i < 2; i++) cluster.hosts.push(await Host.start());
  const one = await cluster.addNode('node1', cluster.hosts[0] as Host, 'app');
  const two = await cluster.addNode('node2', cluster.hosts[1] as Host, 'app');
  await one.sql('CREATE TABLE item (id integer PRIMARY KEY)');
  await one.create();
  // Only who asks for it waits for the standby: else the join itself would.
  await one.sql(`ALTER DATABASE app SET synchronous_commit = 'local'`);
  await using first = await one.connect();
  await using second = await one.connect();
  const begin = async (user: TestClient, id: number) => {
    await user.sql(`BEGIN; INSERT INTO item VALUES (${id})`);
    const [row] = await user.sql('SELECT pg_current_xact_id()::xid::text');
    return String(row?.[0]);
  };
  /** The server waits twice, each time for all who are writing. */
  const slotWaitsFor = (xid: string) =>
    until(`the slot to wait for transaction ${xid}`, async () => {
      const waiting = await one.sql(
        `SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE NOT granted AND locktype = 'transactionid' AND transactionid = '${xid}' AND application_name LIKE 'node2:%'`,
      );
      return waiting.length > 0;
    });
  const step = async () => {
    const [row] = await two.sql('SELECT join_step FROM bdr.bdr_local_node');
    return String(row?.[0]);
  };

  const firstXid = await begin(first, 1);
  await two.beginJoin(one);
  await slotWaitsFor(firstXid);
  const secondXid = await begin(second, 2);
  await first.sql('COMMIT');
  await slotWaitsFor(secondXid);
  await commitsWait(one, true);
  await using hidden = await waitingCommit(
    one,
    `SET synchronous_commit = 'on'; INSERT INTO item VALUES (3)`,
  );
  await second.sql('COMMIT');
  await until('the slot to be made', async () => (await step()) !== 'creating slots');
  await until(
    'the join to wait for what is not seen yet, or to go on without it',
    async () => (await step()) !== 'waiting for the source',
  );
  if ((await step()) !== 'waiting for transactions of the source') await two.ready();
  await commitsWait(one, false);
  await hidden.done;
  await two.ready();
  expect(await two.sql('SELECT id FROM item ORDER BY id')).toEqual([[1], [2], [3]]);
});

// Found by the simulation (seed 850367887 with --unique and --join).
describe('a row that a join copies, in the place of one that has lost, of which its writer does not know yet', () => {
  const cluster = new Cluster();
  afterAll(() => cluster[Symbol.asyncDispose]());

  test('outlives the death of the older row', async () => {
    for (let i = 0; i < 3; i++) cluster.hosts.push(await Host.start());
    const [one, two, three] = [
      await cluster.addNode('node1', cluster.hosts[0] as Host, 'app'),
      await cluster.addNode('node2', cluster.hosts[1] as Host, 'app'),
      await cluster.addNode('node3', cluster.hosts[2] as Host, 'app'),
    ];
    // Of a fixed length, so that no long value is read again, which would make the row one that was written.
    await one.sql(
      'CREATE TABLE item (id integer PRIMARY KEY, v integer UNIQUE); CREATE TABLE other (id integer PRIMARY KEY)',
    );
    await one.create();
    await two.join(one);
    const hold = await Hold.on(three);
    await hold.at('copying');
    await three.beginJoin(one);
    await hold.reached('copying');
    for (const node of [one, two]) await node.sql('SELECT bdr.bdr_apply_pause()');
    await two.sql(`INSERT INTO item VALUES (2, 7)`);
    await one.sql(`INSERT INTO item VALUES (1, 7)`);
    await one.sql('SELECT bdr.bdr_apply_resume()');
    await until('the row of node 2 to have lost on node 1', async () => {
      const lost = await one.sql(
        `SELECT FROM bdr.bdr_conflict_history WHERE rule = 'unique_index'`,
      );
      return lost.length === 1;
    });
    // Ends a group: node 2 meets the row that is deleted.
    await one.sql('TRUNCATE other');
    await one.sql(`DELETE FROM item; INSERT INTO item VALUES (2, 7)`);
    await hold.release();
    await until('node 3 to have heard of both others since then', async () => {
      const [heard] = await three.sql(
        `SELECT count(*) = 2 FROM bdr.bdr_links WHERE watermark_at > (
           SELECT max(committed_at) FROM bdr.row_version WHERE table_name = 'item')`,
      );
      return heard?.[0] === true;
    });
    await three.sql(`
      INSERT INTO bdr.row_version (schema_name, table_name, row_key, committed_at, node_sysid, node_timeline, node_dboid)
      VALUES ('none', 'none', '{}', '2001-01-01', '1', 1, 1)`);
    await until('node 3 to have forgotten what it need not know any more', async () => {
      const old = await three.sql(`SELECT FROM bdr.row_version WHERE table_name = 'none'`);
      return old.length === 0;
    });
    await two.sql('SELECT bdr.bdr_apply_resume()');
    await three.ready();
    await cluster.settled();
    expect(await cluster.equal('item')).toEqual(['(2,7)']);
    await until('node 3 to have forgotten that, too', async () => {
      const left = await three.sql('SELECT FROM bdr.row_version');
      return left.length === 0;
    });
  });
});
