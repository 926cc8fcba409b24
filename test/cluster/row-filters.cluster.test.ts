import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, until, type TestNode } from '../support/cluster.ts';
import { commitsWait, waitingCommit } from '../support/waiting-commits.ts';

/**
 * Three databases of one server as nodes. Table sale is in the sets eu, which sends rows of the region eu, and world, which sends all:
 * the first and the third get world, the second eu. So are the rows of table coded, which runs code of its owner.
 */
describe.each([15, 18])('row filters, on PostgreSQL %i', (major) => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;
  let three: TestNode;
  const WORLD = '{default,world}';
  const begin = (node: TestNode, via: TestNode, sets: string) =>
    node.sql('SELECT bdr.bdr_group_join($1, $2, $3, replication_sets := $4)', [
      node.name,
      node.dsn,
      via.dsn,
      sets,
    ]);
  beforeAll(async () => {
    cluster = await Cluster.bare(1, {
      major,
      replicatesDdl: true,
      // What is larger is streamed.
      settings: { logical_decoding_work_mem: '64kB' },
    });
    one = cluster.node(1);
    await one.sql(`
      CREATE ROLE trader LOGIN;
      CREATE TABLE sale (region text, id integer, v text, big text, PRIMARY KEY (region, id));
      ALTER TABLE sale ALTER COLUMN big SET STORAGE EXTERNAL, OWNER TO trader;
      CREATE SCHEMA code AUTHORIZATION trader;
      SET ROLE trader;
      CREATE FUNCTION code.twice(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 || $1; END';
      RESET ROLE;
      CREATE TABLE coded (region text, id integer, v text, PRIMARY KEY (region, id));
      CREATE INDEX ON coded (code.twice(v));
      ALTER TABLE coded OWNER TO trader;
      SELECT bdr.bdr_group_create('node1', '${one.dsn}', replication_sets := '${WORLD}')`);
    await one.ready();
    for (const table of ['sale', 'coded']) {
      await one.sql(`SELECT bdr.table_set_row_filter('${table}', 'eu', 'region = ''eu''')`);
      await one.sqlAs('trader', `SELECT bdr.table_set_replication_sets('${table}', '{eu,world}')`);
    }
    await one.sql(`
      INSERT INTO sale SELECT r, n, 'old', repeat(r, 3000) FROM unnest('{eu,us}'::text[]) AS r, generate_series(1, 5) AS n;
      INSERT INTO coded SELECT r, n, 'old' FROM unnest('{eu,us}'::text[]) AS r, generate_series(1, 5) AS n`);
    two = await cluster.addNode('node2', one.host, 'app2');
    await begin(two, one, '{default,eu}');
    await two.ready();
    three = await cluster.addNode('node3', one.host, 'app3');
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  /** Settles; then the first and the third have the same rows, and the second those of them that are its. */
  async function same(table = 'sale', own = 'eu'): Promise<void> {
    await cluster.settled();
    await cluster.same(table, [one, three]);
    await cluster.same(`(SELECT * FROM ${table} WHERE region = '${own}')`);
  }
  const rows = (node: TestNode, where = 'true') =>
    node.sql(
      `SELECT region, id, v, length(big) FROM sale WHERE ${where} ORDER BY region COLLATE "C", id`,
    );
  const regions = async (node: TestNode, table = 'sale') =>
    (await node.sql(`SELECT DISTINCT region FROM ${table} ORDER BY 1`)).map(([region]) => region);

  test('a joining node gets the rows of its filter, and cannot fill one that is to get more', async () => {
    for (const table of ['sale', 'coded']) {
      expect(await regions(two, table)).toEqual(['eu']);
      expect(await two.sql(`SELECT count(*)::integer FROM ${table}`)).toEqual([[5]]);
    }
    await begin(three, two, WORLD);
    await expect(three.sql('SELECT bdr.bdr_node_join_wait_for_ready()')).rejects.toThrow(
      'the remote node does not get all that this node is to get: public.coded, public.sale',
    );
    await begin(three, one, WORLD);
    await three.ready();
    await same();
    await same('coded');
    expect(
      await two.sql(
        'SELECT relname::text, set_name, filter FROM bdr.replication_set_row_filters ORDER BY 1',
      ),
    ).toEqual([
      ['coded', 'eu', `(region = 'eu'::text)`],
      ['sale', 'eu', `(region = 'eu'::text)`],
    ]);
  });

  test('rows that do not meet it are not sent; those that do are, from all nodes and to all', async () => {
    await one.sql(
      `INSERT INTO sale VALUES ('eu', 6, 'of one', 'b'), ('us', 6, 'of one', 'b'); UPDATE sale SET v = 'new' WHERE id = 1; DELETE FROM sale WHERE id = 2`,
    );
    await three.sql(
      `INSERT INTO sale VALUES ('eu', 7, 'of three', 'b'), ('us', 7, 'of three', 'b')`,
    );
    await two.sql(`INSERT INTO sale VALUES ('eu', 8, 'of two', 'b')`);
    await same();
    expect((await rows(two)).map(([region, id, v]) => [region, id, v])).toEqual([
      ['eu', 1, 'new'],
      ['eu', 3, 'old'],
      ['eu', 4, 'old'],
      ['eu', 5, 'old'],
      ['eu', 6, 'of one'],
      ['eu', 7, 'of three'],
      ['eu', 8, 'of two'],
    ]);
    // Who does not get a row may write it all the same.
    await two.sql(
      `INSERT INTO sale VALUES ('us', 8, 'of two', 'b'); DELETE FROM sale WHERE id = 8`,
    );
    await same();
    expect(await regions(two)).toEqual(['eu']);
  });

  test('a key that is changed across the border goes and comes, with the values that its update leaves out', async () => {
    await one.sql(`UPDATE sale SET region = 'us', id = 13 WHERE region = 'eu' AND id = 3`);
    await same();
    expect(await rows(two, 'id IN (3, 13)')).toEqual([]);
    await three.sql(`UPDATE sale SET region = 'eu', v = 'back' WHERE region = 'us' AND id = 13`);
    await same();
    expect(await rows(two, 'id IN (3, 13)')).toEqual([['eu', 13, 'back', 6000]]);
    // A row that it has written itself stays there, as any that a node does not get.
    await two.sql(`UPDATE sale SET region = 'us' WHERE id = 13`);
    await same();
    expect(await rows(one, 'id = 13')).toEqual([['us', 13, 'back', 6000]]);
    await one.sql(`UPDATE sale SET region = 'eu' WHERE id = 13`);
    await same();
    expect(await rows(two, 'id = 13')).toEqual([
      ['eu', 13, 'back', 6000],
      ['us', 13, 'back', 6000],
    ]);
    await two.sql(`DELETE FROM sale WHERE region = 'us'`);
    await same();
  });

  test('the values are waited for while their commit cannot be seen yet', async () => {
    await one.sql(`INSERT INTO sale VALUES ('us', 40, 'old', repeat('w', 3000))`);
    await same();
    await commitsWait(one, true);
    {
      await using user = await waitingCommit(
        one,
        `UPDATE sale SET region = 'eu' WHERE region = 'us' AND id = 40`,
      );
      await until('the value to be waited for', async () => {
        const found = await one.sql(
          `SELECT FROM pg_stat_activity WHERE application_name = 'node2:read' AND query LIKE 'SELECT pg_current_snapshot()%'`,
        );
        return found.length > 0;
      });
      expect(await rows(two, 'id = 40')).toEqual([]);
      await commitsWait(one, false);
      await user.done;
    }
    await same();
    expect(await rows(two, 'id = 40')).toEqual([['eu', 40, 'old', 3000]]);
  });

  test('so do many in one transaction, and in one that is streamed', async () => {
    await one.sql(
      `INSERT INTO sale SELECT 'us', n, 'many', repeat('m', 3000) FROM generate_series(100, 299) AS n`,
    );
    await same();
    expect(await regions(two)).toEqual(['eu']);
    await one.sql(`UPDATE sale SET region = 'eu' WHERE id >= 100`);
    await same();
    expect(await rows(two, 'id >= 100 AND length(big) = 3000')).toHaveLength(200);
    await one.sql(`UPDATE sale SET region = 'us', big = repeat('n', 3000) WHERE id >= 100`);
    await same();
    expect(await rows(two, 'id >= 100')).toHaveLength(0);
    await three.sql(`
      BEGIN;
      INSERT INTO sale SELECT 'eu', n, 'more', repeat('o', 3000) FROM generate_series(1000, 1199) AS n;
      UPDATE sale SET region = 'eu' WHERE id BETWEEN 100 AND 299; COMMIT`);
    await same();
    expect(await rows(two, 'id >= 100 AND length(big) = 3000')).toHaveLength(400);
    await one.sql('DELETE FROM sale WHERE id >= 100');
    await same();
    expect(await rows(two, 'id >= 100')).toHaveLength(0);
  });

  test('nodes settle their conflicts, of changes of keys across the border too', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`
        UPDATE sale SET v = 'first' WHERE id = 4; UPDATE sale SET region = 'us', id = 25 WHERE region = 'eu' AND id = 5`);
      await two.sql(`
        UPDATE sale SET v = 'second' WHERE region = 'eu' AND id = 4; UPDATE sale SET v = 'kept' WHERE region = 'eu' AND id = 5;
        INSERT INTO sale VALUES ('eu', 30, 'of two', 'b')`);
      await three.sql(`
        INSERT INTO sale VALUES ('us', 30, 'of three', 'b'); UPDATE sale SET region = 'eu' WHERE region = 'us' AND id = 30`);
    });
    await same();
    expect(await rows(two, 'id IN (4, 5, 25, 30)')).toEqual([
      ['eu', 4, 'second', 6000],
      ['eu', 5, 'kept', 6000],
      ['eu', 30, 'of three', 1],
    ]);
  });

  test('whatever three nodes write at once, each has the rows that are its', async () => {
    let seed = 7;
    const random = (below: number) => {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      return Math.floor((seed / 2 ** 31) * below);
    };
    const region = () => `'${['eu', 'us'][random(2)]}'`;
    const statement = (name: string) => {
      const at = `region = ${region()} AND id = ${random(12)}`;
      const big = `repeat('${name}', ${random(2) * 3000})`;
      return (
        [
          `INSERT INTO sale VALUES (${region()}, ${random(12)}, '${name}', ${big}) ON CONFLICT DO NOTHING`,
          `UPDATE sale SET v = '${name}' WHERE ${at}`,
          `UPDATE sale SET v = '${name}', big = ${big} WHERE ${at}`,
          `UPDATE sale SET region = ${region()}, id = ${random(12)} WHERE ${at} AND NOT EXISTS (SELECT FROM sale AS s WHERE s.id < 3)`,
          `UPDATE sale SET region = CASE region WHEN 'eu' THEN 'us' ELSE 'eu' END WHERE ${at}`,
          `DELETE FROM sale WHERE ${at}`,
        ][random(6)] ?? ''
      );
    };
    const plan = cluster.nodes.map((node) =>
      Array.from({ length: 150 }, (_, n) => statement(`${node.name} ${n}`)),
    );
    await Promise.all(
      cluster.nodes.map(async (node, at) => {
        await using client = await node.connect();
        for (const text of plan[at] ?? []) {
          // Some changes of keys meet a row that is there.
          await client.sql(text).catch((error: unknown) => {
            expect(['23505', '40001', '40P01']).toContain((error as { code?: string }).code);
          });
        }
      }),
    );
    await same();
    expect((await rows(two, `region = 'eu'`)).length).toBeGreaterThan(0);
  });

  test('a filter that is set elsewhere counts from its place on; with synchronize the rows come too', async () => {
    await two.sql(`DELETE FROM sale WHERE region <> 'eu'`);
    await one.sql(`INSERT INTO sale SELECT 'uk', n, 'early', 'b' FROM generate_series(1, 3) AS n`);
    await cluster.settled();
    await three.sql(`SELECT bdr.table_set_row_filter('sale', 'eu', 'region IN (''eu'', ''uk'')')`);
    await cluster.settled();
    await one.sql(`INSERT INTO sale VALUES ('uk', 4, 'late', 'b')`);
    await same();
    expect(await rows(two, `region = 'uk'`)).toEqual([['uk', 4, 'late', 1]]);
    await one.sqlAs(
      'trader',
      `SELECT bdr.table_set_replication_sets('sale', '{eu,world}', synchronize := true)`,
    );
    await same('sale', 'uk');
    await same();
    expect(await regions(two)).toEqual(['eu', 'uk']);
  });

  test('a filter follows when its column is renamed; what it needs cannot be dropped', async () => {
    await expect(
      two.sqlAs('trader', 'ALTER TABLE sale DROP COLUMN region CASCADE'),
    ).rejects.toThrow('cannot drop a column that a row filter of table public.sale needs');
    await two.sqlAs('trader', 'ALTER TABLE sale RENAME region TO area');
    await cluster.settled();
    for (const node of cluster.nodes) {
      expect(
        await node.sql(
          `SELECT filter FROM bdr.replication_set_row_filters WHERE relname = 'sale' UNION ALL SELECT relation::text FROM bdr.internal_publication_changes()`,
        ),
      ).toEqual([[`(area = ANY (ARRAY['eu'::text, 'uk'::text]))`]]);
    }
    await one.sql(`INSERT INTO sale VALUES ('uk', 5, 'after', 'b'), ('us', 505, 'after', 'b')`);
    await cluster.settled();
    expect(await two.sql(`SELECT area, id FROM sale WHERE v = 'after'`)).toEqual([['uk', 5]]);
    expect(await three.sql(`SELECT count(*)::integer FROM sale WHERE v = 'after'`)).toEqual([[2]]);
  });

  test('nothing of it is left where BDR is removed', async () => {
    await one.sql(`SELECT bdr.bdr_part_by_node_names('{node3}')`);
    await until('node3 to be parted', async () => {
      const [row] = await three.sql(
        `SELECT node_status FROM bdr.bdr_nodes WHERE node_name = 'node3'`,
      );
      return row?.[0] === 'k';
    });
    await three.sql('SELECT bdr.remove_bdr_from_local_node(true)');
    expect(await three.sql('SELECT pubname FROM pg_publication')).toEqual([]);
    expect(await three.sql('SELECT * FROM bdr.table_row_filter')).toEqual([]);
  });
});

test('a server of PostgreSQL 14 cannot join while there are row filters, nor can there be any once it has', async () => {
  await using cluster = await Cluster.bare(2, (server) => ({
    major: server === 1 ? 18 : 14,
    replicatesDdl: true,
  }));
  const [one, two] = [cluster.node(1), cluster.node(2)];
  await one.sql('CREATE TABLE item (id integer PRIMARY KEY)');
  await one.create();
  const filter = (text: string) =>
    one.sql(`SELECT bdr.table_set_row_filter('item', 'default', ${text})`);
  await filter(`'id > 1'`);
  await two.beginJoin(one);
  await expect(two.sql('SELECT bdr.bdr_node_join_wait_for_ready()')).rejects.toThrow(
    'the group has row filters, which need PostgreSQL 15 or later on all nodes',
  );
  await filter('NULL');
  await two.join(one);
  await expect(filter(`'id > 1'`)).rejects.toMatchObject({
    code: '0A000',
    detail: 'The server of node node2 is older.',
  });
});
