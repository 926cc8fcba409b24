import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { isAlive } from '../../src/embedded/processes.ts';
import { resolveConninfo } from '../../src/postgres/conninfo.ts';
import { Session } from '../../src/postgres/session.ts';
import { until } from '../../src/demo/until.ts';

// The built program, as users run it: `node scripts/build.mjs` makes it.
const PROGRAM = path.resolve('bin/bdr.js');

interface Ready {
  readonly dir: string;
  readonly nodes: readonly {
    readonly name: string;
    readonly dsn: string;
    readonly agentPid: number;
    readonly serverPid: number;
  }[];
}

test('--check: a scripted tour, each step with its time, and nothing is left', async () => {
  const tmp = temporaryDir();
  const demo = new RunningDemo(['--check'], { TMPDIR: tmp });
  expect(await demo.exit(), demo.output).toBe(0);
  const steps = demo.output.split('\n').filter((line) => /^ok {2}.* \d+\.\d\d s$/.test(line));
  expect(steps.length).toBeGreaterThanOrEqual(10);
  expect(demo.output).toMatch(/All \d+ steps went well/);
  expect(demosIn(tmp)).toEqual([]);
});

test('--check --json: one object, also with three nodes', async () => {
  const demo = new RunningDemo(['--check', '--json', '--nodes', '3']);
  expect(await demo.exit(), demo.output).toBe(0);
  const result = JSON.parse(demo.stdout) as { ok: boolean; steps: { name: string; ms: number }[] };
  expect(result.ok).toBe(true);
  expect(result.steps.map(({ name }) => name)).toContain('join node3 by way of node1');
});

test('--bare --json: one line, servers and agents; SIGTERM ends everything', async () => {
  const tmp = temporaryDir();
  const demo = new RunningDemo(['--bare', '--json'], { TMPDIR: tmp });
  const ready = await demo.ready();
  expect(ready.nodes.map(({ name }) => name)).toEqual(['node1', 'node2']);
  for (const { dsn, agentPid, serverPid } of ready.nodes) {
    expect(await ask(dsn, 'SELECT current_database()')).toBe('postgres');
    expect(await ask(dsn, `SELECT count(*) FROM pg_database WHERE NOT datistemplate`)).toBe('1');
    expect(await ask(dsn, `SELECT name FROM pg_available_extensions WHERE name = 'bdr'`)).toBe(
      'bdr',
    );
    expect(isAlive(agentPid) && isAlive(serverPid)).toBe(true);
  }
  expect(path.dirname(ready.dir)).toBe(tmp);

  // An agent that is killed stays dead, and nothing is said about it.
  const [killed] = ready.nodes;
  process.kill(killed?.agentPid ?? 0, 'SIGKILL');
  await until('the agent is gone', async () => !isAlive(killed?.agentPid ?? 0));

  demo.signal('SIGTERM');
  expect(await demo.exit(), demo.output).toBe(0);
  expect(demo.output.trimEnd().split('\n')).toHaveLength(1);
  for (const { agentPid, serverPid } of ready.nodes) {
    expect(isAlive(agentPid) || isAlive(serverPid)).toBe(false);
  }
  expect(demosIn(tmp)).toEqual([]);
});

test('--dir is kept: started again, the group is there, on the same ports', async () => {
  const dir = path.join(temporaryDir(), 'kept');
  const first = new RunningDemo(['--dir', dir, '--json']);
  const before = await first.ready();
  const [one, two] = before.nodes as [Ready['nodes'][0], Ready['nodes'][0]];
  await ask(one.dsn, `INSERT INTO public.accounts (name) VALUES ('kept')`);

  const second = new RunningDemo(['--dir', dir, '--json']);
  expect(await second.exit()).toBe(2);
  expect(second.output).toMatch(/a demo is running in .*kept, process \d+/);

  first.signal('SIGINT');
  expect(await first.exit(), first.output).toBe(0);

  const wrong = new RunningDemo(['--dir', dir, '--nodes', '3']);
  expect(await wrong.exit()).toBe(2);
  expect(wrong.output).toContain('has 2 nodes, not 3');

  const again = new RunningDemo(['--dir', dir, '--json']);
  const after = await again.ready();
  expect(after.nodes.map(({ dsn }) => dsn)).toEqual([one.dsn, two.dsn]);
  await ask(two.dsn, `INSERT INTO public.accounts (name) VALUES ('new')`);
  for (const { dsn } of after.nodes) {
    await until(
      'both rows are everywhere',
      async () => (await ask(dsn, 'SELECT count(*) FROM public.accounts')) === '2',
    );
  }

  // Killed, it leaves nothing running either, and its directory can be used at once.
  again.signal('SIGKILL');
  await again.exit();
  const last = new RunningDemo(['--dir', dir, '--json']);
  await last.ready();
  for (const { agentPid, serverPid } of after.nodes) {
    expect(isAlive(serverPid)).toBe(false);
    await until('the agent has noticed', async () => !isAlive(agentPid));
  }
  last.signal('SIGTERM');
  expect(await last.exit(), last.output).toBe(0);
  expect(existsSync(path.join(dir, 'demo.lock'))).toBe(false);
  expect(readFileSync(path.join(dir, 'node1', 'agent.log'), 'utf8')).toContain('stopped');
});

