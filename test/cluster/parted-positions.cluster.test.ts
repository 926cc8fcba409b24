import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster, until, type TestNode } from '../support/cluster.ts';

// What a node that is parted had told only some of the others.

let cluster: Cluster;
let one: TestNode;
let two: TestNode;
let three: TestNode;
let four: TestNode;
beforeAll(async () => {
  cluster = await Cluster.start(
    4,
    'CREATE TABLE item (id integer PRIMARY KEY, v text, big text); ALTER TABLE item ALTER big SET STORAGE EXTERNAL',
  );
  [one, two, three, four] = cluster.nodes as [TestNode, TestNode, TestNode, TestNode];
});
afterAll(() => cluster[Symbol.asyncDispose]());

/** Who has told of a parted node, and whether he lacks something, as each of these nodes knows it. */
const told = async (parted: TestNode, nodes: readonly TestNode[]) =>
  Promise.all(
    nodes.map((node) =>
      node.sql(
        `SELECT at_node, is_behind FROM bdr.bdr_parted_positions WHERE node_name = $1 ORDER BY at_node`,
        [parted.name],
      ),
    ),
  );
const allHaveTold = (parted: TestNode, nodes: readonly TestNode[]) =>
  until(`all to have told of ${parted.name}`, async () =>
    (await told(parted, nodes)).every((rows) => rows.length === nodes.length),
  );

const pausedIn = async (node: TestNode) => {
  await node.sql('SELECT bdr.bdr_apply_pause()');
  await until('apply to be paused', async () => {
    const rows = await node.sql(`SELECT FROM bdr.bdr_links WHERE status <> 'paused'`);
    return rows.length === 0;
  });
};
/** Without a word to anybody. */
const lost = async ({ host }: TestNode) => {
  await host.killAgent();
  await host.server.crash();
};

test('who lacks something of it is known, and the others bring him level as the guide says', async () => {
  await three.sql(
    `INSERT INTO item SELECT g, 'start', repeat('a', 5000) FROM generate_series(1, 3) AS g`,
  );
  await cluster.settled();
  await pausedIn(two);
  await three.sql(`UPDATE item SET v = 'changed' WHERE id = 1`);
  await three.sql(`DELETE FROM item WHERE id = 2`);
  await three.sql(`INSERT INTO item VALUES (4, 'new', repeat('b', 5000))`);
  for (const node of [one, four]) {
    await until(`${node.name} to have it`, async () => {
      const rows = await node.sql('SELECT FROM item WHERE id = 4');
      return rows.length === 1;
    });
  }
  await lost(three);
  await two.sql('SELECT bdr.bdr_apply_resume()');
  await one.sql(`SELECT bdr.bdr_part_by_node_names('{node3}')`);
  const left = [one, two, four];
  await allHaveTold(three, left);
  const known = [
    ['node1', false],
    ['node2', true],
    ['node4', false],
  ];
  expect(await told(three, left)).toEqual([known, known, known]);

  const [least] = await one.sql(
    'SELECT min(applied_commit_at)::text FROM bdr.bdr_parted_positions WHERE is_behind',
  );
  await one.sql(`
    SET session_replication_role = replica;
    UPDATE item SET id = id WHERE pg_xact_commit_timestamp(xmin) > '${String(least?.[0])}'::timestamptz - interval '1 min'`);
  const ids = async (node: TestNode) =>
    (await node.sql('SELECT id FROM item ORDER BY id')).map(([id]) => Number(id));
  await one.applied();
  const kept = await ids(one);
  const gone = (await ids(two)).filter((id) => !kept.includes(id));
  expect(gone).toEqual([2]);
  await two.sql('DELETE FROM item WHERE id = ANY ($1)', [gone]);
  expect(await cluster.equal('item', left)).toHaveLength(3);
  await two.sql(`DELETE FROM bdr.parted_position WHERE node_name = 'node3'`);
  await two.applied();
  expect(await told(three, left)).toEqual([[], [], []]);
});

test('heartbeats are no changes: where all have what it wrote nobody is behind', async () => {
  const left = [one, two];
  await four.sql(`INSERT INTO item VALUES (5, 'of four')`);
  await four.applied();
  await pausedIn(two);
  const position = async (node: TestNode) => {
    const [row] = await node.sql(
      `SELECT pg_replication_origin_progress(origin_name, false)::text FROM bdr.bdr_links
       JOIN bdr.bdr_nodes ON (node_sysid, node_dboid) = (provider_sysid, provider_dboid) WHERE node_name = 'node4'`,
    );
    return row?.[0];
  };
  await until(
    'node1 to have heard more',
    async () => (await position(one)) !== (await position(two)),
  );
  await lost(four);
  await two.sql('SELECT bdr.bdr_apply_resume()');
  await one.sql(`SELECT bdr.bdr_part_by_node_names('{node4}')`);
  await allHaveTold(four, left);
  const known = [
    ['node1', false],
    ['node2', false],
  ];
  expect(await told(four, left)).toEqual([known, known]);
});
