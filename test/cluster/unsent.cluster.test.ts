import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, Host, TestNode, until } from '../support/cluster.ts';

/** A byte that is in no text of UTF-8. */
const NOT_UTF8 = `convert_from('\\xe9', 'SQL_ASCII')`;

describe('a transaction that its node cannot send', () => {
  const cluster = new Cluster();
  let one: TestNode;
  let two: TestNode;
  beforeAll(async () => {
    for (const name of ['node1', 'node2']) {
      const host = await Host.start({ settings: { logical_decoding_work_mem: '64kB' } });
      cluster.hosts.push(host);
      await new TestNode('postgres', host, 'postgres').sql(
        `CREATE DATABASE app TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'`,
      );
      const node = new TestNode(name, host, 'app');
      await node.sql('CREATE EXTENSION bdr');
      cluster.nodes.push(node);
    }
    [one, two] = cluster.nodes as [TestNode, TestNode];
    await one.sql('CREATE TABLE t (id integer PRIMARY KEY, v text)');
    await one.create();
    await two.join(one);
  });
  afterAll(async () => cluster[Symbol.asyncDispose]());

  const link = async () => {
    const [row] = await two.sql(
      `SELECT status, failed_xid::text, failed_commit_lsn::text, status_error ->> 'message', status_error ->> 'hint' FROM bdr.bdr_links`,
    );
    return row as (string | null)[];
  };
  const skip = (upto: string) =>
    two.sql(`
      SET bdr.permit_unsafe_ddl_commands = on;
      SELECT bdr.skip_changes_upto(node_sysid, node_timeline, node_dboid, '${upto}')
      FROM bdr.bdr_nodes WHERE node_name = 'node1'`);
  const ids = async (node: TestNode) =>
    (await node.sql('SELECT id FROM t ORDER BY id')).map(([id]) => Number(id));

  test.each([
    ['as a whole', 1],
    ['in chunks, before it has committed', 5000],
  ])('%s, is named, and can be skipped', async (_, rows) => {
    await one.sql('DELETE FROM t');
    await one.sql(`INSERT INTO t VALUES (1, 'before')`);
    const [[xid]] = (await one.sql(`
      BEGIN;
      INSERT INTO t SELECT 10 + g, repeat('x', 100) FROM generate_series(1, ${rows}) AS g;
      INSERT INTO t VALUES (9, ${NOT_UTF8});
      CREATE TEMP TABLE xid AS SELECT pg_current_xact_id()::text AS xid;
      COMMIT;
      SELECT xid FROM xid`)) as [[string]];
    await one.sql(`INSERT INTO t VALUES (2, 'behind')`);

    let lsn: string | null = null;
    await until('the link to name the transaction', async () => {
      const [status, failed, at, message, hint] = await link();
      if (status !== 'failed' || failed !== xid) return false;
      lsn = at ?? null;
      expect(message).toBe(
        `node node1 cannot send transaction ${xid}: invalid byte sequence for encoding "UTF8": 0xe9`,
      );
      expect(hint).toContain(`'${lsn}');`);
      return true;
    });
    expect(await ids(two)).toEqual([1]);

    await two.sql('TRUNCATE bdr.bdr_skipped_transactions');
    await skip(String(lsn));
    await until('what is behind it to be applied', async () => (await ids(two)).includes(2));
    expect(await ids(two)).toEqual([1, 2]);
    expect(
      await two.sql(
        `SELECT remote_txid::text, remote_commit_lsn::text, nr_changes, tables FROM bdr.bdr_skipped_transactions`,
      ),
    ).toEqual([[xid, lsn, null, null]]);
    await until('the link to say that all is well', async () => {
      const [status, failed, , message] = await link();
      return status === 'streaming' && failed === null && message === null;
    });
    // Nor does a new life of the link come back to it.
    await cluster.hosts[1]?.killAgent();
    cluster.hosts[1]?.startAgent();
    await one.sql(`DELETE FROM t WHERE id <> 1`);
    await two.sql(`DELETE FROM t WHERE id <> 1`);
    expect(await cluster.equal('t')).toEqual(['(1,before)']);
  });

  test('does not keep that node from reading its own log', async () => {
    await one.sql(`INSERT INTO t VALUES (7, ${NOT_UTF8})`);
    await one.sql(`UPDATE t SET v = v || 'x'; UPDATE t SET id = 8 WHERE id = 7`);
    await one.sql(`DELETE FROM t WHERE id = 8`);
    await one.ownLogRead(await one.logEnd());
    const [kept] = await one.sql(
      `SELECT count(*)::integer FROM bdr.tombstone WHERE row_key IN ('{7}', '{8}')`,
    );
    expect(kept).toEqual([2]);
  });
});
