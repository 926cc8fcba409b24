import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, until, type TestClient, type TestNode } from '../support/cluster.ts';

const SCHEMA = `
  CREATE TABLE item (id integer PRIMARY KEY, v text);
  CREATE TABLE other (id integer PRIMARY KEY, v text);
  CREATE TABLE part (id integer PRIMARY KEY) PARTITION BY RANGE (id);
  CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
  INSERT INTO item VALUES (1, 'start');
`;
const WRITE = `SELECT bdr.internal_acquire_lock('write_lock', '{item}')`;

let cluster: Cluster;
let one: TestNode;
let two: TestNode;
let three: TestNode;

beforeAll(async () => {
  cluster = await Cluster.start(3, SCHEMA);
  [one, two, three] = [cluster.node(1), cluster.node(2), cluster.node(3)];
  await cluster.settled();
});
afterAll(() => cluster[Symbol.asyncDispose]());

/** What the error says, and its SQLSTATE. */
async function failure(statement: Promise<unknown>): Promise<string> {
  try {
    await statement;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    return `${code} ${message}`;
  }
  return 'no error';
}

/** A transaction that holds the lock; ended by the end of its client. */
async function holder(node: TestNode, ask: string): Promise<TestClient> {
  const client = await node.connect();
  await client.sql('BEGIN');
  await client.sql(ask);
  return client;
}

async function lockOn(node: TestNode): Promise<string> {
  const [row] = await node.sql(
    `SELECT coalesce(owner_node_name || ' ' || lock_mode || ' ', '') || lock_state FROM bdr.bdr_locks`,
  );
  return String(row?.[0]);
}

async function gates(node: TestNode): Promise<string[]> {
  const rows = await node.sql(`SELECT g::text FROM bdr.internal_gates() AS g ORDER BY 1`);
  return rows.map(([name]) => String(name));
}

/** No node holds anything, or holds anybody back. */
async function isFree(): Promise<void> {
  await until('the lock to be free and all gates to be gone', async () => {
    for (const node of cluster.nodes) {
      if ((await lockOn(node)) !== 'nolock' || (await gates(node)).length > 0) return false;
      const [row] = await node.sql(
        `SELECT count(*) FROM bdr.bdr_global_locks WHERE state <> 'released'`,
      );
      if (row?.[0] !== '0') return false;
    }
    return true;
  }).catch(async (error: unknown) => {
    const rows = await one.sql(`SELECT to_jsonb(l)::text FROM bdr.bdr_global_locks AS l`);
    throw new Error(
      `${String(error)}\n${rows.join('\n')}\n${cluster.hosts.map(({ agentLog }) => agentLog.slice(-1500)).join('\n')}`,
    );
  });
}

describe('the global lock', () => {
  test('a write lock holds back the writes of other nodes on its tables until the transaction ends', async () => {
    await using client = await holder(one, WRITE);
    expect(await lockOn(one)).toBe('node1 write_lock acquire_acquired');
    expect(await lockOn(two)).toBe('node1 write_lock peer_confirmed');
    expect(await gates(one)).toEqual([]);
    expect(await gates(two)).toEqual(['item']);
    for (const write of [
      `INSERT INTO item VALUES (2, 'x')`,
      `UPDATE item SET v = 'x'`,
      'DELETE FROM item',
      'TRUNCATE item',
    ])
      expect(await failure(two.sql(`SET lock_timeout = '50ms'; ${write}`))).toBe(
        '55P03 canceling statement due to global lock timeout',
      );
    await two.sql(`INSERT INTO other VALUES (2, 'free')`);
    expect(await two.sql('SELECT v FROM item')).toEqual([['start']]);
    const waiting = two.sql(`INSERT INTO item VALUES (2, 'waited')`);
    await client.sql(`UPDATE item SET v = 'by the holder' WHERE id = 1`);
    await client.sql('COMMIT');
    await waiting;
    await isFree();
    expect(await cluster.equal('item')).toEqual(['(1,"by the holder")', '(2,waited)']);
  });
});
