import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { pause } from '../base/wait.ts';

/** The program `bdr`, to be run by node; the same distance from src/demo and from dist/demo. */
export const BDR_PROGRAM = fileURLToPath(new URL('../../bin/bdr.js', import.meta.url));

const STOP_MS = 10_000;

/**
 * `bdr agent` as a child process. Its stdin is a pipe that we hold: however we end, it ends, and the agent with it. In a process
 * group of its own, so that Ctrl-C reaches us alone.
 */
export class AgentProcess {
  readonly #child: ChildProcess;
  #end: string | undefined;

  constructor(
    dsn: string,
    logPath: string,
    env: Readonly<Record<string, string | undefined>>,
    program = BDR_PROGRAM,
  ) {
    const log = openSync(logPath, 'a');
    this.#child = spawn(process.execPath, [program, 'agent', '--with-parent', '--dsn', dsn], {
      stdio: ['pipe', log, log],
      detached: true,
      env,
    });
    closeSync(log);
    this.#child.stdin?.on('error', () => undefined); // it has ended, which 'exit' tells
    this.#child.once('error', (error) => (this.#end = error.message));
    this.#child.once('exit', (code, signal) => (this.#end = signal ?? `exit code ${code}`));
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** How it ended; undefined while it runs. */
  get end(): string | undefined {
    return this.#end;
  }

  /** Ends it cleanly, or after ten seconds otherwise. */
  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    const deadline = performance.now() + STOP_MS;
    while (this.#end === undefined && performance.now() < deadline) await pause(10);
    await this.kill();
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    if (this.#end === undefined) this.#child.kill('SIGKILL');
    while (this.#end === undefined) await pause(5);
  }
}
