import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, TestNode, until } from '../support/cluster.ts';

describe('a node whose database', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start(2, 'CREATE TABLE t (id integer PRIMARY KEY)');
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  const linkError = async (node: TestNode) =>
    String((await node.sql(`SELECT status_error ->> 'message' FROM bdr.bdr_links`))[0]?.[0]);

  test('is renamed under the running agents goes on once the peers have its new DSN', async () => {
    const [one, two] = cluster.nodes as [TestNode, TestNode];
    const maintenance = new TestNode('postgres', two.host, 'postgres');
    await until('the database to be renamed', async () => {
      // The agents connect again at once: between ending their sessions and the renaming one may slip in.
      await maintenance.sql(
        `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'app'`,
      );
      return maintenance.sql('ALTER DATABASE app RENAME TO renamed').then(
        () => true,
        () => false,
      );
    });
    const renamed = new TestNode('node2', two.host, 'renamed');
    await until('the peer to say what is wrong', async () =>
      (await linkError(one)).includes('database "app" does not exist'),
    );
    await one.sql('INSERT INTO t VALUES (1)');
    await renamed.sql('INSERT INTO t VALUES (2)');
    await one.sql(`UPDATE bdr.bdr_connections SET conn_dsn = $1 WHERE conn_dsn = $2`, [
      renamed.dsn,
      two.dsn,
    ]);
    await one.sql('SELECT bdr.bdr_connections_changed()');
    expect(await cluster.equal('t', [one, renamed])).toEqual(['(1)', '(2)']);
    cluster.nodes[1] = renamed;
  });

  test('is dropped under its running agent is let go, and its peer says so', async () => {
    const [one, two] = cluster.nodes as [TestNode, TestNode];
    const maintenance = new TestNode('postgres', two.host, 'postgres');
    // While anybody reads from it the server itself refuses.
    await expect(maintenance.sql('DROP DATABASE renamed WITH (FORCE)')).rejects.toMatchObject({
      code: '55006',
    });
    await one.host.stopAgent();
    await until('the database to be dropped', async () => {
      // Its own agent reads from it too, and connects again at once.
      await maintenance.sql(
        `SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = 'renamed' AND active`,
      );
      return maintenance.sql('DROP DATABASE renamed WITH (FORCE)').then(
        () => true,
        () => false,
      );
    });
    await until('the agent to let go', () =>
      Promise.resolve(two.host.agentLog.includes('no longer serving database')),
    );
    one.host.startAgent();
    await until('the peer to say what is wrong', async () =>
      (await linkError(one)).includes('database "renamed" does not exist'),
    );
    await one.sql(`SELECT bdr.bdr_part_by_node_names('{node2}')`);
    await until(
      'the link to be gone',
      async () => (await one.sql('SELECT FROM bdr.bdr_links')).length === 0,
    );
  });
});
