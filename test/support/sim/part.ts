import { readValues } from '../../../src/apply/row-values.ts';
import type { Change } from '../../../src/pgoutput/transaction.ts';
import type { Membership } from './membership.ts';
import type { ModelNode } from './node.ts';
import type { Steps } from './process.ts';
import type { User } from './users.ts';
import { DEATHS, originOf, type World } from './world.ts';
import { hasUniqueIndex } from './switches.ts';

/**
 * bdr.bdr_part_by_node_names(): one node leaves, mostly as docs/concepts/join-and-part.md says it should: nobody writes there any more, and
 * bdr.bdr_wait_for_apply() has returned. Else what it wrote last may be known to some of the others only.
 */
export class ModelPart {
  readonly #world: World;
  readonly #membership: Membership;
  readonly #users: readonly User[];
  readonly #others: readonly ModelNode[];
  readonly #beginsAt: number;
  readonly #isDrained: boolean;
  readonly node: ModelNode;

  /** `users`: of that node. */
  constructor(
    world: World,
    node: ModelNode,
    others: readonly ModelNode[],
    users: readonly User[],
    membership: Membership,
  ) {
    this.#world = world;
    this.node = node;
    this.#others = others;
    this.#users = users;
    this.#membership = membership;
    this.#beginsAt = world.time + world.random.below(400);
    const mustDrain = hasUniqueIndex(world.switches);
    this.#isDrained = world.random.chance(0.7) || mustDrain;
  }

  *run(): Steps {
    const { server } = this.node;
    yield { ready: () => this.#world.time >= this.#beginsAt };
    yield { ready: () => this.#others.every(({ join }) => join?.isReady !== false) };
    if (this.#isDrained) {
      for (const user of this.#users) user.finish();
      yield { ready: () => this.#users.every(({ isDone }) => isDone) };
      if (!this.#world.has('parted before the others have what it wrote'))
        yield* this.#waitForApply();
    }
    const caller = this.#world.random.pick(this.#others);
    this.#membership.announce(caller, server.index, 'k');
  }

  /** bdr.bdr_wait_for_apply(): until the others have acknowledged what stands here. */
  *#waitForApply(): Steps {
    const { server } = this.node;
    const from = server.wal.length;
    const origin = originOf(server.index);
    for (const other of this.#others) {
      yield { ready: () => other.server.durable(origin) > from };
    }
  }

  /** All that stay know of it, and so does the node itself. */
  get isOver(): boolean {
    const { index } = this.node.server;
    return [this.node, ...this.#others].every(({ server }) => server.statuses.get(index) === 'k');
  }

  /**
   * Whether some of those that stay may lack what the node wrote under a key. With unique indexes it may, whatever it waited for, have told some
   * of them that a row has lost and others not, and have written a row again behind that.
   */
  mayLack(key: string): boolean {
    if (this.#isDrained && !hasUniqueIndex(this.#world.switches)) return false;
    const { server } = this.node;
    const origin = originOf(server.index);
    const least = Math.min(...this.#others.map((other) => other.server.position(origin)));
    return server.wal
      .slice(least)
      .some(
        (record) =>
          record.origin === 0 &&
          (record.truncates || record.rows.has(key) || record.changes.some(isKillOf(key))),
      );
  }
}

function isKillOf(key: string): (change: Change) => boolean {
  return (change) => {
    if (change.kind !== 'insert' || change.relation !== DEATHS) return false;
    const [kind, of] = readValues(change.newTuple);
    return kind === 'kill' && of === key;
  };
}
