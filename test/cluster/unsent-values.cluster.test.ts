import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster, LOSES_WHAT_IS_RECENT, type TestNode, until } from '../support/cluster.ts';
import { commitsWait, NOT_WAITING, waitingCommit } from '../support/waiting-commits.ts';

// A change of key that leaves a TOASTed value out arrives while its commit cannot be seen on the provider yet.

let cluster: Cluster;
let one: TestNode;
let two: TestNode;

beforeAll(async () => {
  cluster = await Cluster.start(
    2,
    `CREATE TABLE long_value (id integer PRIMARY KEY, v text, big text);
     ALTER TABLE long_value ALTER COLUMN big SET STORAGE EXTERNAL;`,
    { settings: LOSES_WHAT_IS_RECENT },
  );
  [one, two] = [cluster.node(1), cluster.node(2)];
  await one.sql(
    `INSERT INTO long_value SELECT n, 'start', repeat('x', 5000) FROM generate_series(1, 2) AS n`,
  );
  await cluster.settled();
});
afterAll(() => cluster[Symbol.asyncDispose]());

const moved = (node: TestNode, id: number) =>
  node.sql('SELECT v, length(big) FROM long_value WHERE id = $1', [id]);

test('it stands in the row that the provider wrote: nobody is asked', async () => {
  await commitsWait(one, true);
  {
    await using user = await waitingCommit(
      one,
      `UPDATE long_value SET id = 11, v = 'moved' WHERE id = 1`,
    );
    await until('the row to be moved', async () => (await moved(two, 11)).length > 0);
    expect(await moved(two, 11)).toEqual([['moved', 5000]]);
    expect(await moved(one, 11)).toEqual([]);
    await commitsWait(one, false);
    await user.done;
  }
  await cluster.settled();
  expect(await cluster.same('long_value')).toHaveLength(2);
});

test('in a row that another node wrote it is waited for, and not dropped', async () => {
  await two.sql(`UPDATE long_value SET v = 'of two', big = repeat('y', 6000) WHERE id = 2`);
  await cluster.settled();
  await commitsWait(one, true);
  {
    await using user = await waitingCommit(
      one,
      `UPDATE long_value SET id = 12, v = 'moved' WHERE id = 2`,
    );
    await until('the value to be waited for', async () => {
      const rows = await one.sql(
        `SELECT FROM pg_stat_activity WHERE application_name LIKE '%:read' AND query LIKE 'SELECT pg_current_snapshot()%'`,
      );
      return rows.length > 0;
    });
    expect(await moved(two, 12)).toEqual([]);
    await commitsWait(one, false);
    await user.done;
  }
  await cluster.settled();
  expect(await moved(two, 12)).toEqual([['moved', 6000]]);
  expect(await cluster.same('long_value')).toHaveLength(2);
});

// Reading there leaves something behind, and its commit waited for the standby too: for ever, where that was the reader.
test('a value is read while commits of the provider wait', async () => {
  await two.sql(`UPDATE long_value SET v = 'of two' WHERE id = 11`);
  await cluster.settled();
  await commitsWait(one, true);
  await one.sql(`${NOT_WAITING}; UPDATE long_value SET v = 'again of one' WHERE id = 11`);
  await until('the value to be read', async () => {
    const [row] = await moved(two, 11);
    return row?.[0] === 'again of one';
  });
  await commitsWait(one, false);
  await cluster.settled();
  expect(await moved(two, 11)).toEqual([['again of one', 5000]]);
});

// Its commit may be asynchronous: a crash would take it back there, and leave it here.
test('a value that was read survives a crash of the provider, or was never there', async () => {
  await two.sql(`UPDATE long_value SET v = 'of two', big = repeat('a', 5000) WHERE id = 12`);
  await cluster.settled();
  await one.sql(`ALTER SYSTEM SET wal_writer_delay = '10s'`);
  await one.sql('SELECT pg_reload_conf()');
  await two.sql('SELECT bdr.bdr_apply_pause()');
  // Its heartbeats would put everything on disk.
  await one.host.killAgent();
  await one.sql(`UPDATE long_value SET v = 'of one' WHERE id = 12`);
  await one.sql(
    `SET synchronous_commit = off; UPDATE long_value SET big = repeat('b', 5000) WHERE id = 12`,
  );
  await two.sql('SELECT bdr.bdr_apply_resume()');
  await until('the value to be read', async () => (await moved(two, 12))[0]?.[0] === 'of one');
  await one.host.server.crash();
  await one.host.server.start();
  one.host.startAgent();
  await cluster.equal('long_value');
});
