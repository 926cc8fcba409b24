import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster, until, type TestNode } from '../support/cluster.ts';

// A node overwrites another node's row and leaves its long value alone; a third one hears of that first (DESIGN 4.2, rule 9).

let cluster: Cluster;
let one: TestNode;
let two: TestNode;
let three: TestNode;

beforeAll(async () => {
  cluster = await Cluster.start(
    3,
    `CREATE TABLE long_value (id integer PRIMARY KEY, v text, big text);
     ALTER TABLE long_value ALTER COLUMN big SET STORAGE EXTERNAL;`,
  );
  [one, two, three] = [cluster.node(1), cluster.node(2), cluster.node(3)];
  await one.sql(
    `INSERT INTO long_value SELECT n, 'start', repeat('x', 5000) FROM generate_series(1, 4) AS n`,
  );
  await cluster.settled();
});
afterAll(() => cluster[Symbol.asyncDispose]());

const row = async (node: TestNode, id: number) =>
  (await node.sql('SELECT v, left(big, 1) FROM long_value WHERE id = $1', [id]))[0];
const noted = async (node: TestNode) =>
  Number((await node.sql('SELECT count(*)::int FROM bdr.lost_value'))[0]?.[0]);

test('the long value comes from the node that overwrote the row, whatever arrives first', async () => {
  await three.sql('SELECT bdr.bdr_apply_pause()');
  await two.sql(`UPDATE long_value SET v = 'of two', big = repeat('y', 6000) WHERE id IN (1, 2)`);
  await two.sql(`DELETE FROM long_value WHERE id = 4`);
  await until('node 1 to have it', async () => (await row(one, 2))?.[1] === 'y');
  await one.sql(`UPDATE long_value SET v = 'of one' WHERE id IN (1, 2)`);
  // Complete: nothing is lost there.
  await one.sql(`UPDATE long_value SET v = 'of one', big = repeat('z', 7000) WHERE id = 2`);
  await two.host.server.stop();
  await three.sql('SELECT bdr.bdr_apply_resume()');
  await until('node 3 to hear node 1', async () => (await row(three, 2))?.[1] === 'z');
  expect(await row(three, 1), 'kept from what was there').toEqual(['of one', 'x']);

  await two.host.server.start();
  await until('the value to be read again', async () => (await row(three, 1))?.[1] === 'y');
  await three.nothingLeft();
  expect(await row(three, 2)).toEqual(['of one', 'z']);
  expect(await cluster.equal('long_value')).toHaveLength(3);
  // It is node 1's row as before: what that writes next is no conflict.
  const conflicts = async () =>
    (await three.sql('SELECT count(*)::int FROM bdr.bdr_conflict_history'))[0];
  const before = await conflicts();
  await one.sql(`UPDATE long_value SET v = 'again' WHERE id = 1`);
  expect(await cluster.equal('long_value')).toHaveLength(3);
  expect(await row(three, 1)).toEqual(['again', 'y']);
  expect(await conflicts()).toEqual(before);
});

test('it is waited for while that node is away, and what else arrives is not', async () => {
  await three.sql('SELECT bdr.bdr_apply_pause()');
  await two.sql(`UPDATE long_value SET v = 'of two', big = repeat('w', 6000) WHERE id = 3`);
  await until('node 1 to have it', async () => (await row(one, 3))?.[1] === 'w');
  await one.sql(`UPDATE long_value SET v = 'of one' WHERE id = 3`);
  await two.host.server.stop();
  await three.sql('SELECT bdr.bdr_apply_resume()');
  await until('node 3 to hear node 1', async () => (await row(three, 3))?.[0] === 'of one');
  await one.host.server.stop();
  await two.host.server.start();
  await until('the loss to be noted', async () => (await noted(three)) === 1);
  await two.sql(`INSERT INTO long_value VALUES (10, 'of two', 'short')`);
  await until('node 3 to go on with node 2', async () => (await row(three, 10)) !== undefined);
  expect(await row(three, 3)).toEqual(['of one', 'x']);
  await one.host.server.start();
  await until('the value to be read again', async () => (await row(three, 3))?.[1] === 'w');
  expect(await cluster.equal('long_value')).toHaveLength(4);
});
