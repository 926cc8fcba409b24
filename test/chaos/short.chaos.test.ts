import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { until } from '../../src/demo/until.ts';
import { isAlive } from '../../src/embedded/processes.ts';
import { resolveConninfo } from '../../src/postgres/conninfo.ts';
import { Session } from '../../src/postgres/session.ts';
import { RunningScript, serverPids, temporaryDir } from '../support/running-script.ts';
import type { RunResult } from './run.ts';

test('a short run on two servers finds nothing, and leaves nothing', async () => {
  const tmp = temporaryDir();
  const args = ['--minutes', '0.5', '--nodes', '2', '--seed', '1', '--json'];
  const chaos = new RunningScript('chaos', args, tmp);
  expect(await chaos.exit(), chaos.errors).toBe(0);
  const result = JSON.parse(chaos.output) as RunResult & { seed: number; dir: string | null };
  expect(result).toMatchObject({ seed: 1, dir: null, findings: [] });
  expect(result.transactions).toBeGreaterThan(100);
  expect(result.conflicts).toBeGreaterThan(10);
  expect(Object.keys(result.faults).length).toBeGreaterThan(3);
  expect(readdirSync(tmp)).toEqual([]);
});

// As a link would that applies what nobody wrote: with an origin, so that no other node hears of it.
test('a row that comes on one node alone is noticed, and data and logs stay', async () => {
  const tmp = temporaryDir();
  const args = ['--minutes', '0.2', '--nodes', '2', '--seed', '2', '--json'];
  const chaos = new RunningScript('chaos', args, tmp);
  await until('clients write', async () => chaos.errors.includes('s left'), {
    deadlineMs: 120_000,
    found: () => chaos.errors,
  });
  await until('a row is put in on one node', () => putIn(tmp));
  expect(await chaos.exit()).toBe(1);
  expect(chaos.output, chaos.errors).toMatch(/^\{/);
  const { findings, dir } = JSON.parse(chaos.output) as RunResult & { dir: string };
  expect(findings.map(({ text }) => text)).toEqual([
    'nobody is on node2, and was not committed by any client',
  ]);
  expect(readdirSync(dir)).toEqual(['faults.log', 'node1', 'node2']);
  expect(serverPids(tmp)).toEqual([]);
});

test('Ctrl-C ends servers and agents and removes their files', async () => {
  const tmp = temporaryDir();
  const chaos = new RunningScript('chaos', ['--nodes', '2', '--json'], tmp);
  await until('clients write', async () => chaos.errors.includes('s left'), {
    deadlineMs: 120_000,
    found: () => chaos.errors,
  });
  const servers = serverPids(tmp);
  chaos.interrupt();
  expect(await chaos.exit(), chaos.errors).toBe(130);
  expect(servers.filter(isAlive)).toEqual([]);
  expect(readdirSync(tmp)).toEqual([]);
});

/** False while it cannot be done, as when chaos has the server down. */
async function putIn(tmp: string): Promise<boolean> {
  const [dir = ''] = readdirSync(tmp);
  const settings = readFileSync(path.join(tmp, dir, 'node2/server.conf'), 'utf8');
  const port = /^port = (\d+)$/m.exec(settings)?.[1];
  const dsn = `host=127.0.0.1 port=${port} user=postgres dbname=app`;
  const origin = `put_in_${process.hrtime.bigint()}`;
  try {
    await using session = await Session.connect(
      resolveConninfo(dsn, { env: {}, homeDir: '', userName: '' }),
      { applicationName: 'test' },
    );
    await session.script(`
      SELECT pg_replication_origin_create('${origin}');
      SELECT pg_replication_origin_session_setup('${origin}');
      INSERT INTO public.journal VALUES ('nobody', 1, '')
    `);
    return true;
  } catch {
    return false;
  }
}
