import type { OriginMap } from '../apply/writers.ts';
import { BdrError } from '../base/errors.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { SharedTime } from '../base/shared-time.ts';
import { readNodes } from '../catalog/nodes.ts';
import { copyOriginName, providerOfOrigin } from '../model/link.ts';
import { nodeKey, othersThan, sameNode, type Node, type NodeId } from '../model/node.ts';
import { readOrigins } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { Edition } from './edition.ts';
import type { GroupView } from './group-view.ts';

/**
 * What a node knows of its group: who the nodes are, whose rows are whose, and up to when each stream is handled. Links have threads of
 * their own, and go by views of it (group-view.ts).
 */
export class GroupFacts {
  readonly edition = new Edition();
  /** Of the own stream. */
  readonly ownWatermark = new SharedTime();
  /** The clock of the last heartbeat that the own stream has come to. */
  readonly ownHeard = new SharedTime();
  /** Of the links, by nodeKey() of their providers, whether they run or not. */
  readonly #watermarks = new Map<string, SharedTime>();
  #nodes: readonly Node[] = [];
  #origins: OriginMap | undefined;
  /** What the links were told last, and the edition in which. */
  #told = { facts: '', number: -1 };

  get nodes(): readonly Node[] {
    return this.#nodes;
  }

  /** Once it was looked at. */
  get origins(): OriginMap {
    return this.#origins as OriginMap;
  }

  /** Others than these, and not parted. */
  others(...than: readonly NodeId[]): readonly Node[] {
    return othersThan(than, this.#nodes);
  }

  /**
   * Reads it anew; `isNew` says that links are to be told. Throws BdrError `invalid_membership` if the node is none of the group's.
   */
  async look(session: Session, id: NodeId): Promise<{ me: Node; isNew: boolean }> {
    const begun = this.edition.number;
    this.#nodes = await readNodes(session);
    const me = this.#nodes.find((node) => sameNode(node.id, id));
    if (!me)
      throw new BdrError('invalid_membership', {
        message: 'bdr.bdr_nodes has no row for this node',
      });
    const origins = await this.#readOrigins(session, me);
    this.#origins = origins;
    const { local, providers, copies } = origins;
    const facts = JSON.stringify([this.#nodes, local, [...providers], [...copies]]);
    if (facts !== this.#told.facts) {
      this.#told = { facts, number: this.edition.replace(begun) };
      return { me, isNew: true };
    }
    if (begun === this.#told.number) return { me, isNew: false };
    this.#told = { facts, number: begun };
    return { me, isNew: true };
  }

  /** Nobody goes by what he knows of the group before it was looked at again. */
  outdate(): void {
    this.edition.outdate();
  }

  /** For the link to a provider. */
  viewFor(provider: NodeId, me: NodeId): GroupView {
    const others = this.others(me, provider);
    return {
      number: this.#told.number,
      nodes: this.#nodes,
      origins: this.origins,
      own: this.ownWatermark.shared,
      ownHeard: this.ownHeard.shared,
      others: others.map(({ id }) => this.watermarkOf(id).shared),
    };
  }

  /** Of the link to a node. */
  watermarkOf(id: NodeId): SharedTime {
    const known = this.#watermarks.get(nodeKey(id)) ?? new SharedTime();
    this.#watermarks.set(nodeKey(id), known);
    return known;
  }

  /** By nodeKey(): up to which commit time this node has applied each other node. */
  appliedUpTo(): Record<string, PgTime> {
    const entries = [...this.#watermarks]
      .map(([key, time]) => [key, time.get()] as const)
      .filter(([, time]) => time > LONG_AGO);
    return Object.fromEntries(entries);
  }

  /** Up to here everything of every node but one is applied: infinity without any, LONG_AGO while one is unknown. */
  leastWatermark(except: NodeId): PgTime {
    const times = this.others(except).map(({ id }) => this.watermarkOf(id).get());
    // There may be one more.
    if (this.#told.number !== this.edition.number) return LONG_AGO;
    return Math.min(...times) as PgTime;
  }

  async #readOrigins(session: Session, me: Node): Promise<OriginMap> {
    const sequenceOf = new Map(this.#nodes.map((node) => [nodeKey(node.id), node.sequence]));
    const providers = new Map<number, { id: NodeId; sequence: number | null }>();
    const copies = new Set<number>();
    const copyPrefix = copyOriginName(me.id, 0).slice(0, -1);
    for (const { number, name } of await readOrigins(session)) {
      const id = providerOfOrigin(name, me.id.dboid);
      if (id) providers.set(number, { id, sequence: sequenceOf.get(nodeKey(id)) ?? null });
      else if (name.startsWith(copyPrefix)) copies.add(number);
    }
    return { local: { id: me.id, sequence: me.sequence }, providers, copies };
  }
}
