import type { PgTime } from '../base/pg-time.ts';
import { nodeKey, sameNode, type NodeId } from '../model/node.ts';

/** The node that wrote a row version, with its group-wide number; the number is null while the node is not known here. */
export interface Writer {
  readonly id: NodeId;
  readonly sequence: number | null;
}

/**
 * The version of a row: when the transaction that wrote it committed, and on which node (DESIGN 4.1). Apply stamps the
 * provider's commit time, so every node sees the same version for the same write.
 */
export interface Version {
  readonly time: PgTime;
  readonly writer: Writer;
}

/**
 * Orders versions: by time, then by the writer's group-wide number, then by its identity, which makes the order total even
 * where two nodes were given one number. Positive when `a` is greater.
 */
export function compareVersions(a: Version, b: Version): number {
  if (a.time !== b.time) return a.time < b.time ? -1 : 1;
  if (sameNode(a.writer.id, b.writer.id)) return 0;
  const bySequence = (a.writer.sequence ?? -1) - (b.writer.sequence ?? -1);
  if (bySequence !== 0) return bySequence;
  return nodeKey(a.writer.id) < nodeKey(b.writer.id) ? -1 : 1;
}
