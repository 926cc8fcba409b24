import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, until, type TestClient, type TestNode } from '../support/cluster.ts';

const SCHEMA = `
  CREATE TABLE item (id integer PRIMARY KEY, v text);
  CREATE TABLE journal (entry text);
  CREATE TABLE wide (id integer PRIMARY KEY, v text);
  CREATE TABLE checked (id integer PRIMARY KEY, v text);
`;
/** Some times more than what a provider keeps before it streams. */
const ROWS = 3000;

const insert = (from: number, to: number, v = 'v') =>
  `INSERT INTO item SELECT g, repeat('${v}', 50) FROM generate_series(${from}, ${to}) AS g`;

/** How many transactions a node has sent to peers before their end. */
async function streamed(node: TestNode): Promise<number> {
  const [row] = await node.sql(
    `SELECT coalesce(sum(stream_txns), 0)::integer FROM pg_stat_replication_slots WHERE slot_name NOT LIKE '%own%'`,
  );
  return Number(row?.[0]);
}

describe('transactions that are streamed before they end', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;
  let spools: string;
  beforeAll(async () => {
    spools = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-streaming-'));
    cluster = await Cluster.start(2, SCHEMA, { settings: { logical_decoding_work_mem: '64kB' } });
    [one, two] = [cluster.node(1), cluster.node(2)];
    await two.host.stopAgent();
    two.host.startAgent(undefined, { TMPDIR: spools });
    await cluster.settled();
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
    rmSync(spools, { recursive: true, force: true });
  });

  const count = async (node: TestNode, table: string) =>
    Number((await node.sql(`SELECT count(*)::integer FROM ${table}`))[0]?.[0]);
  /** Everything that was written until now has been sent. */
  const sent = async () => {
    const end = await one.logEnd();
    await until('the provider to have sent all', async () => {
      const [row] = await one.sql(
        `SELECT bool_and(sent_lsn >= $1::pg_lsn) FROM pg_stat_replication WHERE application_name = 'node2:send'`,
        [end],
      );
      return row?.[0] === true;
    });
  };

  test('arrive whole, with changes of every kind', async () => {
    const before = await streamed(one);
    await one.sql(`
      BEGIN; ${insert(1, ROWS)}; UPDATE item SET v = 'updated' WHERE id % 2 = 0; DELETE FROM item WHERE id % 3 = 0;
      UPDATE item SET id = id + 100000 WHERE id % 500 = 1; INSERT INTO journal SELECT id FROM item; COMMIT`);
    expect(await cluster.equal('item')).toHaveLength(2000);
    expect(await cluster.equal('journal')).toHaveLength(2000);
    await until('the statistics to show it', async () => (await streamed(one)) > before);
    await one.sql(`BEGIN; TRUNCATE journal; ${insert(10_001, 10_000 + ROWS)}; COMMIT`);
    expect(await cluster.equal('journal')).toEqual([]);
    expect(await cluster.equal('item')).toHaveLength(5000);
  });

  test('leave nothing when they are rolled back, and of a savepoint that is rolled back nothing', async () => {
    await one.sql(`
      BEGIN; ${insert(20_001, 20_000 + ROWS)}; ROLLBACK;
      BEGIN; ${insert(30_001, 30_000 + ROWS)};
      SAVEPOINT a; ${insert(40_001, 40_000 + ROWS, 'a')};
      SAVEPOINT b; ${insert(50_001, 50_000 + ROWS, 'b')}; RELEASE b;
      SAVEPOINT c; ${insert(60_001, 60_000 + ROWS, 'c')};
      ROLLBACK TO a; ${insert(40_001, 40_000 + ROWS, 'x')};
      SAVEPOINT d; ${insert(50_001, 50_000 + ROWS, 'd')}; RELEASE d; COMMIT`);
    const rows = await cluster.equal('item');
    expect(rows.filter((row) => /,[abc]+\)$/.test(row))).toEqual([]);
    expect(rows).toHaveLength(5000 + 3 * ROWS);
  });

  // From 18 on the server looks whether a transaction has been rolled back before it streams it, and then sends the ends of its savepoints alone.
  test('leave nothing, and stop nothing, when they were rolled back before anybody read them', async () => {
    await two.host.stopAgent();
    await one.sql(`
      BEGIN;
      SAVEPOINT a; ${insert(700_001, 700_000 + ROWS)}; RELEASE a;
      SAVEPOINT b; ${insert(750_001, 750_000 + ROWS)}; RELEASE b;
      ROLLBACK;
      INSERT INTO item VALUES (799999, 'after')`);
    two.host.startAgent(undefined, { TMPDIR: spools });
    await cluster.settled();
    expect(await two.sql('SELECT id FROM item WHERE id > 700000')).toEqual([[799_999]]);
  });

  test('go side by side, and a small one waits for none of them', async () => {
    await using first = await one.connect();
    await using second = await one.connect();
    const fill = (client: TestClient, name: string, from: number) =>
      client.sql(
        `INSERT INTO journal SELECT '${name} ' || g FROM generate_series(${from}, ${from + 1499}) AS g`,
      );
    for (const [client, name] of [
      [first, 'first'],
      [second, 'second'],
    ] as const) {
      await client.sql('BEGIN');
      await fill(client, name, 1);
    }
    await fill(first, 'first', 1501);
    await fill(second, 'second', 1501);
    await sent();
    await one.sql(`INSERT INTO journal VALUES ('small')`);
    await until('the small one to be applied', async () => (await count(two, 'journal')) === 1);
    await second.sql('COMMIT');
    await until('the second to be applied', async () => (await count(two, 'journal')) === 3001);
    await fill(first, 'first', 3001);
    await first.sql('COMMIT');
    expect(await cluster.equal('journal')).toHaveLength(7501);
  });

  test('see tables that change while they are open, and that they change themselves', async () => {
    await using client = await one.connect();
    await client.sql(`BEGIN; ${insert(70_001, 70_000 + ROWS)}`);
    await sent();
    for (const node of [two, one]) await node.sql('ALTER TABLE wide ADD COLUMN more text');
    await one.sql(`INSERT INTO wide VALUES (0, 'plain', 'more')`);
    await client.sql(
      `INSERT INTO wide SELECT g, 'v', 'more ' || g FROM generate_series(1, ${ROWS}) AS g`,
    );
    await two.sql(`ALTER TABLE wide ADD COLUMN own text`);
    await client.sql(`
      ALTER TABLE wide ADD COLUMN own text;
      INSERT INTO wide SELECT g, 'v', 'more', 'own ' || g FROM generate_series(${ROWS + 1}, ${2 * ROWS}) AS g; COMMIT`);
    await one.sql(`INSERT INTO wide VALUES (-1, 'plain', 'more', 'own')`);
    const rows = await cluster.equal('wide');
    expect(rows).toHaveLength(2 * ROWS + 2);
    expect(rows).toContain(`(${ROWS + 5},v,more,"own ${ROWS + 5}")`);
  });

  test('survive an agent that is killed in the middle, and one that is killed while it applies them', async () => {
    await using client = await one.connect();
    await client.sql(
      `BEGIN; INSERT INTO journal SELECT 'killed ' || g FROM generate_series(1, 20000) AS g`,
    );
    await sent();
    await two.host.killAgent();
    expect(readdirSync(spools)).toEqual([]);
    two.host.startAgent(undefined, { TMPDIR: spools });
    await client.sql(
      `INSERT INTO journal SELECT 'killed ' || g FROM generate_series(20001, 40000) AS g; COMMIT`,
    );
    await two.host.killAgent();
    two.host.startAgent(undefined, { TMPDIR: spools });
    const journal = await cluster.equal('journal');
    expect(journal.filter((row) => row.includes('killed'))).toHaveLength(40_000);
    expect(new Set(journal).size, 'an entry is there twice').toBe(journal.length);
  });

  test('are neither lost nor acknowledged when the agent has no room to keep them', async () => {
    await two.host.stopAgent();
    two.host.startAgent(undefined, { TMPDIR: path.join(spools, 'missing') });
    await one.sql(`INSERT INTO journal SELECT 'no room ' || g FROM generate_series(1, 40000) AS g`);
    const error = async () =>
      (
        await two.sql(
          `SELECT status_error ->> 'code', status_error ->> 'hint' FROM bdr.bdr_links WHERE status = 'failed'`,
        )
      )[0];
    await until('the link to fail', async () => (await error())?.[0] === 'spool_failed', 60_000);
    expect(String((await error())?.[1])).toContain('TMPDIR');
    // It is not the transaction's fault.
    expect(await two.sql('SELECT failed_xid FROM bdr.bdr_links')).toEqual([[null]]);
    await two.host.stopAgent();
    two.host.startAgent(undefined, { TMPDIR: spools });
    const journal = await cluster.equal('journal');
    expect(journal.filter((row) => row.includes('no room'))).toHaveLength(40_000);
    expect(new Set(journal).size, 'an entry is there twice').toBe(journal.length);
  });

  test('can be skipped', async () => {
    await two.sql('ALTER TABLE checked ADD CHECK (id > 0)');
    await one.sql(
      `INSERT INTO checked SELECT g, repeat('v', 50) FROM generate_series(-5, ${ROWS}) AS g`,
    );
    const failed = async () =>
      (
        await two.sql(
          'SELECT failed_commit_lsn::text, failed_xid::text FROM bdr.bdr_links WHERE failed_xid IS NOT NULL',
        )
      )[0];
    await until('the link to fail', async () => (await failed()) !== undefined, 60_000);
    const [lsn, xid] = (await failed()) as [string, string];
    await two.sql(
      `SET bdr.permit_unsafe_ddl_commands = on;
       SELECT bdr.skip_changes_upto(provider_sysid, provider_timeline, provider_dboid, '${lsn}') FROM bdr.bdr_links`,
    );
    await one.sql(`INSERT INTO checked VALUES (10000, 'after')`);
    await one.applied();
    expect(await two.sql('SELECT * FROM checked')).toEqual([[10_000, 'after']]);
    expect(
      await two.sql('SELECT remote_txid::text, nr_changes FROM bdr.bdr_skipped_transactions'),
    ).toEqual([[xid, String(ROWS + 6)]]);
  });
});
