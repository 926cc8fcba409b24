import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { EmbeddedServer } from '../src/embedded/server.ts';
import { BenchDatabase } from './database.ts';
import { EXTENSION_DIR } from './paths.ts';

export interface BenchServersOptions {
  /** Whether the server's apply worker writes its log of conflicts. */
  readonly workerLog: boolean;
  /** Leave the directory with data and logs. */
  readonly keep: boolean;
  readonly signal: AbortSignal;
}

/**
 * What both systems get. Nothing may begin by itself in the middle of a run: no autovacuum, no checkpoint by time or size (the
 * bench asks for both between the runs). The disk is not what is compared.
 */
const SETTINGS = {
  fsync: false,
  shared_buffers: '512MB',
  max_wal_size: '32GB',
  checkpoint_timeout: '1h',
  autovacuum: false,
  // Workers for subscriptions, tablesync and parallel apply.
  max_worker_processes: 24,
  max_logical_replication_workers: 12,
  // A worker whose start was refused tries again after this; the default is 5 s.
  wal_retrieve_retry_interval: '100ms',
};

/** Two servers of PostgreSQL 18, A and B, in a temporary directory. */
export class BenchServers implements AsyncDisposable {
  readonly dir: string;
  readonly #keep: boolean;
  readonly #signal: AbortSignal;
  readonly #servers: EmbeddedServer[] = [];

  static async start(options: BenchServersOptions): Promise<BenchServers> {
    const servers = new BenchServers(options);
    try {
      for (const name of ['a', 'b']) await servers.#startOne(name, options.workerLog);
      return servers;
    } catch (error) {
      await servers[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor({ keep, signal }: BenchServersOptions) {
    this.#keep = keep;
    this.#signal = signal;
    this.dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-bench-'));
    chmodSync(this.dir, 0o755); // the servers may have to run as another user
  }

  get version(): string {
    return this.#server(0).version;
  }

  /** A database on server A, not made yet. */
  onA(name: string): BenchDatabase {
    return new BenchDatabase(this.#server(0), name, this.#signal);
  }

  onB(name: string): BenchDatabase {
    return new BenchDatabase(this.#server(1), name, this.#signal);
  }

  /** Writes out what earlier work has left in memory. */
  async checkpoint(): Promise<void> {
    await Promise.all(
      [this.onA('postgres'), this.onB('postgres')].map(async (database) => {
        await using session = await database.connect();
        await session.script('CHECKPOINT');
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#servers.map((server) => server.stop({ deadlineMs: 10_000 })));
    if (!this.#keep) rmSync(this.dir, { recursive: true, force: true });
  }

  #server(index: number): EmbeddedServer {
    const server = this.#servers[index];
    if (!server) throw new Error('the servers are not running');
    return server;
  }

  async #startOne(name: string, workerLog: boolean): Promise<void> {
    this.#signal.throwIfAborted();
    const dir = path.join(this.dir, name);
    mkdirSync(dir);
    const server = await EmbeddedServer.create({
      dir,
      major: 18,
      extensionDir: EXTENSION_DIR,
      noSync: true,
      settings: SETTINGS,
    });
    this.#servers.push(server);
    await server.start();
    // Only now: from the log of its start the server's launcher reads what went wrong.
    if (!workerLog) await silence(new BenchDatabase(server, 'postgres', this.#signal));
  }
}

async function silence(database: BenchDatabase): Promise<void> {
  await using session = await database.connect();
  await session.script(`ALTER SYSTEM SET log_min_messages = 'fatal'`);
  await session.script('SELECT pg_reload_conf()');
}
