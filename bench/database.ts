import type { EmbeddedServer } from '../src/embedded/server.ts';
import { resolveConninfo } from '../src/postgres/conninfo.ts';
import { Session, type Param } from '../src/postgres/session.ts';

// These servers take nothing from outside: PGSSLMODE or PGOPTIONS of the user are for other servers.
const NO_ENVIRONMENT = { env: {}, homeDir: '', userName: '' };

/** One database of one of the bench's servers, with a session for what is asked now and then. */
export class BenchDatabase {
  readonly server: EmbeddedServer;
  readonly name: string;
  readonly #signal: AbortSignal;
  #session: Promise<Session> | undefined;

  constructor(server: EmbeddedServer, name: string, signal: AbortSignal) {
    this.server = server;
    this.name = name;
    this.#signal = signal;
  }

  get dsn(): string {
    return this.server.dsn(this.name);
  }

  /** Another database of the same server. */
  sibling(name: string): BenchDatabase {
    return new BenchDatabase(this.server, name, this.#signal);
  }

  /** A session of its own, for `await using`. It breaks when the bench is given up. */
  async connect(settings: Readonly<Record<string, string>> = {}): Promise<Session> {
    const session = await Session.connect(resolveConninfo(this.dsn, NO_ENVIRONMENT), {
      applicationName: 'bench',
      signal: this.#signal,
      settings,
    });
    session.abortOn(this.#signal);
    return session;
  }

  /** Runs one statement in the database's own session. */
  async query<Row extends object>(sql: string, params: readonly Param[] = []): Promise<Row[]> {
    this.#session ??= this.connect();
    return (await this.#session).query<Row>(sql, params);
  }

  /** Runs a statement that is prepared at its first use. */
  async ask<Row extends object>(
    name: string,
    sql: string,
    params: readonly Param[],
  ): Promise<Row | undefined> {
    this.#session ??= this.connect();
    return (await (await this.#session).execute<Row>(name, sql, params)).rows[0];
  }

  /** Ends the database's own session. */
  async close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await (await session?.catch(() => undefined))?.close();
  }

  async create(): Promise<void> {
    await this.#maintain(`CREATE DATABASE ${this.name}`);
  }

  async drop(): Promise<void> {
    await this.close();
    await this.#maintain(`DROP DATABASE ${this.name} WITH (FORCE)`);
  }

  async #maintain(sql: string): Promise<void> {
    await using session = await this.sibling('postgres').connect();
    await session.script(sql);
  }
}
