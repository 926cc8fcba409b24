import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, LOSES_WHAT_IS_RECENT, type TestNode, until } from '../support/cluster.ts';
import { Load } from '../support/load.ts';

describe('crashes while both nodes are written', () => {
  let cluster: Cluster;
  let loads: Load[];

  beforeAll(async () => {
    cluster = await Cluster.start(2, Load.SCHEMA, { settings: LOSES_WHAT_IS_RECENT });
    loads = cluster.nodes.map((node) => new Load(node));
  });
  afterAll(async () => {
    for (const load of loads) await load.stop();
    await cluster[Symbol.asyncDispose]();
  });

  const written = (count: number) => {
    const goals = loads.map((load) => load.committed.length + count);
    return until('both nodes to be written', () =>
      Promise.resolve(loads.every((load, i) => load.committed.length >= (goals[i] ?? 0))),
    );
  };
  /** Until a change of one node that is made now is seen on the other. */
  const flows = async (from: TestNode, to: TestNode) => {
    const entry = `flow-${from.name}-${process.hrtime.bigint()}`;
    await from.sql('INSERT INTO journal VALUES ($1)', [entry]);
    await until(`${to.name} to apply ${from.name}`, async () => {
      const rows = await to.sql('SELECT FROM journal WHERE entry = $1', [entry]);
      return rows.length === 1;
    });
  };

  test('an agent that is killed again and again goes on where it was', async () => {
    const [one, two] = [cluster.node(1), cluster.node(2)];
    for (let round = 0; round < 4; round++) {
      const host = cluster.hosts[round % 2]!;
      await written(30);
      await host.killAgent();
      await written(30);
      host.startAgent();
      await flows(one, two);
      await flows(two, one);
    }
  });

  test('a server that crashes comes back and goes on, on both sides', async () => {
    const [one, two] = [cluster.node(1), cluster.node(2)];
    for (let round = 0; round < 4; round++) {
      const { server } = cluster.hosts[round % 2]!;
      await written(30);
      await server.crash();
      await server.start();
      await flows(one, two);
      await flows(two, one);
    }
  });

  test('agent and server that crash together come back', async () => {
    const [first] = cluster.hosts;
    await written(30);
    await first!.killAgent();
    await first!.server.crash();
    await first!.server.start();
    first!.startAgent();
    await flows(cluster.node(1), cluster.node(2));
    await flows(cluster.node(2), cluster.node(1));
  });

  test('a server that is shut down does not wait for its peers, paused ones neither', async () => {
    const [one, two] = [cluster.node(1), cluster.node(2)];
    const { server } = one.host;
    for (const pausing of [false, true]) {
      if (pausing) await two.sql('SELECT bdr.bdr_apply_pause()');
      await written(10);
      await server.stop();
      expect(server.logTail()).toContain('database system is shut down');
      await server.start();
      if (pausing) await two.sql('SELECT bdr.bdr_apply_resume()');
      await flows(one, two);
      await flows(two, one);
    }
  });

  test('a second agent waits, and takes over when the first is killed', async () => {
    const [host] = cluster.hosts;
    const first = host!.agentPid;
    host!.startAgent();
    await until('the second agent to wait', () =>
      Promise.resolve(host!.agentLog.includes('another agent serves this server')),
    );
    process.kill(first!, 'SIGKILL');
    await flows(cluster.node(2), cluster.node(1));
  });

  test('then all tables are equal, and nothing is missing or applied twice', async () => {
    for (const load of loads) await load.stop();
    await cluster.equal('counter');
    const journal = await cluster.equal('journal');
    expect(new Set(journal).size, 'an entry is there twice').toBe(journal.length);
    const entries = new Set(journal.map((row) => row.slice(1, -1)));
    for (const load of loads) {
      expect(load.committed.filter((entry) => !entries.has(entry))).toEqual([]);
      expect(load.committed.length).toBeGreaterThan(300);
    }
  });
});
