import { extensionDir } from '../config/paths.ts';
import { DEFAULT_MAJOR, findBinaries } from '../embedded/binaries.ts';
import { EmbeddedServer } from '../embedded/server.ts';
import { DemoDirectory, type DirectoryRequest } from './demo-directory.ts';
import { DemoNode } from './demo-node.ts';
import type { Steps } from './steps.ts';

export interface DemoRequest extends DirectoryRequest {
  /** The database that the nodes' connection strings name. */
  readonly database: string;
  readonly steps: Steps;
  readonly signal: AbortSignal;
  /** Of the agents. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

export const DEFAULT_NODES = 2;

/** Real servers with an agent each, in one directory. Whoever opens it must `stop` it, also when `start` fails. */
export class Demo {
  readonly directory: DemoDirectory;
  readonly nodes: DemoNode[] = [];
  readonly #request: DemoRequest;

  static async open(request: DemoRequest): Promise<Demo> {
    // Before a directory says that it is of this version.
    if (request.major !== undefined) findBinaries(request.major);
    const defaults = { nodes: DEFAULT_NODES, major: DEFAULT_MAJOR };
    return new Demo(await DemoDirectory.open(request, defaults), request);
  }

  private constructor(directory: DemoDirectory, request: DemoRequest) {
    this.directory = directory;
    this.#request = request;
  }

  /** Starts the servers, makes them before if they are not there, then the agents. */
  async start(): Promise<void> {
    const { steps, signal } = this.#request;
    const { nodes: count, major } = this.directory.state;
    await steps(`start ${count} servers of PostgreSQL ${major}`, async () => {
      const indexes = Array.from({ length: count }, (_, index) => index);
      await allDone(indexes.map((index) => this.#startServer(index)));
      this.nodes.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
      this.directory.keepPorts(this.nodes.map(({ server }) => server.port));
    });
    await steps(`start ${count} agents`, async () => {
      await allDone(this.nodes.map((node) => node.startAgent(signal)));
    });
  }

  /** Ends agents and servers and gives the directory up. */
  async stop(options: { keepLogs?: boolean } = {}): Promise<void> {
    await allDone(this.nodes.map(async (node) => node.agent?.stop()));
    await allDone(this.nodes.map((node) => node.server.stop({ deadlineMs: 10_000 })));
    this.directory.release(options);
  }

  async #startServer(index: number): Promise<void> {
    const { database, port, signal, env } = this.#request;
    const { temporary, state } = this.directory;
    const known = state.ports[index];
    signal.throwIfAborted();
    const server = await EmbeddedServer.create({
      dir: this.directory.nodeDir(index),
      major: state.major,
      port: known ?? (port === undefined ? undefined : port + index),
      extensionDir: extensionDir(),
      noSync: temporary,
      settings: temporary ? { fsync: false } : {},
    });
    signal.throwIfAborted();
    this.nodes.push(new DemoNode(`node${index + 1}`, server, database, env));
    await server.start();
  }
}

/** Waits for all, so that nothing goes on behind a failure; then throws the first one. */
async function allDone(tasks: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(tasks)) {
    if (result.status === 'rejected') throw result.reason;
  }
}
