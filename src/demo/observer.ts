import type { DemoNode } from './demo-node.ts';
import { NodeObserver } from './node-observer.ts';

export interface NodeView {
  readonly name: string;
  readonly serverRuns: boolean;
  /** How the demo's own agent ended; undefined while it runs. */
  readonly agentEnd: string | undefined;
  readonly agentLogPath: string;
  /** Whether an agent serves the server, be it the demo's or one that somebody started by hand. */
  readonly served: boolean;
}

/** One link as both of its ends show it. */
export interface LinkView {
  readonly provider: string;
  readonly subscriber: string;
  /** `no agent`, `no server` or one of bdr.bdr_links. */
  readonly status: string;
  readonly error: string | null;
  /** How long a commit took lately until it was durable here; null when there was none. */
  readonly lagMs: number | null;
  /** WAL of the provider that is not confirmed yet. */
  readonly behindBytes: number | null;
  readonly transactions: number;
  readonly rows: number;
  readonly conflicts: number;
}

export interface DemoView {
  readonly nodes: readonly NodeView[];
  readonly links: readonly LinkView[];
}

/** Looks at all nodes of a demo, as often as it is asked. */
export class Observer {
  readonly #observers: readonly { readonly node: DemoNode; readonly observer: NodeObserver }[];

  constructor(nodes: readonly DemoNode[]) {
    this.#observers = nodes.map((node) => ({ node, observer: new NodeObserver(node) }));
  }

  async look(): Promise<DemoView> {
    const sights = await Promise.all(
      this.#observers.map(async ({ node, observer }) => ({ node, sight: await observer.look() })),
    );
    const outgoing = sights.flatMap(({ sight }) => sight.outgoing);
    const links = sights.flatMap(({ sight }) =>
      sight.incoming.map((link): LinkView => {
        const slot = outgoing.find(
          ({ provider, subscriber }) =>
            provider === link.provider && subscriber === link.subscriber,
        );
        return {
          ...link,
          // Nobody writes the status of a link whose agent is gone.
          status: sight.served ? link.status : 'no agent',
          error: sight.served ? link.error : null,
          lagMs: numberOrNull(slot?.lag),
          behindBytes: numberOrNull(slot?.behind),
          transactions: Number(link.transactions),
          rows: Number(link.rows),
          conflicts: Number(link.conflicts),
        };
      }),
    );
    links.sort((a, b) => order(a.subscriber, b.subscriber) || order(a.provider, b.provider));
    const nodes = sights.map(({ node, sight }) => ({
      name: node.name,
      serverRuns: sight.serverRuns,
      agentEnd: node.agent?.end,
      agentLogPath: node.agentLogPath,
      served: sight.served,
    }));
    return { nodes, links };
  }

  close(): void {
    for (const { observer } of this.#observers) observer.close();
  }
}

function numberOrNull(text: string | null | undefined): number | null {
  return text === null || text === undefined ? null : Number(text);
}

function order(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
