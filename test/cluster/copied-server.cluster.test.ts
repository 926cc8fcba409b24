import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readEnvironment } from '../../src/config/environment.ts';
import { AgentProcess } from '../../src/demo/agent-process.ts';
import { freePort } from '../../src/embedded/ports.ts';
import { EmbeddedServer } from '../../src/embedded/server.ts';
import { Cluster, until, type TestNode } from '../support/cluster.ts';

// A clone of a machine, or a backup that is looked at, has all that makes a node, and whoever starts its agent may not know.

let cluster: Cluster;
let one: TestNode;
let two: TestNode;
beforeAll(async () => {
  cluster = await Cluster.start(2, 'CREATE TABLE item (id integer PRIMARY KEY, v text)');
  [one, two] = [cluster.node(1), cluster.node(2)];
  await cluster.settled();
});
afterAll(() => cluster[Symbol.asyncDispose]());

test('a copy of a server takes nothing that is meant for the node, and is told what it is', async () => {
  const { server } = one.host;
  const dir = `${server.dir}-copy`;
  await one.host.killAgent();
  await server.stop();
  mkdirSync(dir);
  execFileSync('cp', ['-a', path.join(server.dir, 'data'), dir]);
  await server.start();
  const copy = await EmbeddedServer.open({
    dir,
    port: await freePort(),
    extensionDir: path.resolve('dist/extension'),
  });
  try {
    await copy.start();
    const log = path.join(dir, 'agent.log');
    const agent = new AgentProcess(copy.dsn(), log, readEnvironment().env);
    try {
      await two.sql(`INSERT INTO item VALUES (1, 'for the node')`);
      await until('the copy to be told', () =>
        Promise.resolve(
          existsSync(log) && readFileSync(log, 'utf8').includes('is a copy of that of node node1'),
        ),
      );
      expect(
        await two.sql(
          'SELECT bool_or(active) FROM pg_replication_slots WHERE slot_name NOT LIKE $1',
          ['%own%'],
        ),
      ).toEqual([[false]]);
    } finally {
      await agent.stop();
    }
  } finally {
    await copy.crash();
    rmSync(dir, { recursive: true });
  }
  one.host.startAgent();
  expect(await cluster.equal('item')).toEqual(['(1,"for the node")']);
});
