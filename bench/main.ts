import { execFileSync } from 'node:child_process';
import { setMaxListeners } from 'node:events';
import os from 'node:os';
import { messageOf } from '../src/base/errors.ts';
import { describeFailure } from '../src/cli/output/errors.ts';
import { Bench } from './bench.ts';
import { parseOptions, type BenchOptions } from './options.ts';
import { PACKAGE_DIR } from './paths.ts';
import { reportJson, reportText, type Circumstances } from './report.ts';
import type { Result } from './result.ts';
import { BenchServers } from './servers.ts';
import { OurSystem } from './systems/ours.ts';
import { ServerSystem } from './systems/server.ts';
import { workloads } from './workloads/all.ts';

// npm run bench: see docs/benchmark.md.

const signal = endSignal();
try {
  const options = parseOptions(process.argv.slice(2));
  const { circumstances, results } = await run(options);
  const report = options.json ? reportJson : reportText;
  process.stdout.write(`${report(circumstances, results)}\n`);
} catch (error) {
  const { text, exitCode } = signal.aborted
    ? { text: 'bench: interrupted', exitCode: 130 }
    : describeFailure(error);
  if (text !== '') tell(text);
  process.exitCode = exitCode;
}

async function run(
  options: BenchOptions,
): Promise<{ circumstances: Circumstances; results: Result[] }> {
  const { runs, scale, workerLog, keep } = options;
  const plan = { runs, scale, workerLog };
  const chosen = workloads(options.only, plan);
  await using servers = await BenchServers.start({ workerLog, keep, signal });
  if (keep) tell(`servers in ${servers.dir}`);
  await using ours = new OurSystem(servers, options.profileDir);
  await using server = new ServerSystem(servers);
  const bench = new Bench(servers, { ours, server }, plan, tell);
  await bench.setUp(chosen);
  const circumstances = {
    commit: commit(),
    machine: machine(),
    node: process.versions.node,
    postgres: servers.version,
    ...plan,
  };
  const results: Result[] = [];
  try {
    for (const workload of chosen) results.push(...(await bench.measure(workload)));
  } catch (error) {
    // What was measured before is true all the same.
    if (results.length > 0 && !signal.aborted) tell(reportText(circumstances, results));
    throw error;
  }
  return { circumstances, results };
}

function machine(): string {
  const cpus = os.cpus();
  const memoryGb = Math.round(os.totalmem() / 2 ** 30);
  const model = cpus[0]?.model.trim() ?? 'unknown processor';
  return `${cpus.length} × ${model}, ${memoryGb} GB, ${os.type()} ${os.release()}`;
}

function commit(): string | null {
  const git = (...args: string[]) =>
    execFileSync('git', args, {
      cwd: PACKAGE_DIR,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  try {
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain') ? '+' : '');
  } catch (error) {
    tell(`bench: the commit is not known: ${messageOf(error)}`);
    return null;
  }
}

/** Raised when the bench is to end. What it has started is ended in order, also when a second signal comes. */
function endSignal(): AbortSignal {
  const end = new AbortController();
  setMaxListeners(0, end.signal); // one for each session
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => end.abort());
  return end.signal;
}

/** Progress; standard output is for the report. */
function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}
