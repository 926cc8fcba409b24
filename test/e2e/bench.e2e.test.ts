import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { isAlive } from '../../src/embedded/processes.ts';
import { until } from '../../src/demo/until.ts';

// Whether the bench works, not what it measures.

interface Report {
  readonly postgres: string;
  readonly results: readonly {
    readonly metric: string;
    readonly ours: { readonly median: number; readonly samples: readonly number[] };
    readonly server: { readonly median: number } | null;
    readonly ratio: number | null;
    readonly rowsCompared: number;
  }[];
}

test('a small bench: equal rows, one JSON object, and nothing is left', async () => {
  const tmp = temporaryDir();
  const bench = new RunningBench(
    ['--scale', '0.001', '--runs', '1', '--only', 'small-tx,bulk-delete,latency', '--json'],
    tmp,
  );
  expect(await bench.exit(), bench.errors).toBe(0);
  const report = JSON.parse(bench.output) as Report;
  expect(report.postgres).toMatch(/^18\./);
  expect(report.results.map(({ metric }) => metric)).toEqual([
    'small-tx',
    'bulk-delete',
    'latency p50',
    'latency p99',
  ]);
  for (const { ours, server, ratio, rowsCompared } of report.results) {
    expect(ours.samples).toHaveLength(1);
    expect(ours.median).toBeGreaterThan(0);
    expect(server?.median).toBeGreaterThan(0);
    expect(ratio).toBeGreaterThan(0);
    expect(rowsCompared).toBeGreaterThan(0);
  }
  expect(readdirSync(tmp)).toEqual([]);
});

test('Ctrl-C ends servers and agents and removes their files', async () => {
  const tmp = temporaryDir();
  const bench = new RunningBench(['--scale', '0.001', '--only', 'latency'], tmp);
  await until('the systems are set up', async () => bench.errors.includes('set up server'), {
    deadlineMs: 120_000,
    found: () => bench.errors,
  });
  const servers = serverPids(tmp);
  expect(servers).toHaveLength(2);
  bench.interrupt();
  expect(await bench.exit(), bench.errors).toBe(130);
  expect(servers.filter(isAlive)).toEqual([]);
  expect(readdirSync(tmp)).toEqual([]);
});

/** `npm run bench` as a child process; ended with the test. */
class RunningBench {
  output = '';
  errors = '';
  readonly #child: ChildProcess;
  readonly #exit: Promise<number | null>;

  constructor(args: readonly string[], tmp: string) {
    this.#child = spawn(process.execPath, ['scripts/run.mjs', 'bench', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: tmp },
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
    this.#exit = new Promise((resolve) => this.#child.once('close', resolve));
    onTestFinished(async () => {
      this.interrupt();
      await this.#exit;
    });
  }

  interrupt(): void {
    this.#child.kill('SIGINT');
  }

  exit(): Promise<number | null> {
    return this.#exit;
  }
}

/** Of the postmasters whose data is below `dir`. */
function serverPids(dir: string): number[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((file) => path.basename(file) === 'postmaster.pid')
    .map((file) => Number(readFileSync(path.join(dir, file), 'utf8').split('\n')[0]));
}

function temporaryDir(): string {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-bench-test-'));
  chmodSync(dir, 0o755);
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
