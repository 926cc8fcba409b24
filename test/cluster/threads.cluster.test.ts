import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, until, type Host } from '../support/cluster.ts';
import { FaultProxy } from '../support/fault-proxy.ts';

/**
 * Runs in every thread of the agent before the agent does: when there is the file that `FAULT` names, the threads of links die of
 * an error that nothing catches; the first thread, when there is that of `FAULT_OF_MAIN`.
 */
const FAULT = `data:text/javascript,${encodeURIComponent(`
  import { existsSync } from 'node:fs';
  import { isMainThread } from 'node:worker_threads';
  const file = isMainThread ? process.env.FAULT_OF_MAIN : process.env.FAULT;
  setInterval(() => {
    if (existsSync(file)) throw new Error('a mistake of ours');
  }, 10).unref();
`)}`;

const PASSWORD = 'geheim';

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

describe('the thread of a link', () => {
  let cluster: Cluster;
  let proxy: FaultProxy;
  const dir = mkdtempSync(path.join(tmpdir(), 'bdr-threads-'));
  const fault = path.join(dir, 'fault');
  const faultOfMain = path.join(dir, 'fault-of-main');
  const restartAgent = async (host: Host) => {
    await host.stopAgent();
    host.agentLog = '';
    host.startAgent(undefined, {
      NODE_OPTIONS: `--import ${FAULT}`,
      FAULT: fault,
      FAULT_OF_MAIN: faultOfMain,
    });
  };
  const lines = (host: Host): Line[] =>
    host.agentLog
      .split('\n')
      // Node itself writes of an error that ends it; the last line may not be complete.
      .slice(0, -1)
      .filter((line) => line.startsWith('{"level"'))
      .map((line) => JSON.parse(line) as Line);
  const saying = (host: Host, message: string) => lines(host).filter(({ msg }) => msg === message);

  beforeAll(async () => {
    cluster = await Cluster.bare(2);
    const [one, two] = [cluster.node(1), cluster.node(2)];
    proxy = await FaultProxy.before(one.host.server.port);
    await one.sql('CREATE TABLE t (id integer PRIMARY KEY, v text)');
    const dsn = `${one.dsn.replace(/port=\d+/, `port=${proxy.port}`)} password=${PASSWORD}`;
    await one.sql('SELECT bdr.bdr_group_create($1, $2, $3)', [one.name, dsn, one.dsn]);
    await one.ready();
    await two.sql('SELECT bdr.bdr_group_join($1, $2, $3)', [two.name, two.dsn, dsn]);
    await two.ready();
    await restartAgent(two.host);
    await cluster.settled();
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });

  test('writes to the log of the agent, line by line as the agent does', () => {
    const { host } = cluster.node(2);
    const [line] = saying(host, 'link is streaming');
    expect(Object.keys(line ?? {})).toEqual('level time database link from node msg'.split(' '));
    expect(line).toMatchObject({ level: 30, database: 'app', link: 'node1->node2' });
  });

  test('dies alone: the link fails for that reason, and goes on in another', async () => {
    const [one, two] = [cluster.node(1), cluster.node(2)];
    const { agentPid } = two.host;
    writeFileSync(fault, '');
    await until('the link to be reported as failed', async () => {
      const [row] = await two.sql(
        `SELECT status, status_error ->> 'message', apply_pid FROM bdr.bdr_links`,
      );
      if (row?.[0] !== 'failed') return false;
      expect(row).toEqual(['failed', 'the thread of the link has ended: a mistake of ours', null]);
      return true;
    });
    await one.sql(`INSERT INTO t VALUES (1, 'written while it was dead')`);
    // Nothing is left of it on either server.
    await until('its sessions to be gone', async () => {
      const left = await Promise.all([
        two.sql(
          `SELECT FROM pg_stat_activity WHERE application_name IN ('node1:link', 'node1:apply')`,
        ),
        one.sql(
          `SELECT FROM pg_stat_activity WHERE application_name IN ('node2:read', 'node2:send')`,
        ),
      ]);
      return left.flat().length === 0;
    });
    rmSync(fault);
    expect(await cluster.equal('t')).toEqual(['(1,"written while it was dead")']);
    expect(two.host.agentPid).toBe(agentPid);
    const [failed] = saying(two.host, 'link failed');
    expect(failed).toMatchObject({
      level: 40,
      link: 'node1->node2',
      stack: expect.stringContaining('a mistake of ours') as string,
    });
    const [row] = await two.sql('SELECT nr_disconnect >= 1 FROM bdr.bdr_links');
    expect(row).toEqual([true]);
  });

  test('ends with its agent while it connects to a server that does not answer', async () => {
    const { host } = cluster.node(2);
    await host.stopAgent();
    proxy.silence();
    host.startAgent();
    await until('the link to be connecting', async () => {
      const [row] = await cluster.node(2).sql(
        `SELECT status = 'connecting' AND EXISTS (
           SELECT FROM pg_stat_activity WHERE application_name = 'node1:apply') FROM bdr.bdr_links`,
      );
      return row?.[0] === true;
    });
    host.agentLog = '';
    const begun = performance.now();
    await host.stopAgent();
    // Well before a thread would be ended from outside.
    expect(performance.now() - begun).toBeLessThan(4000);
    expect(lines(host).map(({ msg }) => msg)).toEqual([
      'stopping',
      'no longer serving database',
      'stopped',
    ]);
    proxy.heal();
    await restartAgent(host);
    await cluster.settled();
  });

  test('ends with the service of its node, also when nothing can be reported', async () => {
    const two = cluster.node(2);
    const applyPids = async () => {
      const rows = await two.sql(
        `SELECT pid FROM pg_stat_activity WHERE application_name = 'node1:apply'`,
      );
      return rows.map(([pid]) => Number(pid));
    };
    const before = await applyPids();
    expect(before).toHaveLength(1);
    two.host.agentLog = '';
    for (const table of ['bdr_links', 'own_stream']) {
      await two.sql(
        `ALTER TABLE bdr.${table} ADD CONSTRAINT no_report CHECK (status IS NULL) NOT VALID`,
      );
    }
    await until('the node to fail', () =>
      Promise.resolve(saying(two.host, 'node failed').length > 0),
    );
    await until(
      'the session of the link to be gone',
      async () => !(await applyPids()).includes(before[0] ?? 0),
      20_000,
    );
    for (const table of ['bdr_links', 'own_stream']) {
      await two.sql(`ALTER TABLE bdr.${table} DROP CONSTRAINT no_report`);
    }
    await cluster.settled();
    expect(await applyPids()).toHaveLength(1);
  });

  test('tells nobody the secrets it was given', async () => {
    const { host } = cluster.node(2);
    proxy.cut();
    await until('the link to have failed', () =>
      Promise.resolve(saying(host, 'link failed').length > 0),
    );
    proxy.heal();
    await cluster.settled();
    expect(host.agentLog).not.toContain(PASSWORD);
  });

  test('is not the agent: when that dies of a fault, it says so in the log', async () => {
    const { host } = cluster.node(2);
    writeFileSync(faultOfMain, '');
    const message = 'a fault in the program ends the agent';
    await until('the last line', () => Promise.resolve(saying(host, message).length > 0));
    rmSync(faultOfMain);
    expect(saying(host, message)[0]).toMatchObject({
      level: 50,
      message: 'a mistake of ours',
      stack: expect.stringContaining('a mistake of ours') as string,
    });
    await restartAgent(host);
    await cluster.settled();
  });
});
