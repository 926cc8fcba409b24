import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { AgentProcess } from '../../src/demo/agent-process.ts';
import { readTail } from '../../src/embedded/postmaster.ts';
import { EmbeddedServer } from '../../src/embedded/server.ts';
import { resolveConninfo } from '../../src/postgres/conninfo.ts';
import { Session, type Param } from '../../src/postgres/session.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { BDR_PROGRAM, EXTENSION_DIR } from './paths.ts';

const DATABASE = 'app';
// These servers and agents take nothing from outside: PGSSLMODE or PGOPTIONS of the user are for other servers.
const NO_ENVIRONMENT = { env: {}, homeDir: '', userName: '' };

const SETTINGS = {
  fsync: true,
  shared_buffers: '32MB',
  // In the data directory: a crashed server that nobody restarts must not fill /dev/shm.
  dynamic_shared_memory_type: process.platform === 'win32' ? 'windows' : 'mmap',
  // The least: transactions are streamed, and spooled by the agents, that need not be large for it.
  logical_decoding_work_mem: '64kB',
  // The least, too: crashes come before, in and after checkpoints.
  checkpoint_timeout: '30s',
  // Long: what is applied without waiting for the disk is on it late, and a crash takes it back.
  wal_writer_delay: '2s',
};

export interface ConnectOptions {
  readonly settings?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** One node of the group: a server, its agent, and the proxy through which its peers come. */
export class ChaosNode implements AsyncDisposable {
  readonly index: number;
  readonly name: string;
  readonly server: EmbeddedServer;
  readonly proxy: FaultProxy;
  readonly #agentEnv: Readonly<Record<string, string | undefined>>;
  #agent: AgentProcess | undefined;
  /** Its clients begin no transaction. */
  isQuiet = false;
  /** What agents have done that no agent may do. */
  readonly agentFaults: string[] = [];

  /** `agentEnv` is all that the agent sees of the environment. */
  static async start(
    dir: string,
    index: number,
    agentEnv: Readonly<Record<string, string | undefined>>,
  ): Promise<ChaosNode> {
    const name = `node${index + 1}`;
    const nodeDir = path.join(dir, name);
    mkdirSync(nodeDir);
    const server = await EmbeddedServer.create({
      dir: nodeDir,
      major: 18,
      extensionDir: EXTENSION_DIR,
      noSync: true, // initdb alone
      settings: SETTINGS,
    });
    await server.start();
    const proxy = await FaultProxy.before(server.port);
    return new ChaosNode(index, name, server, proxy, agentEnv);
  }

  private constructor(
    index: number,
    name: string,
    server: EmbeddedServer,
    proxy: FaultProxy,
    agentEnv: Readonly<Record<string, string | undefined>>,
  ) {
    this.index = index;
    this.name = name;
    this.server = server;
    this.proxy = proxy;
    this.#agentEnv = agentEnv;
  }

  /** For the node itself and its clients. */
  get dsn(): string {
    return this.server.dsn(DATABASE);
  }

  /** For the peers, by way of the proxy. */
  get dsnForPeers(): string {
    return this.dsn.replace(/port=\d+/, `port=${this.proxy.port}`);
  }

  get agentLogPath(): string {
    return path.join(this.server.dir, 'agent.log');
  }

  get agentPid(): number | undefined {
    return this.#agent?.end === undefined ? this.#agent?.pid : undefined;
  }

  async makeDatabase(): Promise<void> {
    await using session = await Session.connect(
      resolveConninfo(this.server.dsn(), NO_ENVIRONMENT),
      { applicationName: 'chaos' },
    );
    await session.script(`CREATE DATABASE ${DATABASE}`);
    await this.query(`CREATE EXTENSION bdr`);
  }

  async connect({ settings, signal }: ConnectOptions = {}): Promise<Session> {
    const session = await Session.connect(resolveConninfo(this.dsn, NO_ENVIRONMENT), {
      applicationName: 'chaos',
      ...(settings && { settings }),
      ...(signal && { signal }),
    });
    if (signal) session.abortOn(signal);
    return session;
  }

  /** Runs one statement in a session of its own. */
  async query<Row extends object>(
    sql: string,
    params: readonly Param[] = [],
    options: ConnectOptions = {},
  ): Promise<Row[]> {
    await using session = await this.connect(options);
    return await session.query<Row>(sql, params);
  }

  /** Starts an agent; it need not find its server at once. */
  startAgent(): void {
    if (this.agentPid !== undefined) return;
    this.#agent = new AgentProcess(
      this.server.dsn(),
      this.agentLogPath,
      this.#agentEnv,
      BDR_PROGRAM,
    );
  }

  async killAgent(): Promise<void> {
    this.watchAgent();
    const agent = this.#agent;
    this.#agent = undefined;
    await agent?.kill();
  }

  /** Notes it if the agent has ended without being killed, and starts another, as a service manager would. */
  watchAgent(): void {
    if (this.#agent?.end === undefined) return;
    this.agentFaults.push(
      `the agent of ${this.name} ended by itself (${this.#agent.end}):\n${readTail(this.agentLogPath, 0, 10)}`,
    );
    this.#agent = undefined;
    this.startAgent();
  }

  /** What the agents' log says of faults in the program. */
  programFaults(): string[] {
    return readFileSync(this.agentLogPath, 'utf8')
      .split('\n')
      .filter((line) =>
        /a fault in the program|thread of the link has ended|on garbage collection/.test(line),
      )
      .map((line) => `the log of the agent of ${this.name} has: ${line}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const pid = this.agentPid;
    if (pid !== undefined) process.kill(pid, 'SIGCONT'); // one that is stopped hears nothing else
    await this.#agent?.stop();
    await this.server.stop({ deadlineMs: 10_000 });
    await this.proxy[Symbol.asyncDispose]();
  }
}
