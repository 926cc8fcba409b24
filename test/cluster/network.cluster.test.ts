import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, until } from '../support/cluster.ts';
import { FaultProxy } from '../support/fault-proxy.ts';

describe('a network between two nodes', () => {
  let cluster: Cluster;
  let proxy: FaultProxy;

  beforeAll(async () => {
    cluster = await Cluster.bare(2);
    const [one, two] = [cluster.node(1), cluster.node(2)];
    proxy = await FaultProxy.before(one.host.server.port);
    await one.sql('CREATE TABLE t (id integer PRIMARY KEY, v text)');
    const seenThroughProxy = one.dsn.replace(/port=\d+/, `port=${proxy.port}`);
    await one.sql('SELECT bdr.bdr_group_create($1, $2, $3)', [one.name, seenThroughProxy, one.dsn]);
    await one.ready();
    await two.sql('SELECT bdr.bdr_group_join($1, $2, $3)', [two.name, two.dsn, seenThroughProxy]);
    await two.ready();
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
  });

  const linkStatus = async () =>
    (await cluster.node(2).sql('SELECT status FROM bdr.bdr_links'))[0]?.[0];

  test('that breaks in the middle of a frame loses nothing', async () => {
    const [one] = cluster.nodes;
    for (const bytes of [1, 7, 100, 3000, 50_000]) {
      const before = proxy.cuts;
      proxy.cutAfter(bytes);
      await one!.sql(
        `INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series($1::integer, $1 + 999) AS g`,
        [bytes * 1000],
      );
      await until('the connection to be cut', () => Promise.resolve(proxy.cuts > before));
    }
    expect(await cluster.equal('t')).toHaveLength(5000);
  });

  test('that is cut for a while comes back, with what was written on both sides meanwhile', async () => {
    const [one, two] = cluster.nodes;
    proxy.cut();
    await until('the link to be reported as failed', async () => (await linkStatus()) === 'failed');
    await one!.sql(`INSERT INTO t VALUES (-1, 'written while cut')`);
    await two!.sql(`INSERT INTO t VALUES (-2, 'written while cut')`);
    proxy.heal();
    const rows = await cluster.equal('t');
    expect(rows).toEqual(
      expect.arrayContaining(['(-1,"written while cut")', '(-2,"written while cut")']),
    );
  });

  test('that is slow brings everything later, in its order', async () => {
    const [one] = cluster.nodes;
    proxy.slow(300);
    const written = performance.now();
    for (let v = 0; v < 20; v++) {
      await one!.sql(`INSERT INTO t VALUES (-4, '${v}') ON CONFLICT (id) DO UPDATE SET v = '${v}'`);
    }
    expect(await cluster.equal('t')).toContain('(-4,19)');
    expect(performance.now() - written).toBeGreaterThan(300);
    proxy.heal();
  });

  test('that goes silent without telling anybody is noticed', async () => {
    const [one] = cluster.nodes;
    proxy.silence();
    await one!.sql(`INSERT INTO t VALUES (-3, 'into the silence')`);
    await until('the silence to be noticed', async () => {
      const [row] = await cluster
        .node(2)
        .sql(`SELECT status_error ->> 'message' FROM bdr.bdr_links`);
      return String(row?.[0]).includes('nothing was heard from node node1');
    });
    proxy.heal();
    expect(await cluster.equal('t')).toContain('(-3,"into the silence")');
  });
});

// Longer than a link may be without progress (30 s), and a provider without an answer: it would be ended, and begin again, each time.
test('a provider waits for a statement that takes long, and for what stands behind it in its transaction', async () => {
  const settings = { wal_sender_timeout: '10s' };
  const schema = `
    CREATE TABLE slow (id integer PRIMARY KEY); INSERT INTO slow VALUES (1);
    CREATE TABLE behind (id integer PRIMARY KEY, v text);
    CREATE FUNCTION takes_long(integer) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
      IF current_setting('session_replication_role') = 'replica' THEN PERFORM pg_sleep(46); END IF;
      RETURN true;
    END $$`;
  await using cluster = await Cluster.start(2, schema, { replicatesDdl: true, settings });
  const [one, two] = [cluster.node(1), cluster.node(2)];
  await cluster.settled();
  await one.sql(`
    BEGIN;
    ALTER TABLE slow ADD CHECK (takes_long(id));
    INSERT INTO behind SELECT g, repeat(md5(g::text), 32) FROM generate_series(1, 20000) AS g;
    COMMIT`);
  await until('the transaction to be applied, or the link to fail', async () => {
    const [row] = await two.sql('SELECT count(*)::integer FROM behind');
    return row?.[0] === 20_000 || two.host.agentLog.includes('link failed');
  });
  expect(two.host.agentLog).not.toContain('link failed');
});
