import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, until, type TestNode } from '../support/cluster.ts';

const BDR = fileURLToPath(new URL('../../bin/bdr.js', import.meta.url));

/** What node 2 knows of its link from node 1. */
interface FailedLink {
  readonly status: string;
  readonly xid: string | null;
  readonly lsn: string | null;
  readonly hint: string | null;
  readonly message: string | null;
}

describe('a transaction that cannot be applied on one node', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;
  let three: TestNode;
  beforeAll(async () => {
    cluster = await Cluster.start(
      3,
      `CREATE TABLE t (id integer PRIMARY KEY, v text); CREATE TABLE gone (id integer PRIMARY KEY)`,
    );
    [one, two, three] = cluster.nodes as [TestNode, TestNode, TestNode];
    await two.sql('ALTER TABLE t ADD CONSTRAINT positive CHECK (id > 0); DROP TABLE gone');
  });
  afterAll(async () => cluster[Symbol.asyncDispose]());

  const linkFromOne = async (): Promise<FailedLink> => {
    const [row] = await two.sql(`
      SELECT l.status, l.failed_xid::text, l.failed_commit_lsn::text, l.status_error ->> 'hint', l.status_error ->> 'message'
      FROM bdr.bdr_links AS l
      JOIN bdr.bdr_nodes AS n
        ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.provider_sysid, l.provider_timeline, l.provider_dboid)
      WHERE n.node_name = 'node1'`);
    const [status, xid, lsn, hint, message] = row as [string, ...(string | null)[]];
    return {
      status,
      xid: xid ?? null,
      lsn: lsn ?? null,
      hint: hint ?? null,
      message: message ?? null,
    };
  };
  /** Waits until the link has failed for a transaction and shows why. */
  const failure = async (): Promise<FailedLink> => {
    let link: FailedLink | undefined;
    await until(
      'the link to fail',
      async () => {
        link = await linkFromOne();
        return link.status === 'failed' && link.lsn !== null && link.hint !== null;
      },
      60_000,
    );
    return link as FailedLink;
  };
  const ids = async (node: TestNode, where = 'true') =>
    (await node.sql(`SELECT id FROM t WHERE ${where} ORDER BY id`)).map(([id]) => Number(id));
  const skipped = () =>
    two.sql(`
      SELECT remote_txid::text, remote_commit_lsn::text, nr_changes::integer, tables, requested_by
      FROM bdr.bdr_skipped_transactions ORDER BY skip_id`);

  test('stops its own link alone, which names it and the call that skips it', async () => {
    const [[xid]] = (await one.sql(`
      BEGIN;
      INSERT INTO gone VALUES (1), (2);
      INSERT INTO t VALUES (1, 'lost');
      CREATE TEMP TABLE xid AS SELECT pg_current_xact_id()::text AS xid;
      COMMIT;
      SELECT xid FROM xid`)) as [[string]];
    await one.sql(`INSERT INTO t VALUES (2, 'later')`);
    const link = await failure();
    expect(link.xid).toBe(xid);
    expect(link.message).toBe('table public.gone does not exist on this node');
    const [[id]] = (await one.sql(
      `SELECT format('%L, %s, %s', sysid, timeline, dboid) FROM bdr.bdr_get_local_nodeid()`,
    )) as [[string]];
    expect(link.hint).toContain(`SELECT bdr.skip_changes_upto(${id}, '${link.lsn}');`);

    await three.sql(`INSERT INTO t VALUES (3, 'of the third node')`);
    await until('the link of node 3 to go on', async () => (await ids(two)).includes(3));
    await until('node 3 to have all of node 1', async () => (await ids(three)).length === 3);
    expect(await ids(two)).toEqual([3]);

    const status = execFileSync(process.execPath, [BDR, 'status', '--dsn', two.dsn]).toString();
    expect(status).toContain(`transaction ${xid}, committed at ${link.lsn}`);
    expect(status).toContain(`'${link.lsn}');`);
  });

  test('is not skipped by a position that its node has not written yet', async () => {
    await two.sql(`
      SET bdr.permit_unsafe_ddl_commands = on;
      SELECT bdr.skip_changes_upto(node_sysid, node_timeline, node_dboid, '7FFF/0')
      FROM bdr.bdr_nodes WHERE node_name = 'node1'`);
    await until('the link to refuse', async () =>
      /lies beyond the log of node node1/.test((await linkFromOne()).message ?? ''),
    );
    expect(await skipped()).toEqual([]);
  });

  test('is skipped by that call, once, is recorded, and what follows is applied', async () => {
    // The link remembers why it had failed before, and says so.
    const { lsn, hint } = await linkFromOne();
    expect(hint).toContain(`'${lsn}');`);
    await two.sql(`
      SET bdr.permit_unsafe_ddl_commands = on;
      SELECT bdr.skip_changes_upto(node_sysid, node_timeline, node_dboid, '${lsn}')
      FROM bdr.bdr_nodes WHERE node_name = 'node1'`);
    await until('what follows to be applied', async () => (await ids(two)).includes(2));
    await cluster.settled();
    expect(await ids(two)).toEqual([2, 3]);
    expect(await ids(three)).toEqual([1, 2, 3]);
    expect(await skipped()).toEqual([
      [expect.any(String), lsn, 3, ['public.gone', 'public.t'], 'postgres'],
    ]);
    await until('the link to say that all is well', async () => {
      const link = await linkFromOne();
      return link.status === 'streaming' && link.lsn === null && link.message === null;
    });
    expect(cluster.hosts[1]?.agentLog).toContain('transaction is skipped');
    // The position is done with.
    const left = await two.sql(`SELECT FROM bdr.bdr_links WHERE skip_upto_lsn IS NOT NULL`);
    expect(left).toEqual([]);
  });

  test('is refused to be skipped once the link runs', async () => {
    await expect(
      two.sql(`
        SET bdr.permit_unsafe_ddl_commands = on;
        SELECT bdr.skip_changes_upto(node_sysid, node_timeline, node_dboid, '7FFF/0')
        FROM bdr.bdr_nodes WHERE node_name = 'node1'`),
    ).rejects.toMatchObject({ code: '55006' });
  });

  test('is skipped with all before it, each once, however often the agent is killed', async () => {
    const [host] = cluster.hosts.slice(1);
    const many = 1500;
    await one.sql(`INSERT INTO t VALUES (-1, 'not here')`);
    await one.sql(`
      DO $$ BEGIN
        FOR i IN 1..${many} LOOP INSERT INTO t VALUES (1000 + i, 'skipped'); COMMIT; END LOOP;
      END $$`);
    const [[upto]] = (await one.sql('SELECT pg_current_wal_insert_lsn()')) as [[string]];
    await one.sql(`
      DO $$ BEGIN
        FOR i IN 1..50 LOOP INSERT INTO t VALUES (100000 + i, 'applied'); COMMIT; END LOOP;
      END $$`);
    await failure();
    await two.sql(`
      SET bdr.permit_unsafe_ddl_commands = on;
      SELECT bdr.skip_changes_upto(node_sysid, node_timeline, node_dboid, '${upto}')
      FROM bdr.bdr_nodes WHERE node_name = 'node1'`);
    const records = async () =>
      Number((await two.sql('SELECT count(*) FROM bdr.bdr_skipped_transactions'))[0]?.[0]);
    for (let kills = 0; kills < 3; kills++) {
      const before = await records();
      await until('some to be skipped', async () => (await records()) > before, 30_000).catch(
        // All of them may be done.
        () => undefined,
      );
      await host?.killAgent();
      host?.startAgent();
      if ((await records()) > many + 1) break;
    }
    await until(
      'what follows to be applied',
      async () => (await ids(two, 'id > 100000')).length === 50,
    );
    await cluster.settled();
    expect(await ids(two, 'id < 0 OR id BETWEEN 1001 AND 99999')).toEqual([]);
    expect(await ids(three, 'id BETWEEN 1001 AND 99999')).toHaveLength(many);
    const [counted] = await two.sql(`
      SELECT count(*)::integer, count(DISTINCT remote_commit_lsn)::integer, sum(nr_changes)::integer
      FROM bdr.bdr_skipped_transactions WHERE remote_commit_lsn <= '${upto}' AND nr_changes = 1`);
    expect(counted).toEqual([many + 1, many + 1, many + 1]);
    expect(await records()).toBe(many + 2);
  });
});
