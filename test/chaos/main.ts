import { appendFileSync, chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { setMaxListeners } from 'node:events';
import os from 'node:os';
import path from 'node:path';
import { describeFailure } from '../../src/cli/output/errors.ts';
import { readEnvironment } from '../../src/config/environment.ts';
import { parseOptions, type ChaosOptions } from './options.ts';
import { describeResult } from './report.ts';
import { runChaos } from './run.ts';

// npm run chaos: see docs/concepts/chaos.md.

const signal = endSignal();
let tell = (text: string) => {
  process.stdout.write(`${text}\n`);
};
try {
  const options = parseOptions(process.argv.slice(2), () => Date.now() % 1_000_000_000);
  if (options.json) {
    tell = (text) => {
      process.stderr.write(`${text}\n`);
    };
  }
  process.exitCode = await run(options);
} catch (error) {
  const { text, exitCode } = signal.aborted
    ? { text: 'chaos: interrupted', exitCode: 130 }
    : describeFailure(error);
  if (text !== '') process.stderr.write(`${text}\n`);
  process.exitCode = exitCode;
}

async function run({ minutes, nodes, seed, json, keep }: ChaosOptions): Promise<number> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-chaos-'));
  chmodSync(dir, 0o755); // the servers may have to run as another user
  tell(`seed ${seed}`);
  let isWell = false;
  try {
    const result = await runChaos({
      minutes,
      nodes,
      seed,
      dir,
      agentEnv: agentEnvironment(),
      signal,
      say: tell,
      note: noteIn(path.join(dir, 'faults.log')),
    });
    isWell = result.findings.length === 0;
    tell(describeResult(result));
    if (json) {
      const repeat = { minutes, nodes, seed };
      const left = isWell && !keep ? null : dir;
      process.stdout.write(`${JSON.stringify({ ...repeat, ...result, dir: left })}\n`);
    }
    return isWell ? 0 : 1;
  } finally {
    if ((isWell && !keep) || signal.aborted) rmSync(dir, { recursive: true, force: true });
    else tell(`data and logs are in ${dir}`);
  }
}

/** Without PGSSLMODE and the like, which the user has for other servers. */
function agentEnvironment(): Record<string, string | undefined> {
  const { env } = readEnvironment();
  return Object.fromEntries(Object.entries(env).filter(([name]) => !/^PG[A-Z]+$/.test(name)));
}

function noteIn(file: string): (text: string) => void {
  return (text) => {
    appendFileSync(file, `${new Date().toISOString()} ${text}\n`);
  };
}

/** Raised when the run is to end. What it has started is ended in order, also when a second signal comes. */
function endSignal(): AbortSignal {
  const end = new AbortController();
  setMaxListeners(0, end.signal); // one for each session
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => end.abort());
  return end.signal;
}
