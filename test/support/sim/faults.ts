import type { ModelNode } from './node.ts';
import type { Steps } from './process.ts';
import type { User } from './users.ts';
import type { World } from './world.ts';

/** Cuts links, kills agents, crashes servers, now and then. */
export class Faults {
  readonly #world: World;
  readonly #nodes: readonly ModelNode[];
  readonly #users: readonly { readonly node: ModelNode; readonly user: User }[];
  /** About how long between two. */
  readonly #pause: number;
  #areOver = false;
  /** So many there have been. */
  count = 0;

  constructor(
    world: World,
    nodes: readonly ModelNode[],
    users: readonly { readonly node: ModelNode; readonly user: User }[],
    pause: number,
  ) {
    this.#world = world;
    this.#nodes = nodes;
    this.#users = users;
    this.#pause = pause;
  }

  *run(): Steps {
    const { random } = this.#world;
    while (!this.#areOver) {
      const until = this.#world.time + random.below(this.#pause);
      yield { ready: () => this.#world.time >= until };
      if (this.#areOver) return;
      const node = random.pick(this.#nodes);
      this.count += 1;
      switch (random.below(4)) {
        case 0:
        case 1:
          this.#cut(node);
          break;
        case 2:
          this.#world.note?.(`agent of ${node.server.index} is killed`);
          node.abandon();
          node.start();
          break;
        case 3:
          this.#crash(node);
      }
    }
  }

  /** Ends all faults. */
  heal(): void {
    this.#areOver = true;
    for (const { links } of this.#nodes) for (const link of links) link.isCut = false;
  }

  #cut(node: ModelNode): void {
    const { random } = this.#world;
    if (node.links.length === 0) return;
    const link = random.pick(node.links);
    this.#world.note?.(`link ${link.name} breaks`);
    link.abandon();
    link.start();
    if (link.isCut || random.chance(0.5)) return;
    link.isCut = true;
    this.#world.scheduler.spawn(
      'network',
      this.#mend(() => (link.isCut = false)),
    );
  }

  *#mend(mend: () => void): Steps {
    const until = this.#world.time + this.#world.random.below(300);
    yield { ready: () => this.#world.time >= until || this.#areOver };
    mend();
  }

  /** The server's sessions are gone with it; its agent, and those of its peers, connect again. */
  #crash(node: ModelNode): void {
    const { server } = node;
    const readers = this.#nodes
      .flatMap(({ links }) => links)
      .filter(({ provider }) => provider === server);
    for (const link of readers) link.abandon();
    node.abandon();
    this.#world.note?.(`server ${server.index} crashes`);
    server.crash();
    node.start();
    for (const link of readers) link.start();
    for (const { node: its, user } of this.#users) if (its === node) user.lose();
  }
}
