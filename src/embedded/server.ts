import type { ChildProcess } from 'node:child_process';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { BdrError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { pause } from '../base/wait.ts';
import { serverAccount } from './account.ts';
import type { Account } from './account.ts';
import { DEFAULT_MAJOR, findBinaries, programPath } from './binaries.ts';
import type { Binaries } from './binaries.ts';
import { reachableBinaries } from './binary-cache.ts';
import { formatConninfo, readNumber } from './conf.ts';
import { existingMajor, initData, prepareDirectory, serverFiles } from './data-directory.ts';
import type { ServerFiles } from './data-directory.ts';
import { freePort } from './ports.ts';
import { launch, readTail } from './postmaster.ts';
import { killTree, signalProcess } from './processes.ts';
import { writeServerConfig } from './server-config.ts';
import type { ServerConfig } from './server-config.ts';
import { watch } from './watchdog.ts';

export interface ServerOptions extends ServerConfig {
  /** All of the server's files; made if it is not there. */
  readonly dir: string;
  /** Chosen where it is left out, and kept with the directory. */
  readonly port?: number | undefined;
  /** Of the role postgres. Where it is left out, every connection from this machine is trusted. */
  readonly password?: string | undefined;
  /** Remove the directory on dispose. */
  readonly temporary?: boolean | undefined;
  /** Variables that the server is started with, beside its own few. */
  readonly environment?: Readonly<Record<string, string>> | undefined;
  readonly log?: Logger | undefined;
}

export interface CreateOptions extends ServerOptions {
  readonly major?: number | undefined;
  /** Programs from elsewhere than node_modules. */
  readonly binaries?: Binaries | undefined;
  /** Do not wait for the disk when the data directory is made. */
  readonly noSync?: boolean | undefined;
}

const START_MS = 60_000;
const STOP_MS = 30_000;

/**
 * A real PostgreSQL server of our own: one directory, one port of the loopback, the role `postgres`. It ends with this
 * process. `create` and `open` make or find its files; `start` runs it.
 */
export class EmbeddedServer {
  readonly #binaries: Binaries;
  readonly #files: ServerFiles;
  readonly #account: Account | undefined;
  readonly #options: ServerOptions;
  #port: number;
  #portIsFixed: boolean;
  #child: ChildProcess | undefined;

  private constructor(
    binaries: Binaries,
    files: ServerFiles,
    account: Account | undefined,
    options: ServerOptions,
    port: { readonly number: number; readonly isFixed: boolean },
  ) {
    this.#binaries = binaries;
    this.#files = files;
    this.#account = account;
    this.#options = options;
    this.#port = port.number;
    this.#portIsFixed = port.isFixed;
  }

  /** Makes a server's directory; one that holds data already is opened, if it is of the same major version. */
  static async create(options: CreateOptions): Promise<EmbeddedServer> {
    const files = serverFiles(options.dir);
    const found = existingMajor(files);
    const major = options.binaries?.major ?? options.major ?? found ?? DEFAULT_MAJOR;
    if (found !== undefined && found !== major) {
      throw new BdrError('version_mismatch', {
        message: `the data in ${files.data} is of PostgreSQL ${found}, not ${major}`,
        hint: 'Choose another directory, or remove this one if nothing in it is needed.',
      });
    }
    const account = serverAccount();
    const installed = options.binaries ?? findBinaries(major);
    prepareDirectory(files, account);
    const binaries = await reachableBinaries(installed, account);
    if (found === undefined) {
      const { password, noSync = false } = options;
      await initData(binaries, files, account, { password, noSync });
    }
    const stored = existsSync(files.settings)
      ? readNumber(readFileSync(files.settings, 'utf8'), 'port')
      : undefined;
    const fixed = options.port ?? stored;
    const port = { number: fixed ?? (await freePort()), isFixed: fixed !== undefined };
    return new EmbeddedServer(binaries, files, account, options, port);
  }

  /** Takes up a server that `create` made earlier, on the port that it had. */
  static async open(options: ServerOptions): Promise<EmbeddedServer> {
    const files = serverFiles(options.dir);
    if (existingMajor(files) === undefined) {
      throw new BdrError('usage', { message: `there is no PostgreSQL server in ${files.dir}` });
    }
    return EmbeddedServer.create(options);
  }

  /** Starts the server and returns when it takes connections; after a crash that is after recovery. */
  async start({ deadlineMs = START_MS }: { deadlineMs?: number } = {}): Promise<void> {
    if (this.running) return;
    const deadline = Date.now() + deadlineMs;
    for (;;) {
      writeServerConfig(this.#binaries, this.#files, this.#account, this.#options, this.#port);
      const result = await launch(
        this.#binaries,
        this.#files,
        this.#account,
        this.#options.environment ?? {},
        deadline - Date.now(),
      );
      if ('child' in result) {
        this.#adopt(result.child);
        return;
      }
      const { failure, logTail } = result;
      const timeLeft = Date.now() < deadline;
      if (failure === 'port' && !this.#portIsFixed && timeLeft) {
        this.#port = await freePort(); // somebody was quicker
      } else if (failure === 'memory' && timeLeft) {
        await pause(50); // processes of the crashed server are still ending
      } else {
        throw this.#startError(failure === 'port', logTail);
      }
    }
  }

  /** Ends the server in order: transactions roll back, standbys and subscribers get what is left of the WAL. */
  async stop({ deadlineMs = STOP_MS }: { deadlineMs?: number } = {}): Promise<void> {
    const child = this.#child;
    if (!child || !this.running) return;
    this.#signal('SIGINT');
    const deadline = Date.now() + deadlineMs;
    while (this.running) {
      if (Date.now() > deadline) {
        this.#options.log?.warn({ dir: this.#files.dir }, 'server does not stop, ending it');
        return this.crash();
      }
      await pause(5);
    }
  }

  /** Ends the server as a power cut would: postmaster and children at once. `start` then recovers. */
  async crash(): Promise<void> {
    const { pid } = this;
    if (pid === undefined) return;
    await killTree(pid, STOP_MS);
    while (this.running) await pause(1); // until Node has noticed
  }

  get running(): boolean {
    return this.#child !== undefined;
  }

  /** The postmaster's process, while the server runs. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get port(): number {
    return this.#port;
  }

  get dir(): string {
    return this.#files.dir;
  }

  get dataDir(): string {
    return this.#files.data;
  }

  get major(): number {
    return this.#binaries.major;
  }

  /** `18.4` */
  get version(): string {
    return this.#binaries.version;
  }

  get logPath(): string {
    return this.#files.log;
  }

  /** The last lines of the server's log. */
  logTail(lines = 50): string {
    return readTail(this.#files.log, 0, lines);
  }

  /** A libpq connection string to one of the server's databases, as its superuser. */
  dsn(database = 'postgres'): string {
    const { password } = this.#options;
    return formatConninfo({
      host: '127.0.0.1',
      port: this.#port,
      user: 'postgres',
      ...(password === undefined ? {} : { password }),
      dbname: database,
    });
  }

  /** Stops the server; a temporary one leaves nothing behind. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#options.temporary) return this.stop();
    await this.stop({ deadlineMs: 10_000 });
    rmSync(this.#files.dir, { recursive: true, force: true });
  }

  #adopt(child: ChildProcess): void {
    const { pid } = child;
    this.#child = child;
    this.#portIsFixed = true; // by now others may know it
    const dog = pid === undefined ? undefined : watch(pid, this.#account);
    child.once('exit', () => {
      dog?.kill('SIGKILL');
      this.#child = undefined;
    });
    if (child.exitCode !== null || child.signalCode !== null) {
      dog?.kill('SIGKILL');
      this.#child = undefined;
    }
    child.unref();
  }

  #startError(portInUse: boolean, logTail: string): BdrError {
    if (portInUse) {
      return new BdrError('usage', {
        message: `PostgreSQL cannot listen on port ${this.#port} of 127.0.0.1: the port is in use`,
        detail: logTail,
        hint: 'End the program that listens there, or choose another port.',
      });
    }
    return new BdrError('no_embedded_server', {
      message: `PostgreSQL ${this.version} did not start in ${this.#files.dir}`,
      detail: logTail,
      hint: `The whole log is in ${this.#files.log}.`,
    });
  }

  #signal(signal: 'SIGINT'): void {
    const { pid } = this;
    if (pid === undefined) return;
    if (process.platform !== 'win32') signalProcess(pid, signal);
    else {
      const program = programPath(this.#binaries, 'pg_ctl');
      execFileSync(program, ['kill', signal.slice(3), String(pid)], { stdio: 'ignore' });
    }
  }
}
