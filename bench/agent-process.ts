import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readEnvironment } from '../src/config/environment.ts';
import { until } from '../src/demo/until.ts';
import { readTail } from '../src/embedded/postmaster.ts';
import { BDR_PROGRAM } from './paths.ts';

const STOP_MS = 30_000;

/**
 * The built `bdr agent` as a child process. Its stdin is a pipe that we hold: however we end, it ends. In a process group of its
 * own, so that Ctrl-C reaches us alone.
 */
export class AgentProcess {
  readonly #child: ChildProcess;
  readonly #logPath: string;
  #end: string | undefined;
  #isStopping = false;

  /** With `profileDir` it leaves a CPU profile there when it is stopped. */
  constructor(dsn: string, logPath: string, profileDir: string | undefined) {
    const log = openSync(logPath, 'a');
    const profile = profileDir === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDir}`];
    this.#child = spawn(
      process.execPath,
      [...profile, BDR_PROGRAM, 'agent', '--with-parent', '--dsn', dsn],
      { stdio: ['pipe', log, log], detached: true, env: ownEnvironment() },
    );
    closeSync(log);
    this.#logPath = logPath;
    this.#child.stdin?.on('error', () => undefined); // it has ended, which 'exit' tells
    this.#child.once('error', (error) => (this.#end = error.message));
    this.#child.once('exit', (code, signal) => (this.#end = signal ?? `exit code ${code}`));
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Throws if it has ended by itself. */
  check(): void {
    if (this.#end === undefined || this.#isStopping) return;
    throw new Error(`an agent has ended (${this.#end}):\n${this.logTail()}`);
  }

  logTail(): string {
    return readTail(this.#logPath, 0, 10);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    const hasEnded = async () => this.#end !== undefined;
    this.#child.kill('SIGTERM');
    try {
      await until('the agent ends', hasEnded, { deadlineMs: STOP_MS });
    } catch {
      this.#child.kill('SIGKILL');
      await until('the agent that was killed ends', hasEnded);
    }
  }
}

/** Without PGSSLMODE and the like, which the user has for other servers. */
function ownEnvironment(): Record<string, string | undefined> {
  const { env } = readEnvironment();
  return Object.fromEntries(Object.entries(env).filter(([name]) => !/^PG[A-Z]+$/.test(name)));
}
