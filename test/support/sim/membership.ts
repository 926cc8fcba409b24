import type { NodeStatus } from '../../../src/model/node.ts';
import type { ModelNode } from './node.ts';
import type { Steps } from './process.ts';
import type { World } from './world.ts';

/** In the order in which a node comes through them: what is heard late changes nothing. */
const ORDER: readonly NodeStatus[] = ['b', 'i', 'c', 'o', 'r', 'k'];
/** So long it takes at the most until others hear of it. */
const MOST_DELAY = 100;

/** Rows of bdr.bdr_nodes on their way: each node hears of another one's state at a time of its own. */
export class Membership {
  readonly #world: World;
  readonly #nodes: () => readonly ModelNode[];

  constructor(world: World, nodes: () => readonly ModelNode[]) {
    this.#world = world;
    this.#nodes = nodes;
  }

  /** Writes the state of the node `about` at the node `at`: the others hear of it. */
  announce(at: ModelNode, about: number, status: NodeStatus): void {
    this.#world.note?.(`node ${about} is in state ${status}, says ${at.server.index}`);
    this.#hear(at, about, status);
    for (const other of this.#nodes()) {
      if (other === at) continue;
      const name = `${other.server.index} hears of ${about}`;
      this.#world.scheduler.spawn(name, this.#later(other, about, status));
    }
  }

  *#later(node: ModelNode, about: number, status: NodeStatus): Steps {
    const { random } = this.#world;
    const until = this.#world.time + random.below(MOST_DELAY);
    yield { ready: () => this.#world.time >= until || this.#world.scheduler.isHealing };
    this.#hear(node, about, status);
  }

  #hear(node: ModelNode, about: number, status: NodeStatus): void {
    const { statuses } = node.server;
    const known = statuses.get(about);
    if (known !== undefined && ORDER.indexOf(known) >= ORDER.indexOf(status)) return;
    statuses.set(about, status);
    node.groupChanged(about, status);
  }
}
