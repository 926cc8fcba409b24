import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';

/** `npm run bench` and the like as a child process, with its temporary files in `tmp`; ended with the test. */
export class RunningScript {
  output = '';
  errors = '';
  readonly #child: ChildProcess;
  readonly #exit: Promise<number | null>;

  constructor(task: 'bench' | 'chaos', args: readonly string[], tmp: string) {
    this.#child = spawn(process.execPath, ['scripts/run.mjs', task, ...args], {
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
export function serverPids(dir: string): number[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((file) => path.basename(file) === 'postmaster.pid')
    .map((file) => Number(readFileSync(path.join(dir, file), 'utf8').split('\n')[0]));
}

/** Removed with the test; open to the user that servers run as. */
export function temporaryDir(): string {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-script-test-'));
  chmodSync(dir, 0o755);
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
