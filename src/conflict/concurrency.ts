import { sameNode, type NodeId } from '../model/node.ts';
import type { Version } from './version.ts';

/**
 * Whether it is certain that neither of two writes was made by somebody who had seen the other: a change of version `change` that
 * arrives at node `self`, and `met`, the version of the row or the tombstone that it meets there.
 *
 * A node applies a write only once its own clock is later than the write's time (DESIGN 4.7): whoever writes at that time or before
 * has not seen it. And what users of `self` wrote, they wrote before the change arrived. Nothing else is certain: heartbeats tell
 * what a node has seen at least, not at most, and of third nodes nothing is known here.
 */
export function areCertainlyConcurrent(
  change: Version,
  met: Version | undefined,
  self: NodeId,
): boolean {
  return met !== undefined && sameNode(met.writer.id, self) && change.time <= met.time;
}
