/** How conflicts of a table are resolved. */
export type Policy = 'last_update_wins' | TablePolicy['name'];

/** What is set for a table whose conflicts are not resolved by last update wins (docs/concepts/conflicts.md). */
export type TablePolicy =
  | { readonly name: 'first_update_wins' | 'update_wins' | 'delete_wins' }
  | { readonly name: 'handler' }
  /** Names of nodes, the highest first. */
  | { readonly name: 'node_priority'; readonly nodes: readonly string[] };

/** One of two concurrent writes of a row. */
export interface Contender {
  /** The name of the node that wrote. */
  readonly node: string;
  readonly isDeletion: boolean;
}

/**
 * Whether a policy keeps the write that has lost by its version, or leaves the one that stands. A handler is not asked here.
 *
 * Apply itself always lets the greater version win, whatever the policy: what is decided where a change is applied would be decided
 * otherwise on each node. The policy is asked afterwards, once for each pair of writes, by the node whose write has lost
 * (docs/decisions/0029-conflict-policies.md).
 */
export function keepsLost(
  policy: Exclude<TablePolicy, { name: 'handler' }>,
  lost: Contender,
  standing: Contender,
): boolean {
  if (lost.isDeletion && standing.isDeletion) return false;
  switch (policy.name) {
    case 'first_update_wins':
      // The smaller version is the earlier one.
      return true;
    case 'node_priority':
      return rankIn(policy.nodes, lost.node) < rankIn(policy.nodes, standing.node);
    case 'update_wins':
      return !lost.isDeletion && standing.isDeletion;
    case 'delete_wins':
      return lost.isDeletion && !standing.isDeletion;
  }
}

/** From 0; nodes that are not named come last, all alike. */
function rankIn(nodes: readonly string[], node: string): number {
  const rank = nodes.indexOf(node);
  return rank < 0 ? nodes.length : rank;
}
