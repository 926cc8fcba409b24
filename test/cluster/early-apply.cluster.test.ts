import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  Cluster,
  LOSES_WHAT_IS_RECENT,
  type TestClient,
  type TestNode,
  until,
} from '../support/cluster.ts';

const SCHEMA = `
  CREATE TABLE item (id integer PRIMARY KEY, v text);
  CREATE TABLE journal (entry text);
  INSERT INTO item SELECT -g, 'old' FROM generate_series(1, 5000) AS g;
`;
const APPLIED = 'large transaction was applied while it arrived';
const CHUNK = 1500;

describe('large transactions that are applied while they arrive', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;
  let next = 1;
  beforeAll(async () => {
    cluster = await Cluster.start(3, SCHEMA, {
      settings: { logical_decoding_work_mem: '64kB', ...LOSES_WHAT_IS_RECENT },
    });
    [one, two] = [cluster.node(1), cluster.node(2)];
    await cluster.settled();
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  /** Enough for a chunk: new rows. */
  const chunk = async (client: TestClient) => {
    await client.sql(
      `INSERT INTO item SELECT g, repeat('v', 50) FROM generate_series(${next}, ${next + CHUNK - 1}) AS g`,
    );
    next += CHUNK;
  };
  /** A transaction of node 1 is being applied on node 2. */
  const isEarly = async () => {
    const [row] = await two.sql(`
      SELECT count(*) > 0 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
      WHERE a.application_name = 'node1:early:apply' AND l.relation = 'item'::regclass AND l.mode = 'RowExclusiveLock'`);
    return row?.[0] === true;
  };
  /** Begins a transaction on node 1 that is applied early on node 2; others that were not are rolled back. Says how many rows it has. */
  const begin = async (client: TestClient): Promise<number> => {
    let rows = 0;
    await until('a transaction to be applied early', async () => {
      if (rows === 0) await client.sql('BEGIN');
      await chunk(client);
      rows += CHUNK;
      if (await isEarly()) return true;
      if (rows < 20 * CHUNK) return false;
      await client.sql('ROLLBACK');
      rows = 0;
      return false;
    });
    return rows;
  };
  const count = async (node: TestNode, table = 'item') =>
    Number((await node.sql(`SELECT count(*)::integer FROM ${table}`))[0]?.[0]);
  /** Runs something, and returns what the agent of node 2 logs until it has said a text. */
  const logged = async (text: string, work: () => Promise<unknown>) => {
    const from = two.host.agentLog.length;
    await work();
    await until(`the agent to log "${text}"`, () =>
      Promise.resolve(two.host.agentLog.slice(from).includes(text)),
    );
  };

  test('are written before their commit and seen after it, once', async () => {
    await using client = await one.connect();
    const before = await count(two);
    await logged(APPLIED, async () => {
      const rows = await begin(client);
      expect(await count(two)).toBe(before);
      await client.sql(`UPDATE item SET v = 'updated' WHERE id < 0`);
      await client.sql('COMMIT');
      await one.applied();
      expect(await count(two)).toBe(before + rows);
    });
    expect(await cluster.equal('item')).toContain('(-1,updated)');
    // What this node wrote by it is its own in what follows.
    await one.sql(`UPDATE item SET v = 'later' WHERE id = -1; DELETE FROM item WHERE id = -2`);
    const rows = await cluster.equal('item');
    expect(rows).toContain('(-1,later)');
    expect(rows).toHaveLength(await count(one));
    expect(await two.sql('SELECT count(*)::integer FROM bdr.bdr_conflict_history')).toEqual([[0]]);
  });

  test.each<[string, string, (client: TestClient) => Promise<unknown>]>([
    [
      'a delete',
      'have to be remembered',
      (client) => client.sql('DELETE FROM item WHERE id BETWEEN -900 AND -800'),
    ],
    [
      'a savepoint that is rolled back',
      'rolled back',
      async (client) => {
        await client.sql('SAVEPOINT s');
        await chunk(client);
        await client.sql('ROLLBACK TO s');
      },
    ],
    [
      'a pause of apply, which does not wait for it',
      'apply is paused',
      async () => {
        await logged('apply is paused', () =>
          two.sql(`SET statement_timeout = '5s'; SELECT bdr.bdr_apply_pause()`),
        );
        await two.sql('SELECT bdr.bdr_apply_resume()');
      },
    ],
  ])('are taken back at %s, and come whole after their commit', async (_, reason, act) => {
    await using client = await one.connect();
    await logged(reason, async () => {
      await begin(client);
      await act(client);
      // Enough for what it did to be sent.
      await chunk(client);
    });
    await chunk(client);
    await client.sql('COMMIT');
    await cluster.equal('item');
    await cluster.equal('journal');
  });

  test('leave others of their node alone: small ones in the same table, groups, marks and waits for a position', async () => {
    await using client = await one.connect();
    const before = await count(two);
    await logged(APPLIED, async () => {
      const rows = await begin(client);
      await one.sql(`UPDATE item SET v = 'beside' WHERE id = -20`);
      await one.sql(`INSERT INTO item SELECT -g, 'beside' FROM generate_series(10001, 10100) AS g`);
      await one.sql(`SELECT pg_logical_emit_message(true, 'bdr_mark', '')`);
      await one.sql(`SET statement_timeout = '20s'; SELECT bdr.bdr_wait_for_apply()`);
      expect(await two.sql(`SELECT count(*)::integer FROM item WHERE v = 'beside'`)).toEqual([
        [101],
      ]);
      // What was written beside it is older than what it writes now.
      await client.sql(`UPDATE item SET v = 'after' WHERE id IN (-20, -10001)`);
      await chunk(client);
      await until('more of it to arrive', isEarly);
      expect(await count(two)).toBe(before + 100);
      await client.sql('COMMIT');
      await one.applied();
      expect(await count(two)).toBe(before + 100 + rows + CHUNK);
    });
    const rows = await cluster.equal('item');
    expect(rows.filter((row) => row.includes('after'))).toHaveLength(2);
    expect(await two.sql('SELECT count(*)::integer FROM bdr.bdr_conflict_history')).toEqual([[0]]);
  });

  test('do not hold up users of their rows', async () => {
    await using client = await one.connect();
    await using user = await two.connect();
    await begin(client);
    await client.sql(`UPDATE item SET v = 'early' WHERE id BETWEEN -2000 AND -1000`);
    await user.sql(`SET statement_timeout = '10s'; UPDATE item SET v = 'user' WHERE id = -1500`);
    await client.sql('COMMIT');
    await cluster.equal('item');
  });

  test('survive kills of the agent and crashes of the server, in the middle and right after the commit', async () => {
    for (const [round, crash] of [false, true, false, true].entries()) {
      await using client = await one.connect();
      await begin(client);
      const entries = `INSERT INTO journal SELECT 'round ${round} ' || g FROM generate_series(1, 3000) AS g`;
      await client.sql(entries);
      const before = await count(two, 'journal');
      const kill = async () => {
        if (crash) await two.host.server.crash();
        await two.host.killAgent();
        if (crash) await two.host.server.start();
        two.host.startAgent();
      };
      if (round < 2) await kill();
      await client.sql('COMMIT');
      if (round >= 2) {
        await until('it to be applied', async () => (await count(two, 'journal')) > before);
        await kill();
      }
      expect(
        (await cluster.equal('journal')).filter((row) => row.includes(`round ${round} `)),
      ).toHaveLength(3000);
      await cluster.equal('item');
    }
  });

  test('of three nodes at once, in the same rows as small ones, end with the same rows everywhere', async () => {
    const large = async (node: TestNode, writer: number) => {
      await using client = await node.connect();
      for (let round = 0; round < 6; round++) {
        const name = `${node.name} ${writer}.${round}`;
        // Few rows, because each may be a conflict, but large ones. In pieces, so that what others do comes in between; keys in one order, so that few of them deadlock.
        const pieces = Array.from({ length: 4 }, (_, piece) => {
          const from = 100_000_000 + piece * 40 + round * 5;
          return round % 3 === 2
            ? `UPDATE item SET v = repeat('${name}', 80) WHERE id BETWEEN ${from} AND ${from + 79}`
            : `INSERT INTO item SELECT g, repeat('${name}', 80) FROM generate_series(${from}, ${from + 79}) AS g
               ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v`;
        });
        await client
          .sql(`BEGIN; ${pieces.join('; ')}; INSERT INTO journal VALUES ('${name}'); COMMIT`)
          .catch(() => client.sql('ROLLBACK'));
      }
    };
    const small = async (node: TestNode) => {
      await using client = await node.connect();
      for (let round = 0; round < 60; round++) {
        const id = 100_000_000 + ((round * 37) % 200);
        await client
          .sql(
            round % 10 === 0
              ? `DELETE FROM item WHERE id = ${id}`
              : `UPDATE item SET v = '${node.name} small ${round}' WHERE id = ${id}`,
          )
          .catch(() => undefined);
      }
    };
    await Promise.all([
      ...cluster.nodes.map((node, index) => large(node, index)),
      small(one),
      small(cluster.node(3)),
    ]);
    await cluster.equal('item');
    const journal = await cluster.equal('journal');
    const entries = journal.filter((row) => row.startsWith('("node'));
    expect(new Set(entries).size, 'an entry is there twice').toBe(entries.length);
    expect(entries.length).toBeGreaterThan(5);
  });
});
