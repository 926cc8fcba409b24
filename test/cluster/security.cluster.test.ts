import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, Host, type TestNode } from '../support/cluster.ts';

const TLS = fileURLToPath(new URL('../support/tls/', import.meta.url));
const PASSWORD = `it's a \\ s3cret#`;

/** Only TLS, only with a password. */
const HBA = 'hostssl all,replication all 127.0.0.1/32 scram-sha-256\n';

describe('passwords by SCRAM and TLS between nodes', () => {
  let cluster: Cluster;
  let folder: string;
  const tls = `sslmode=verify-full sslrootcert=${TLS}ca.crt`;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'bdr-security-'));
    cluster = new Cluster();
    for (const name of ['node1', 'node2']) {
      const host = await Host.start({
        password: PASSWORD,
        hba: HBA,
        tls: { certFile: `${TLS}server.crt`, keyFile: `${TLS}server.key` },
      });
      cluster.hosts.push(host);
      await host.stopAgent();
      // The agent's password is in a password file, the nodes' DSNs in the catalog carry theirs.
      const passfile = join(folder, name);
      writeFileSync(passfile, `127.0.0.1:*:*:postgres:${PASSWORD.replaceAll('\\', '\\\\')}\n`, {
        mode: 0o600,
      });
      host.startAgent(
        `host=127.0.0.1 port=${host.server.port} user=postgres passfile=${passfile} ${tls}`,
      );
      await cluster.addNode(name, host, 'app');
    }
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const dsn = (node: TestNode) => `${node.dsn} ${tls}`;

  test('a group forms, and replicates both ways', async () => {
    const [one, two] = [cluster.node(1), cluster.node(2)];
    await one.sql('CREATE TABLE t (id integer PRIMARY KEY); INSERT INTO t VALUES (1)');
    await one.sql('SELECT bdr.bdr_group_create($1, $2)', ['node1', dsn(one)]);
    await one.ready();
    await two.sql('SELECT bdr.bdr_group_join($1, $2, $3)', ['node2', dsn(two), dsn(one)]);
    await two.ready();
    await one.sql('INSERT INTO t VALUES (2)');
    await two.sql('INSERT INTO t VALUES (3)');
    expect(await cluster.equal('t')).toEqual(['(1)', '(2)', '(3)']);
  });

  test('every connection of the agents is encrypted', async () => {
    for (const node of cluster.nodes) {
      const plain = await node.sql(`
        SELECT a.application_name FROM pg_stat_activity AS a JOIN pg_stat_ssl AS s USING (pid)
        WHERE a.backend_type IN ('client backend', 'walsender') AND NOT s.ssl AND a.pid <> pg_backend_pid()`);
      expect(plain).toEqual([]);
    }
  });

  test('no password stands in a log, or where ordinary roles can read it', async () => {
    const [one] = cluster.nodes;
    for (const host of cluster.hosts) expect(host.agentLog).not.toContain('s3cret');
    await one!.sql('CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA bdr TO reader');
    await expect(
      one!.sql('SET ROLE reader; SELECT * FROM bdr.bdr_connections'),
    ).rejects.toMatchObject({ code: '42501' });
    await expect(one!.sql('SET ROLE reader; SELECT * FROM bdr.bdr_nodes')).rejects.toMatchObject({
      code: '42501',
    });
  });
});
