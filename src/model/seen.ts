import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { nodeKey, type NodeId } from './node.ts';

/**
 * What the provider of a link has seen of each other node's writes, from its heartbeats: up to which commit time it had applied
 * them when the changes that follow the heartbeat were made.
 */
export class Seen {
  readonly #applied: ReadonlyMap<string, PgTime>;

  /** `applied`: as a heartbeat says it; nothing before the first. */
  constructor(applied: ReadonlyMap<string, PgTime> = new Map()) {
    this.#applied = applied;
  }

  upTo(node: NodeId): PgTime {
    return this.#applied.get(nodeKey(node)) ?? LONG_AGO;
  }

  /** The least over the given nodes: a row up to there was seen, whichever of them wrote it. */
  upToOfAll(nodes: readonly NodeId[]): PgTime {
    return nodes.reduce<PgTime>((least, node) => {
      const seen = this.upTo(node);
      return seen < least ? seen : least;
    }, Infinity as PgTime);
  }
}
