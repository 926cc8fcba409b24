import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, type TestNode } from '../support/cluster.ts';

/** What of the tables is the same on all nodes. */
const SHARED = {
  item: '(SELECT id, v, big FROM item)',
  fixed: '(SELECT id, n, v FROM fixed)',
  mail: '(SELECT id, mail FROM mail)',
  coded: '(SELECT id, v FROM coded)',
  parts: '(SELECT id, region, v FROM parts)',
} as const;

/**
 * Two servers of different majors, the first with two databases as nodes, later three. Columns `note` and `doc` of the tables are local. Table fixed has a column
 * that no UPDATE can set, and coded runs code of its owner for its default.
 */
describe('local columns', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;
  let three: TestNode;
  beforeAll(async () => {
    cluster = await Cluster.bare(2, (server) => ({
      major: server === 1 ? 18 : 15,
      replicatesDdl: true,
    }));
    [one, two] = [cluster.node(1), cluster.node(2)];
    for (const { host } of [one, two]) {
      await cluster.nodes
        .find((node) => node.host === host)
        ?.sql('CREATE ROLE trader LOGIN; GRANT ALL ON SCHEMA public TO trader');
    }
    await one.sql(`
      CREATE TABLE item (id integer PRIMARY KEY, v text, big text, note text NOT NULL DEFAULT 'new', doc text);
      ALTER TABLE item ALTER big SET STORAGE EXTERNAL, ALTER doc SET STORAGE EXTERNAL, OWNER TO trader;
      CREATE TABLE fixed (id integer PRIMARY KEY, n integer GENERATED ALWAYS AS IDENTITY, v text, note text);
      CREATE TABLE mail (id integer PRIMARY KEY, mail text UNIQUE, note text DEFAULT 'new');
      CREATE SCHEMA code AUTHORIZATION trader;
      SET ROLE trader;
      CREATE FUNCTION code.told() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN current_user; END';
      RESET ROLE;
      CREATE TABLE coded (id integer PRIMARY KEY, v text, note text NOT NULL DEFAULT code.told());
      ALTER TABLE coded OWNER TO trader;
      CREATE TABLE parts (id integer, region text, v text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
      CREATE TABLE eu PARTITION OF parts FOR VALUES IN ('eu');
      CREATE TABLE us PARTITION OF parts FOR VALUES IN ('us')`);
    await one.create();
    await one.sql(`
      INSERT INTO item SELECT n, 'old', repeat('b', 3000), 'of all' FROM generate_series(1, 20) AS n;
      INSERT INTO fixed (id, v) SELECT n, 'old' FROM generate_series(1, 3) AS n`);
    await two.join(one);
    three = await cluster.addNode('node3', one.host, 'app3');
    await three.join(one);
    await two.sqlAs('trader', `SELECT bdr.table_set_local_columns('item', '{note,doc}')`);
    await one.sql(`
      SELECT bdr.table_set_local_columns('fixed', '{note}'), bdr.table_set_local_columns('mail', '{note}'),
             bdr.table_set_local_columns('coded', '{note}'), bdr.table_set_local_columns('parts', '{note}')`);
    await cluster.settled();
    for (const node of cluster.nodes) {
      await node.sql(
        `UPDATE item SET note = '${node.name}', doc = repeat('${node.name}', 1000) WHERE id <= 10; UPDATE fixed SET note = '${node.name}' WHERE id <= 2`,
      );
    }
    await cluster.settled();
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  /** Settles; then all that is not local is the same. */
  async function same(table: keyof typeof SHARED): Promise<string[]> {
    return cluster.equal(SHARED[table]);
  }
  const notes = async (node: TestNode, table: string, where = 'true') =>
    (await node.sql(`SELECT note FROM ${table} WHERE ${where} ORDER BY id`)).map(([note]) => note);
  /** Each of these nodes has its own name there. */
  async function own(table: string, where: string, nodes = cluster.nodes): Promise<void> {
    for (const node of nodes) {
      const told = await notes(node, table, where);
      expect(new Set(told), `${table} on ${node.name}`).toEqual(new Set([node.name]));
    }
  }

  test('are so on all nodes, and each keeps what it writes there', async () => {
    for (const node of cluster.nodes) {
      expect(
        await node.sql('SELECT relname::text, columns::text[] FROM bdr.local_columns ORDER BY 1'),
      ).toEqual([
        ['coded', ['note']],
        ['eu', ['note']],
        ['fixed', ['note']],
        ['item', ['note', 'doc']],
        ['mail', ['note']],
        ['parts', ['note']],
        ['us', ['note']],
      ]);
      expect(await notes(node, 'item', 'id IN (1, 11)')).toEqual([node.name, 'of all']);
    }
    await same('item');
    await own('item', 'id <= 10');
  });

  test('are not sent', async () => {
    await one.sql(`SELECT pg_create_logical_replication_slot('peek', 'pgoutput')`);
    await one.sql(
      `UPDATE item SET note = 'held back', v = 'sent' WHERE id = 12; UPDATE item SET doc = 'held back' WHERE id = 13`,
    );
    const messages = await one.sql(
      `SELECT data FROM pg_logical_slot_get_binary_changes('peek', NULL, NULL, 'proto_version', '1', 'publication_names', 'bdr')`,
    );
    await one.sql(`SELECT pg_drop_replication_slot('peek')`);
    const text = messages.map(([data]) => (data as Buffer).toString('latin1')).join('\n');
    expect(text).toContain('sent');
    for (const hidden of ['held back', 'note', 'doc']) expect(text).not.toContain(hidden);
    await same('item');
    expect(await notes(two, 'item', 'id = 12')).toEqual(['of all']);
  });

  test.each(['few', 'many'])('changes of peers leave them alone: %s', async (how) => {
    const [from, to] = how === 'few' ? [100, 102] : [1000, 1150];
    const range = `id BETWEEN ${from} AND ${to}`;
    await one.sql(
      `INSERT INTO item SELECT n, 'in', repeat('b', 3000), 'of one' FROM generate_series(${from}, ${to}) AS n`,
    );
    await same('item');
    expect(new Set(await notes(one, 'item', range))).toEqual(new Set(['of one']));
    for (const node of [two, three]) {
      expect(new Set(await notes(node, 'item', range))).toEqual(new Set(['new']));
    }
    for (const node of cluster.nodes) {
      await node.sql(`UPDATE item SET note = '${node.name}' WHERE ${range}`);
    }
    await cluster.settled();
    await two.sql(`UPDATE item SET v = 'by two' WHERE ${range}`);
    await same('item');
    await own('item', range);
    await three.sql(`UPDATE item SET id = id + 10000, v = 'moved' WHERE ${range}`);
    await same('item');
    const moved = `id BETWEEN ${from + 10000} AND ${to + 10000}`;
    await own('item', moved);
    expect(await notes(two, 'item', moved)).toHaveLength(to - from + 1);
    await one.sql(`DELETE FROM item WHERE id = ${from + 10000}`);
    await two.sql(
      `BEGIN; DELETE FROM item WHERE id = ${to + 10000}; INSERT INTO item (id, note) VALUES (${to + 10000}, 'anew'); COMMIT`,
    );
    await same('item');
    expect(await notes(two, 'item', `id = ${to + 10000}`)).toEqual(['anew']);
    for (const node of [one, three]) {
      expect(await notes(node, 'item', `id = ${to + 10000}`)).toEqual(['new']);
    }
    await one.sql(`DELETE FROM item WHERE ${moved}`);
    await same('item');
  });

  test('a row that is deleted and inserted again to be changed keeps them', async () => {
    await one.sql(`UPDATE fixed SET v = 'new' WHERE id = 1; UPDATE fixed SET id = 22 WHERE id = 2`);
    await two.sql(
      `INSERT INTO fixed (id, n, v, note) OVERRIDING SYSTEM VALUE VALUES (4, 100, 'of two', 'node2')`,
    );
    await same('fixed');
    await own('fixed', 'id IN (1, 22)');
    await three.sql(`UPDATE fixed SET n = DEFAULT, v = 'again' WHERE id IN (1, 22)`);
    await same('fixed');
    await own('fixed', 'id IN (1, 22)');
    expect(await notes(one, 'fixed', 'id = 4')).toEqual([null]);
  });

  test('conflicts are resolved without them', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(
        `UPDATE item SET v = 'one' WHERE id IN (1, 2); UPDATE item SET id = 201 WHERE id = 3; INSERT INTO item VALUES (300, 'one', 'b', 'node1')`,
      );
      await three.sql(
        `UPDATE item SET v = 'three' WHERE id = 1; UPDATE item SET v = 'three' WHERE id = 3; INSERT INTO item VALUES (300, 'three', 'b', 'node3')`,
      );
      await two.sql(`UPDATE item SET v = 'two' WHERE id IN (2, 1); DELETE FROM item WHERE id = 4`);
    });
    await same('item');
    await own('item', 'id IN (1, 2)');
    // Both wrote the row; the second got it.
    expect(await notes(one, 'item', 'id = 300')).toEqual(['node1']);
    expect(await notes(two, 'item', 'id = 300')).toEqual(['new']);
    expect(await notes(three, 'item', 'id = 300')).toEqual(['node3']);
  });

  test('a row that lost in a unique index comes back with those of the node where it is brought back', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`INSERT INTO mail VALUES (1, 'same@x', 'node1')`);
      await two.sql(`INSERT INTO mail VALUES (2, 'same@x', 'node2')`);
    });
    expect(await same('mail')).toEqual(['(2,same@x)']);
    await one.sql(`
      SELECT bdr.bdr_restore_conflict_loser(conflict_id, '{"mail": "one@x"}')
      FROM bdr.bdr_conflict_history WHERE object_name = 'mail'`);
    expect(await same('mail')).toEqual(['(1,one@x)', '(2,same@x)']);
    expect(await notes(one, 'mail')).toEqual(['node1', 'new']);
    expect(await notes(two, 'mail')).toEqual(['new', 'node2']);
    expect(await notes(three, 'mail')).toEqual(['new', 'new']);
  });

  test('the default is computed with the rights of the owner', async () => {
    await one.sql(
      `INSERT INTO coded (id, v, note) SELECT n, 'x', 'of one' FROM generate_series(1, 60) AS n`,
    );
    await same('coded');
    await two.sql(`UPDATE coded SET id = 102, v = 'moved' WHERE id = 2`);
    await same('coded');
    expect(new Set(await notes(three, 'coded'))).toEqual(new Set(['trader']));
    expect(new Set(await notes(one, 'coded'))).toEqual(new Set(['of one']));
  });

  test('where old rows are sent whole they are sent, and left alone', async () => {
    await one.sql(`ALTER TABLE item REPLICA IDENTITY FULL`);
    await cluster.settled();
    await two.sql(
      `UPDATE item SET v = 'whole' WHERE id IN (5, 6); UPDATE item SET id = 207 WHERE id = 7; INSERT INTO item (id, note) VALUES (208, 'of two')`,
    );
    await same('item');
    await own('item', 'id IN (5, 6, 207)');
    expect(await notes(one, 'item', 'id = 208')).toEqual(['new']);
    await one.sql(`ALTER TABLE item REPLICA IDENTITY DEFAULT`);
    await same('item');
  });

  test('definitions are changed as ever, with rows between', async () => {
    await two.sql(
      `ALTER TABLE item ADD COLUMN more text DEFAULT 'm', ADD COLUMN gone integer; UPDATE item SET more = 'two', v = 'with more' WHERE id = 5`,
    );
    await cluster.settled();
    await one.sqlAs(
      'trader',
      `ALTER TABLE item RENAME COLUMN note TO remark; ALTER TABLE item ALTER more TYPE varchar(20); UPDATE item SET remark = 'node1', more = 'one', gone = 1 WHERE id = 6`,
    );
    await cluster.settled();
    await two.sqlAs(
      'trader',
      `ALTER TABLE item DROP COLUMN gone; UPDATE item SET more = 'last' WHERE id = 8`,
    );
    const shared = '(SELECT id, v, big, more FROM item)';
    expect(await cluster.equal(shared)).not.toEqual([]);
    for (const node of cluster.nodes) {
      expect(
        await node.sql('SELECT remark, more FROM item WHERE id IN (5, 6, 8) ORDER BY id'),
      ).toEqual([
        [node.name, 'two'],
        [node.name, 'one'],
        [node.name, 'last'],
      ]);
      expect(await node.sql('SELECT * FROM bdr.internal_publication_changes()')).toEqual([]);
    }
    await expect(two.sql('CREATE UNIQUE INDEX ON item (remark) WHERE id < 0')).rejects.toThrow(
      'column "remark" of table public.item may not be local',
    );
    await one.sql(
      'ALTER TABLE item RENAME COLUMN remark TO note; ALTER TABLE item DROP COLUMN doc',
    );
    await cluster.settled();
    await three.sql(`UPDATE item SET v = 'after' WHERE id = 5`);
    await same('item');
    await own('item', 'id IN (5, 6, 8)');
  });

  test('partitions have them, new ones too', async () => {
    await one.sql(`INSERT INTO parts VALUES (1, 'eu', 'v', 'node1')`);
    await one.sql(`CREATE TABLE uk PARTITION OF parts FOR VALUES IN ('uk')`);
    await cluster.settled();
    await two.sql(
      `UPDATE parts SET note = 'node2'; INSERT INTO parts VALUES (2, 'uk', 'v', 'node2')`,
    );
    await same('parts');
    await three.sql(`UPDATE parts SET v = 'by three' WHERE id = 2`);
    await same('parts');
    expect(await notes(one, 'parts')).toEqual(['node1', null]);
    expect(await notes(two, 'parts')).toEqual(['node2', 'node2']);
    expect(await notes(three, 'parts')).toEqual([null, null]);
  });

  test('with row filters, and while an agent is not there', async () => {
    await one.host.stopAgent();
    await two.sql(
      `UPDATE item SET v = 'while away' WHERE id = 9; UPDATE item SET id = 210 WHERE id = 10`,
    );
    await one.sql(`UPDATE fixed SET v = 'while away' WHERE id = 1`);
    one.host.startAgent();
    await same('item');
    await same('fixed');
    await own('item', 'id IN (9, 210)');
    await own('fixed', 'id = 1');
    await one.sql(`SELECT bdr.table_set_row_filter('item', 'default', 'id < 1000')`);
    await cluster.settled();
    await one.sql(
      `UPDATE item SET v = 'filtered' WHERE id = 9; INSERT INTO item VALUES (2000, 'mine')`,
    );
    await cluster.settled();
    for (const node of [two, three]) {
      expect(await node.sql('SELECT v, note FROM item WHERE id IN (9, 2000)')).toEqual([
        ['filtered', node.name],
      ]);
    }
    await one.sql(
      `DELETE FROM item WHERE id = 2000; SELECT bdr.table_set_row_filter('item', 'default', NULL)`,
    );
    await same('item');
  });

  test('a joining node has defaults there, and keeps what it writes', async () => {
    await one.sql(`INSERT INTO coded (id, v) VALUES (500, 'x')`);
    await same('coded');
    const four = await cluster.addNode('node4', two.host, 'app4');
    await four.join(two);
    for (const table of ['item', 'fixed', 'mail', 'coded', 'parts'] as const) await same(table);
    expect(new Set(await notes(four, 'item'))).toEqual(new Set(['new']));
    expect(new Set(await notes(four, 'coded'))).toEqual(new Set(['trader']));
    expect(new Set(await notes(four, 'fixed'))).toEqual(new Set([null]));
    await four.sql(`UPDATE item SET note = 'node4' WHERE id = 5`);
    await one.sql(`UPDATE item SET v = 'with four' WHERE id = 5`);
    await same('item');
    await own('item', 'id = 5');
    await four.sql(`UPDATE item SET v = 'by four' WHERE id = 6`);
    await same('item');
    await own('item', 'id = 6', [one, two, three]);
  });

  test('TRUNCATE takes the rows with them', async () => {
    await one.sql('TRUNCATE item');
    expect(await same('item')).toEqual([]);
    await two.sql(`INSERT INTO item (id, v, note) VALUES (1, 'anew', 'node2')`);
    await same('item');
    expect(await notes(one, 'item')).toEqual(['new']);
  });
});
