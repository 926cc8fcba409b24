import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { BdrError } from '../base/errors.ts';
import { pause } from '../base/wait.ts';
import { spawnIdentity } from './account.ts';
import type { Account } from './account.ts';
import { cannotRun, programPath } from './binaries.ts';
import type { Binaries } from './binaries.ts';
import { childPlace } from './data-directory.ts';
import type { ServerFiles } from './data-directory.ts';
import { commandOf, isAlive, killTree } from './processes.ts';

/** Why a server did not come up, as far as its log tells; `port` and `memory` may be worth another try. */
export type StartFailure = 'port' | 'memory' | 'other';

export type StartResult =
  { readonly child: ChildProcess } | { readonly failure: StartFailure; readonly logTail: string };

/** Starts `postgres` and waits until it takes connections, has ended, or the deadline has passed. */
export async function launch(
  binaries: Binaries,
  files: ServerFiles,
  account: Account | undefined,
  environment: Readonly<Record<string, string>>,
  deadlineMs: number,
): Promise<StartResult> {
  const program = programPath(binaries, 'postgres');
  const lockFile = path.join(files.data, 'postmaster.pid');
  const stale = stalePid(lockFile, files);
  const log = openSync(files.log, 'a', 0o600);
  const logStart = statSync(files.log).size;
  const child = spawn(program, ['-D', files.data], {
    ...spawnIdentity(account),
    // PostgreSQL takes a lock file for live if its process exists. With this variable, which pg_ctl uses for its caller, it
    // knows better about one, and still looks whether the old shared memory is in use.
    ...childPlace({
      ...environment,
      ...(stale === undefined ? {} : { PG_GRANDPARENT_PID: String(stale) }),
    }),
    stdio: ['ignore', log, log],
    detached: true, // Ctrl-C in a terminal is for the agents; they say when the servers go
  });
  closeSync(log);
  let failed: Error | undefined;
  child.once('error', (error) => (failed = error));
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    if (failed) throw cannotRun(program, failed);
    if (child.exitCode !== null || child.signalCode !== null) break;
    if (isReady(lockFile, child.pid)) return { child };
    if (Date.now() > deadline) {
      if (child.pid !== undefined) await killTree(child.pid, deadlineMs);
      break;
    }
    await pause(10);
  }
  const logTail = readTail(files.log, logStart);
  return { failure: classify(logTail), logTail };
}

/** Refuses where another server already runs on the data. Returns the process that a stale lock file names wrongly. */
function stalePid(lockFile: string, files: ServerFiles): number | undefined {
  const pid = Number(readIfThere(lockFile)?.split('\n')[0] ?? 0);
  if (!(pid > 0) || process.platform === 'win32' || !isAlive(pid)) return undefined;
  if (!commandOf(pid).includes(files.data)) return pid;
  throw new BdrError('no_embedded_server', {
    message: `a server already runs on ${files.data}, process ${pid}`,
    hint: `End the program that started it; or, if that is gone: kill -INT ${pid}`,
  });
}

function isReady(lockFile: string, pid: number | undefined): boolean {
  const lines = readIfThere(lockFile)?.split('\n') ?? [];
  return Number(lines[0]) === pid && lines[7]?.trim() === 'ready';
}

/** A file's text, or undefined where there is none. A lock file may go at any moment, also right after a look at whether it is there. */
export function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** From the text of the log, which is in English because the locale is C. */
export function classify(logText: string): StartFailure {
  if (/could not bind .*(in use|permission)/i.test(logText)) return 'port';
  if (/pre-existing shared memory block/.test(logText)) return 'memory';
  return 'other';
}

/** The last lines of the log, of those written after `from`. */
export function readTail(logFile: string, from = 0, lines = 20): string {
  const text = existsSync(logFile) ? readFileSync(logFile).subarray(from).toString('utf8') : '';
  return text.trimEnd().split('\n').slice(-lines).join('\n');
}
