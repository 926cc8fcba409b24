import path from 'node:path';
import { BdrError } from '../base/errors.ts';
import { readTail } from '../embedded/postmaster.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { agentLockHolder } from '../postgres/advisory.ts';
import { resolveConninfo } from '../postgres/conninfo.ts';
import { Session } from '../postgres/session.ts';
import { AgentProcess } from './agent-process.ts';
import { until } from './until.ts';

// A demo's servers take nothing from outside: PGSSLMODE or PGOPTIONS of the user are for other servers.
const NO_ENVIRONMENT = { env: {}, homeDir: '', userName: '' };

export interface ConnectOptions {
  readonly signal?: AbortSignal | undefined;
  readonly settings?: Readonly<Record<string, string>>;
}

/** One server of a demo, with its agent. */
export class DemoNode {
  readonly name: string;
  readonly server: EmbeddedServer;
  /** The one that applications use. */
  readonly database: string;
  readonly #agentEnv: Readonly<Record<string, string | undefined>>;
  #agent: AgentProcess | undefined;

  constructor(
    name: string,
    server: EmbeddedServer,
    database: string,
    env: Readonly<Record<string, string | undefined>>,
  ) {
    this.name = name;
    this.server = server;
    this.database = database;
    this.#agentEnv = Object.fromEntries(
      Object.entries(env).filter(([variable]) => !/^PG[A-Z]+$/.test(variable)),
    );
  }

  get dsn(): string {
    return this.server.dsn(this.database);
  }

  get agentLogPath(): string {
    return path.join(this.server.dir, 'agent.log');
  }

  get agent(): AgentProcess | undefined {
    return this.#agent;
  }

  async connect(database = this.database, options: ConnectOptions = {}): Promise<Session> {
    const { signal, settings } = options;
    return Session.connect(resolveConninfo(this.server.dsn(database), NO_ENVIRONMENT), {
      applicationName: 'bdr demo',
      ...(signal && { signal }),
      ...(settings && { settings }),
    });
  }

  /** Runs one statement in a session of its own, in the node's database. */
  async query<Row extends object>(
    sql: string,
    params: readonly string[] = [],
    options: ConnectOptions = {},
  ): Promise<Row[]> {
    await using session = await this.connect(this.database, options);
    return await session.query<Row>(sql, params);
  }

  /** Starts the agent and returns when it serves the server. */
  async startAgent(signal?: AbortSignal): Promise<void> {
    const agent = new AgentProcess(this.server.dsn(), this.agentLogPath, this.#agentEnv);
    this.#agent = agent;
    await using session = await this.connect('postgres', { signal });
    await until(
      `the agent of ${this.name} takes up its work`,
      async () => {
        if (agent.end !== undefined) throw this.#agentFailed(agent.end);
        return await agentLockHolder(session);
      },
      { signal, found: () => this.#agentLogTail() },
    );
  }

  #agentFailed(end: string): BdrError {
    return new BdrError('server_not_ready', {
      message: `the agent of ${this.name} ended at its start (${end})`,
      detail: this.#agentLogTail(),
      hint: `Its log is ${this.agentLogPath}.`,
    });
  }

  #agentLogTail(): string {
    return readTail(this.agentLogPath, 0, 5);
  }
}
