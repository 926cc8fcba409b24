import { ChaosNode, type ConnectOptions } from './chaos-node.ts';
import { SCHEMA } from './tables.ts';

const READY_TIMEOUT = '180s';

export interface GroupRequest {
  /** For data and logs of all servers and agents. */
  readonly dir: string;
  readonly nodes: number;
  readonly agentEnv: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
}

/** Real servers with an agent each, which are one group, each reached by its peers through its proxy. */
export class ChaosGroup implements AsyncDisposable {
  readonly nodes: ChaosNode[] = [];

  static async start(request: GroupRequest): Promise<ChaosGroup> {
    const group = new ChaosGroup();
    try {
      for (let index = 0; index < request.nodes; index++) {
        request.signal.throwIfAborted();
        group.nodes.push(await ChaosNode.start(request.dir, index, request.agentEnv));
      }
      await group.#form(request.signal);
      return group;
    } catch (error) {
      await group[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #form(signal: AbortSignal): Promise<void> {
    const options: ConnectOptions = { signal, settings: { statement_timeout: READY_TIMEOUT } };
    const [first, ...others] = this.nodes;
    if (!first) return;
    for (const node of this.nodes) {
      node.startAgent();
      await node.makeDatabase();
    }
    await using session = await first.connect(options);
    await session.script(SCHEMA);
    await session.query(
      /* sql */ `
        SELECT bdr.bdr_group_create(
            local_node_name := $1, node_external_dsn := $2, node_local_dsn := $3
        )
      `,
      [first.name, first.dsnForPeers, first.dsn],
    );
    await waitForReady(first, options);
    for (const node of others) {
      await node.query(
        /* sql */ `
          SELECT bdr.bdr_group_join(
              local_node_name := $1, node_external_dsn := $2, join_using_dsn := $3, node_local_dsn := $4
          )
        `,
        [node.name, node.dsnForPeers, first.dsnForPeers, node.dsn],
        options,
      );
      await waitForReady(node, options);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }
}

async function waitForReady(node: ChaosNode, options: ConnectOptions): Promise<void> {
  await node.query('SELECT bdr.bdr_node_join_wait_for_ready()', [], options);
}
