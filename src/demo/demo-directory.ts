import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { BdrError } from '../base/errors.ts';
import { readIfThere } from '../embedded/postmaster.ts';
import { commandOf, isAlive } from '../embedded/processes.ts';
import { until } from './until.ts';

/** What a demo is, as kept in `demo.json` of its directory. */
export interface DemoState {
  readonly nodes: number;
  readonly major: number;
  /** Of node1, node2, …; empty until the servers have been made. */
  readonly ports: readonly number[];
}

export interface DirectoryRequest {
  /** Kept; without it a temporary one is made, and removed in the end. */
  readonly dir: string | undefined;
  readonly nodes: number | undefined;
  readonly major: number | undefined;
  /** Of the first node; the others follow. */
  readonly port: number | undefined;
}

const ORPHANS_END_MS = 20_000;

/**
 * The directory of a demo: `demo.json`, and `node1`, `node2`, … with a server's files and its agent's log each. While a demo
 * runs, `demo.lock` names its process.
 */
export class DemoDirectory {
  readonly path: string;
  readonly temporary: boolean;
  #state: DemoState;

  private constructor(dir: string, temporary: boolean, state: DemoState) {
    this.path = dir;
    this.temporary = temporary;
    this.#state = state;
  }

  /** Makes the directory, or takes up one that an earlier demo left; then what is asked for must be what is there. */
  static async open(
    request: DirectoryRequest,
    defaults: { readonly nodes: number; readonly major: number },
  ): Promise<DemoDirectory> {
    const wanted: DemoState = {
      nodes: request.nodes ?? defaults.nodes,
      major: request.major ?? defaults.major,
      ports: [],
    };
    if (request.dir === undefined) {
      const dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-demo-'));
      chmodSync(dir, 0o755); // root's servers run as another user, who must pass
      const directory = new DemoDirectory(dir, true, wanted);
      directory.#writeState();
      return directory;
    }
    const dir = path.resolve(request.dir);
    const found = readState(dir);
    if (found) refuseOther(dir, found, request);
    else if (existsSync(dir) && readdirSync(dir).length > 0) {
      throw new BdrError('usage', {
        message: `${dir} is not empty, and no demo is in it`,
        hint: 'Name a directory that is empty or does not exist.',
      });
    }
    makeDirectory(dir);
    const directory = new DemoDirectory(dir, false, found ?? wanted);
    directory.#lock();
    try {
      await directory.#waitForOrphans();
    } catch (error) {
      directory.release();
      throw error;
    }
    if (!found) directory.#writeState();
    return directory;
  }

  get state(): DemoState {
    return this.#state;
  }

  nodeDir(index: number): string {
    return path.join(this.path, `node${index + 1}`);
  }

  keepPorts(ports: readonly number[]): void {
    this.#state = { ...this.#state, ports };
    this.#writeState();
  }

  /** Gives the directory up. A temporary one is removed; with `keepLogs` all of it but the logs, if there are any. */
  release({ keepLogs = false }: { keepLogs?: boolean } = {}): void {
    rmSync(this.#lockFile, { force: true });
    if (!this.temporary) return;
    let kept = 0;
    for (const nodeDir of keepLogs ? this.#nodeDirs() : []) {
      for (const name of existsSync(nodeDir) ? readdirSync(nodeDir) : []) {
        if (name.endsWith('.log')) kept += 1;
        else rmSync(path.join(nodeDir, name), { recursive: true });
      }
    }
    if (kept === 0) rmSync(this.path, { recursive: true, force: true });
  }

  /** Whether anything is left to read after `release`. */
  get exists(): boolean {
    return existsSync(this.path);
  }

  #nodeDirs(): string[] {
    return Array.from({ length: this.#state.nodes }, (_, index) => this.nodeDir(index));
  }

  get #lockFile(): string {
    return path.join(this.path, 'demo.lock');
  }

  #writeState(): void {
    writeFileSync(path.join(this.path, 'demo.json'), `${JSON.stringify(this.#state)}\n`);
  }

  #lock(): void {
    const holder = readNumber(this.#lockFile);
    if (holder !== undefined && holder !== process.pid && isDemo(holder)) throw this.#inUse(holder);
    rmSync(this.#lockFile, { force: true });
    try {
      writeFileSync(this.#lockFile, `${process.pid}\n`, { flag: 'wx' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw this.#inUse(undefined);
      throw error;
    }
  }

  /** The servers of a demo that was killed end by themselves, a moment later. */
  async #waitForOrphans(): Promise<void> {
    let left = this.#serverPids();
    await until(
      'the servers of the demo that ran here before have ended',
      async () => (left = this.#serverPids()).length === 0,
      { deadlineMs: ORPHANS_END_MS, found: () => `Still running: ${left.join(', ')}.` },
    );
  }

  #inUse(holder: number | undefined): BdrError {
    return new BdrError('usage', {
      message: `a demo is running in ${this.path}${holder === undefined ? '' : `, process ${holder}`}`,
      hint: 'End it first, or choose another directory.',
    });
  }

  #serverPids(): number[] {
    const pids: number[] = [];
    for (const nodeDir of this.#nodeDirs()) {
      const data = path.join(nodeDir, 'data');
      const pid = readNumber(path.join(data, 'postmaster.pid'));
      if (pid !== undefined && isAlive(pid) && commandOf(pid).includes(data)) pids.push(pid);
    }
    return pids;
  }
}

/** The first number of a file, or undefined when there is no such file. */
function readNumber(file: string): number | undefined {
  const number = Number.parseInt(readIfThere(file) ?? '', 10);
  return number > 0 ? number : undefined;
}

/** The number may have gone to another process since. */
function isDemo(pid: number): boolean {
  return isAlive(pid) && /\bdemo\b/.test(commandOf(pid));
}

function readState(dir: string): DemoState | undefined {
  const file = path.join(dir, 'demo.json');
  if (!existsSync(file)) return undefined;
  const value = JSON.parse(readFileSync(file, 'utf8')) as DemoState;
  if (Number.isInteger(value.nodes) && Number.isInteger(value.major) && Array.isArray(value.ports))
    return value;
  throw new BdrError('usage', { message: `${file} is not a demo's` });
}

function refuseOther(dir: string, found: DemoState, request: DirectoryRequest): void {
  const differ = (what: string, there: string, flag: string) =>
    new BdrError('usage', {
      message: `the demo in ${dir} ${what}`,
      hint: `Leave out ${flag} or say ${flag} ${there}; or choose another directory.`,
    });
  if (request.nodes !== undefined && request.nodes !== found.nodes)
    throw differ(`has ${found.nodes} nodes, not ${request.nodes}`, `${found.nodes}`, '--nodes');
  if (request.major !== undefined && request.major !== found.major)
    throw differ(`is of PostgreSQL ${found.major}, not ${request.major}`, `${found.major}`, '--pg');
  const [first] = found.ports;
  if (request.port === undefined || first === undefined || request.port === first) return;
  // The group's members know each other by these ports.
  throw differ(`uses the ports ${found.ports.join(', ')}`, `${first}`, '--port');
}

/** As root what is made on the way must be open to the user that the servers run as. */
function makeDirectory(dir: string): void {
  const firstMade = mkdirSync(dir, { recursive: true });
  if (process.getuid?.() !== 0) return;
  if (firstMade !== undefined) {
    for (let made = dir; made !== firstMade; made = path.dirname(made)) chmodSync(made, 0o755);
    chmodSync(firstMade, 0o755);
  } else if (readdirSync(dir).length === 0) chmodSync(dir, 0o755);
}
