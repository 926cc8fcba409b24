import { LONG_AGO } from '../base/pg-time.ts';
import { compareVersions, type Version, type Writer } from '../conflict/version.ts';
import { sameNode, type NodeId } from '../model/node.ts';

/** Who wrote the rows that this node holds, by the number of their replication origin. */
export interface OriginMap {
  readonly local: Writer;
  /** Origin numbers of the links' providers, parted ones too. */
  readonly providers: ReadonlyMap<number, Writer>;
  /** Origin numbers under which a join copied rows. */
  readonly copies: ReadonlySet<number>;
}

/** The writer of rows of an origin. An origin that is none of ours counts as this node: no peer stamps with it. */
export function writerOf(origins: OriginMap, origin: number): Writer {
  return origins.providers.get(origin) ?? origins.local;
}

/** The origin numbers whose rows lose to `writer` at equal times; 0 stands for this node. */
export function originsBelow(origins: OriginMap, writer: Writer): number[] {
  const all: readonly (readonly [number, Writer])[] = [[0, origins.local], ...origins.providers];
  const at = (one: Writer): Version => ({ time: LONG_AGO, writer: one });
  return all
    .filter(([, one]) => compareVersions(at(one), at(writer)) < 0)
    .map(([origin]) => origin);
}

/** The writer of that identity; its number is null while the node is not known here. */
export function writerWithId(origins: OriginMap, id: NodeId): Writer {
  const known = [origins.local, ...origins.providers.values()].find((one) => sameNode(one.id, id));
  return known ?? { id, sequence: null };
}
