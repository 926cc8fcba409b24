import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster, until, type TestNode } from '../support/cluster.ts';
import { commitsWait, NOT_WAITING, waitingCommit } from '../support/waiting-commits.ts';

// A node is asked to remove a row that has lost in a unique index elsewhere, and that nobody can see on the node itself yet.

let cluster: Cluster;
let one: TestNode;
let two: TestNode;

beforeAll(async () => {
  cluster = await Cluster.start(
    2,
    'CREATE TABLE person (id integer PRIMARY KEY, mail text UNIQUE)',
  );
  [one, two] = [cluster.node(1), cluster.node(2)];
});
afterAll(() => cluster[Symbol.asyncDispose]());

const ids = async (node: TestNode) =>
  (await node.sql('SELECT id FROM person ORDER BY id')).map(([id]) => id);

test('the ask waits, with its link, and is followed once the row is seen', async () => {
  for (const node of cluster.nodes) await node.sql('SELECT bdr.bdr_apply_pause()');
  await commitsWait(one, true);
  {
    await using user = await waitingCommit(one, `INSERT INTO person VALUES (1, 'same@x')`);
    // This row has the value by now, and gives it up to a later one of its key: only the second node ever sees that it collides.
    await two.sql(`INSERT INTO person VALUES (2, 'same@x')`);
    await two.sql('SELECT bdr.bdr_apply_resume()');
    await until('the ask to be sent', async () => {
      const asks = await two.sql('SELECT FROM bdr.open_ask');
      return asks.length === 1;
    });
    // Not before: in a group with the row that collides it would make room for that.
    await one.sql(`${NOT_WAITING}; INSERT INTO person VALUES (2, 'else@x')`);
    await one.sql(`${NOT_WAITING}; SELECT bdr.bdr_apply_resume()`);
    await until('what lies before the ask to be applied', async () => {
      const lost = await one.sql(
        `SELECT FROM bdr.bdr_conflict_history WHERE object_name = 'person'`,
      );
      return lost.length === 1;
    });
    expect(await ids(one)).toEqual([2]);
    await commitsWait(one, false);
    await user.done;
  }
  expect(await cluster.equal('person')).toEqual(['(2,else@x)']);
});