test('in front without a terminal: what to try, then what happens, a line each', async () => {
  const demo = new RunningDemo([]);
  await until('the demo is ready', async () => demo.output.includes('Ctrl-C'), {
    deadlineMs: 120_000,
    found: () => demo.output,
  });
  expect(demo.output).toMatch(/node1: INSERT … 'Ada' {2}→ {2}on node2 after \d+ ms/);
  expect(demo.output).toMatch(/node2: INSERT … 'Bob' {2}→ {2}on node1 after \d+ ms/);
  const [dsn] = /host=\S+ port=\d+ user=postgres dbname=demo/.exec(demo.output) ?? [];
  await until('links are shown', async () => demo.output.includes('node2 → node1 is streaming'));
  await ask(dsn ?? '', `INSERT INTO public.accounts (name) SELECT 'x' FROM generate_series(1, 7)`);
  // Looks may fall in the middle of it, and one may still have the row of before.
  const applied = () =>
    [...demo.output.matchAll(/node2 applied (\d+) rows? of node1/g)]
      .map((match) => Number(match[1]))
      .reduce((sum, rows) => sum + rows, 0);
  await until('the rows are shown', async () => applied() >= 7, { found: () => demo.output });
  const [, pid] = /kill -9 (\d+)/.exec(demo.output) ?? [];
  process.kill(Number(pid), 'SIGKILL');
  await until('the end of the agent is shown', async () =>
    /the agent of node2 has ended \(SIGKILL\), see \S+node2.agent\.log/.test(demo.output),
  );
  demo.signal('SIGINT');
  expect(await demo.exit(), demo.output).toBe(0);
});

test('a directory of something else is left alone', async () => {
  const demo = new RunningDemo(['--dir', path.resolve('test')]);
  expect(await demo.exit()).toBe(2);
  expect(demo.output).toContain('is not empty, and no demo is in it');
});

/** `bdr demo` as a child process; ended with the test. */
class RunningDemo {
  stdout = '';
  output = '';
  readonly #child: ChildProcess;
  readonly #exit: Promise<number | null>;

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#child = spawn(process.execPath, [PROGRAM, 'demo', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.output += text;
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    this.#exit = new Promise((resolve) => this.#child.once('close', resolve));
    onTestFinished(async () => {
      this.#child.kill('SIGTERM');
      await this.#exit;
    });
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  exit(): Promise<number | null> {
    return this.#exit;
  }

  async ready(): Promise<Ready> {
    await until(
      'the demo is ready',
      async () => {
        if (this.#child.exitCode !== null) throw new Error(`the demo has ended: ${this.output}`);
        return this.stdout.includes('\n');
      },
      { deadlineMs: 120_000, found: () => this.output },
    );
    return JSON.parse(this.stdout) as Ready;
  }
}

/** The first column of the first row. */
async function ask(dsn: string, sql: string): Promise<string | undefined> {
  const conninfo = resolveConninfo(dsn, { env: {}, homeDir: '', userName: '' });
  await using session = await Session.connect(conninfo, { applicationName: 'demo test' });
  const [row] = await session.query<Record<string, string>>(sql);
  return row && Object.values(row)[0];
}

function temporaryDir(): string {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-demo-test-'));
  chmodSync(dir, 0o755);
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function demosIn(dir: string): string[] {
  return readdirSync(dir).filter((name) => name.startsWith('pg-bdr-demo-'));
}
