import { AsyncLocalStorage } from 'node:async_hooks';
import { spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { expect } from 'vitest';
import type { EmbeddedServer } from '../../src/embedded/server.ts';
import { startServer } from './servers.ts';
import {
  FIRST_MARK,
  HAS_LOOKED_BELOW,
  HAS_NOTHING_LEFT,
  HAS_READ_OWN_LOG,
  STIR,
} from './settled.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** What is committed without waiting for the disk is on it at once: most tests wait for that again and again, and lose nothing by it. */
const QUICK = { wal_writer_delay: '10ms' };
/** PostgreSQL's own, for tests in which a server crashes: what it had not written is lost, and is to be more than nothing. */
export const LOSES_WHAT_IS_RECENT = { wal_writer_delay: '200ms' };

type HostOptions = NonNullable<Parameters<typeof startServer>[0]> & {
  /** Definitions that a test changes are replicated. Most tests are about rows: what they change they change on each node. */
  readonly replicatesDdl?: boolean;
};

/** A PostgreSQL server with an agent beside it, run as a user runs it: the built command line, a process of its own. */
export class Host implements AsyncDisposable {
  readonly server: EmbeddedServer;
  readonly options: HostOptions;
  agentLog = '';
  #agent: ChildProcess | undefined;

  private constructor(server: EmbeddedServer, options: HostOptions) {
    this.server = server;
    this.options = options;
  }

  static async start(options: HostOptions = {}): Promise<Host> {
    const server = await startServer({
      extensionDir: `${ROOT}dist/extension`,
      ...options,
      settings: { ...QUICK, ...options.settings },
    });
    const host = new Host(server, options);
    host.startAgent();
    return host;
  }

  get agentPid(): number | undefined {
    return this.#agent?.pid;
  }

  /** `env` is added to what this process has. */
  startAgent(dsn = this.server.dsn(), env: Readonly<Record<string, string>> = {}): void {
    const child = spawn(
      process.execPath,
      [`${ROOT}bin/bdr.js`, 'agent', '--dsn', dsn, '--with-parent'],
      {
        // A pipe that ends with this process: an agent does not outlive a test run that is killed.
        stdio: ['pipe', 'pipe', 'pipe'],
        env: { ...process.env, ...env },
      },
    );
    const keep = (chunk: Buffer) => {
      this.agentLog += chunk.toString();
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    this.#agent = child;
  }

  /** As a crash of the process: no word to the server. Resolves when it is gone. */
  async killAgent(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async stopAgent(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#agent;
    this.#agent = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopAgent();
    await this.server[Symbol.asyncDispose]();
  }
}

/** One node: a database on a host. */
export class TestNode {
  readonly name: string;
  readonly host: Host;
  readonly database: string;

  constructor(name: string, host: Host, database: string) {
    this.name = name;
    this.host = host;
    this.database = database;
  }

  get dsn(): string {
    return this.host.server.dsn(this.database);
  }

  /** A client of its own; use with `await using`. */
  async connect(user = 'postgres'): Promise<TestClient> {
    const { server, options } = this.host;
    const client = new pg.Client({
      host: '127.0.0.1',
      port: server.port,
      user,
      database: this.database,
      ...(options.password === undefined ? {} : { password: options.password }),
      // Which server answers is not what these clients test.
      ...(options.tls ? { ssl: { rejectUnauthorized: false } } : {}),
    });
    // A server that is crashed on purpose ends its clients too.
    client.on('error', () => undefined);
    await client.connect();
    return new TestClient(client);
  }

  /** Runs statements on a connection of their own, in `until` on one for all looks; returns the rows of the last as arrays. */
  async sql(text: string, values: unknown[] = []): Promise<unknown[][]> {
    const look = LOOK.getStore();
    if (look) return look.sql(this, text, values);
    await using client = await this.connect();
    return await client.sql(text, values);
  }

  /** As `sql`, logged in as another role: in a session of a superuser that role's code could climb back. */
  async sqlAs(user: string, text: string): Promise<unknown[][]> {
    await using client = await this.connect(user);
    return await client.sql(text);
  }

  async create(): Promise<void> {
    await this.sql('SELECT bdr.bdr_group_create(local_node_name := $1, node_external_dsn := $2)', [
      this.name,
      this.dsn,
    ]);
    await this.ready();
  }

  async join(via: TestNode): Promise<void> {
    await this.beginJoin(via);
    await this.ready();
  }

  async beginJoin(via: TestNode): Promise<void> {
    await this.sql(
      'SELECT bdr.bdr_group_join(local_node_name := $1, node_external_dsn := $2, join_using_dsn := $3)',
      [this.name, this.dsn, via.dsn],
    );
  }

  async ready(): Promise<void> {
    await this.sql(
      `SET statement_timeout = '180s'; SELECT bdr.bdr_node_join_wait_for_ready()`,
    ).catch((error: unknown) => {
      throw new Error(
        `${this.name} is not ready: ${String(error)}\n${this.host.agentLog.slice(-3000)}`,
        { cause: error },
      );
    });
  }

  /** The end of the node's log. */
  async logEnd(): Promise<string> {
    const [row] = await this.sql('SELECT pg_current_wal_insert_lsn()::text');
    return String(row?.[0]);
  }

  /** Returns when the node's own stream has passed a position: what its users deleted until then is remembered. */
  async ownLogRead(upTo: string): Promise<void> {
    await this.#done(`${this.name} to have read its own log up to ${upTo}`, HAS_READ_OWN_LOG, [
      upTo,
    ]);
  }

  /** Returns when the node has looked after all deletions of others that are remembered here. */
  async lookedBelow(): Promise<void> {
    const what = `${this.name} to have looked below the deletions of others`;
    await this.#done(what, HAS_LOOKED_BELOW, [], STIR);
  }

  /**
   * Returns when the node has read again all long values that it may have lost, and told all of rows that lost their value in a unique
   * index: a mark that is another one when it has had more to tell.
   */
  async nothingLeft(): Promise<string> {
    const what = `${this.name} to have nothing left to read again or to tell`;
    return String(await this.#done(what, HAS_NOTHING_LEFT));
  }

  /** Asks until the first column is true; returns the second. `meanwhile` is run after each no. */
  async #done(
    what: string,
    question: string,
    values: unknown[] = [],
    meanwhile?: string,
  ): Promise<unknown> {
    let second: unknown;
    await until(what, async () => {
      const [row] = await this.sql(question, values);
      second = row?.[1];
      if (row?.[0] === true) return true;
      if (meanwhile !== undefined) await this.sql(meanwhile);
      return false;
    });
    return second;
  }

  /** Returns when all that was committed here is applied everywhere. */
  async applied(timeout = '180s'): Promise<void> {
    await this.sql(`SELECT bdr.bdr_wait_for_apply('${timeout}')`);
  }
}

export class TestClient implements AsyncDisposable {
  readonly client: pg.Client;
  readonly notices: string[] = [];
  #isOpen = true;

  constructor(client: pg.Client) {
    this.client = client;
    client.on('end', () => {
      this.#isOpen = false;
    });
    client.on('notice', (notice) =>
      this.notices.push(`${notice.severity ?? ''}: ${notice.message ?? ''}`),
    );
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  async sql(text: string, values: unknown[] = []): Promise<unknown[][]> {
    const result = await this.client.query<unknown[]>({
      text,
      ...(values.length > 0 ? { values } : {}),
      rowMode: 'array',
    });
    const last = Array.isArray(result) ? (result.at(-1) as { rows: unknown[][] }) : result;
    return last.rows;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.end().catch(() => undefined);
  }
}

/** A database with extension bdr in it, which is no node yet. */
async function makeNode(name: string, host: Host, database: string): Promise<TestNode> {
  const maintenance = new TestNode('postgres', host, 'postgres');
  await maintenance.sql(`CREATE DATABASE ${database}`);
  const node = new TestNode(name, host, database);
  await node.sql('CREATE EXTENSION bdr');
  if (!host.options.replicatesDdl) {
    await maintenance.sql(`ALTER DATABASE ${database} SET bdr.skip_ddl_replication = on`);
  }
  return node;
}

/** Hosts and nodes of one test. */
export class Cluster implements AsyncDisposable {
  readonly hosts: Host[] = [];
  readonly nodes: TestNode[] = [];
  /** As nothingLeft(), when nodes were settled last. */
  readonly #marks = new Map<TestNode, string>();

  /** `nodes` servers with an agent each; database `app` with extension bdr in each; no group yet. Servers are numbered from 1. */
  static async bare(
    nodes: number,
    options: HostOptions | ((server: number) => HostOptions) = {},
  ): Promise<Cluster> {
    const cluster = new Cluster();
    try {
      const starts = await Promise.allSettled(
        Array.from({ length: nodes }, (_, at) =>
          Host.start(typeof options === 'function' ? options(at + 1) : options),
        ),
      );
      for (const start of starts) if (start.status === 'fulfilled') cluster.hosts.push(start.value);
      for (const start of starts) if (start.status === 'rejected') throw start.reason;
      cluster.nodes.push(
        ...(await Promise.all(
          cluster.hosts.map((host, at) => makeNode(`node${at + 1}`, host, 'app')),
        )),
      );
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** A group of `nodes` servers; `schema` is run on the first node before the others join. */
  static async start(
    nodes: number,
    schema = '',
    options: Parameters<typeof Cluster.bare>[1] = {},
  ): Promise<Cluster> {
    const cluster = await Cluster.bare(nodes, options);
    try {
      const [first, ...others] = cluster.nodes as [TestNode, ...TestNode[]];
      if (schema !== '') await first.sql(schema);
      await first.create();
      for (const node of others) await node.join(first);
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  node(number: number): TestNode {
    const node = this.nodes[number - 1];
    if (!node) throw new Error(`no node ${number}`);
    return node;
  }

  async addNode(name: string, host: Host, database: string): Promise<TestNode> {
    const node = await makeNode(name, host, database);
    this.nodes.push(node);
    return node;
  }

  /** Returns when every node has applied all that any has committed, has read it in its own log, and has done what that asks for. */
  async settled(nodes: readonly TestNode[] = this.nodes): Promise<void> {
    // What is told of lost rows is a write of its own, which the others have to apply.
    while (await this.#settledOnce(nodes)) await pause(20);
  }

  /** Returns whether a node has told something since it was settled last. */
  async #settledOnce(nodes: readonly TestNode[]): Promise<boolean> {
    const ends = await Promise.all(nodes.map((node) => node.logEnd()));
    // One after the other: what a node writes because of what it applies counts as well.
    for (const node of nodes) {
      await node.applied().catch((error: unknown) => {
        // Who waits is seldom who is at fault.
        const logs = this.hosts.map(
          (host, at) => `agent ${at + 1}:\n${host.agentLog.slice(-3000)}`,
        );
        throw new Error(`${node.name}: ${String(error)}\n${logs.join('\n')}`, { cause: error });
      });
    }
    await Promise.all(nodes.map((node, index) => node.ownLogRead(ends[index] ?? '0/0')));
    await Promise.all(nodes.map((node) => node.lookedBelow()));
    let isNew = false;
    const marks = await Promise.all(
      nodes.map(async (node) => [node, await node.nothingLeft()] as const),
    );
    for (const [node, mark] of marks) {
      isNew ||= mark !== (this.#marks.get(node) ?? FIRST_MARK);
      this.#marks.set(node, mark);
    }
    return isNew;
  }

  /** Settles, then compares a table on all nodes row by row. Returns its rows as text. */
  async equal(table: string, nodes: readonly TestNode[] = this.nodes): Promise<string[]> {
    await this.settled(nodes);
    return this.same(table, nodes);
  }

  /** Compares a table on all nodes row by row, as it is now. Returns its rows as text. */
  async same(table: string, nodes: readonly TestNode[] = this.nodes): Promise<string[]> {
    const contents = await Promise.all(
      nodes.map(async (node) =>
        (await node.sql(`SELECT (t.*)::text FROM ${table} AS t ORDER BY (t.*)::text`)).map((row) =>
          String(row[0]),
        ),
      ),
    );
    for (const [index, rows] of contents.entries()) {
      expect(rows, `${table} on ${nodes[index]?.name} and ${nodes[0]?.name}`).toEqual(contents[0]);
    }
    return contents[0] ?? [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.hosts.map((host) => host[Symbol.asyncDispose]()));
  }
}

/** Runs writes that no node sees of another: apply is paused on all of them meanwhile. */
export async function concurrently(
  nodes: readonly TestNode[],
  write: () => Promise<void>,
): Promise<void> {
  for (const node of nodes) await node.sql('SELECT bdr.bdr_apply_pause()');
  try {
    await write();
  } finally {
    for (const node of nodes) await node.sql('SELECT bdr.bdr_apply_resume()');
  }
}

/** The connections of one `until`: new ones for each look would cost more than most of what is waited for. */
class Look implements AsyncDisposable {
  readonly #clients = new Map<TestNode, TestClient>();
  readonly #asked = new Map<TestNode, Promise<unknown>>();

  /** On each node one after the other, as they are asked for. */
  sql(node: TestNode, text: string, values: unknown[]): Promise<unknown[][]> {
    const before = this.#asked.get(node) ?? Promise.resolve();
    const asked = before.then(() => this.#ask(node, text, values));
    this.#asked.set(
      node,
      asked.catch(() => undefined),
    );
    return asked;
  }

  async #ask(node: TestNode, text: string, values: unknown[]): Promise<unknown[][]> {
    const known = this.#clients.get(node);
    const client = known?.isOpen ? known : await node.connect();
    this.#clients.set(node, client);
    try {
      return await client.sql(text, values);
    } catch (error) {
      // A transaction may be open, and the server may be gone.
      this.#clients.delete(node);
      await client[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#asked.values());
    await Promise.all([...this.#clients.values()].map((client) => client[Symbol.asyncDispose]()));
  }
}

const LOOK = new AsyncLocalStorage<Look>();

/** Polls a fact; fails with `what` after a deadline. */
export async function until(
  what: string,
  fact: () => Promise<boolean>,
  deadlineMs = 180_000,
): Promise<void> {
  await using look = new Look();
  const end = performance.now() + deadlineMs;
  await LOOK.run(look, async () => {
    while (!(await fact())) {
      if (performance.now() > end) throw new Error(`waited ${deadlineMs} ms for ${what}`);
      await pause(20);
    }
  });
}
