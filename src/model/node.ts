/**
 * A node's identity: the server's system identifier, its timeline, and the database's OID, as BDR names nodes. Fixed when the
 * node is created; a promoted standby keeps it.
 */
export interface NodeId {
  /** 64-bit system identifier as decimal text. */
  readonly sysid: string;
  readonly timeline: number;
  readonly dboid: number;
}

/** One text for one node, for maps and messages. */
export function nodeKey(id: NodeId): string {
  return `${id.sysid},${id.timeline},${id.dboid}`;
}

export function sameNode(a: NodeId, b: NodeId): boolean {
  return a.sysid === b.sysid && a.timeline === b.timeline && a.dboid === b.dboid;
}

/**
 * The life of a node, BDR's letters. Each state is durable before the work of the next begins, so a crash leaves the state
 * whose work is repeated.
 *
 *     b  beginning      the row is there, nothing is done; the checks of a join run here
 *     i  initialising   known to the group; schema and data are being copied (a crash starts the copy again)
 *     c  catching up    the copy is complete; applies what happened since
 *     o  opening        caught up; waits until every peer reads from here
 *     r  ready          a member
 *     k  killed         parted; the row stays until the name is used again
 */
export type NodeStatus = 'b' | 'i' | 'c' | 'o' | 'r' | 'k';

const NEXT: Record<NodeStatus, readonly NodeStatus[]> = {
  b: ['i', 'r', 'k'],
  i: ['c', 'k'],
  c: ['o', 'k'],
  o: ['r', 'k'],
  r: ['k'],
  k: ['i'],
};

/** Whether a node may go from one state to another. `k` to `i` is a removed node that joins again. */
export function mayBecome(from: NodeStatus, to: NodeStatus): boolean {
  return NEXT[from].includes(to);
}

/** A row of bdr.bdr_nodes with the DSN and settings of its default row in bdr.bdr_connections. */
export interface Node {
  readonly id: NodeId;
  readonly status: NodeStatus;
  readonly name: string;
  /** Group-wide number; orders two versions of equal time (DESIGN 4.1). Null until the node is known to the group. */
  readonly sequence: number | null;
  /** How others reach it. Null while its connection row has not arrived. */
  readonly dsn: string | null;
  /** How its own agent was told to reach it, when that differs. */
  readonly localDsn: string | null;
  readonly initFromDsn: string | null;
  readonly applyDelayMs: number | null;
  /** The replication sets that it gets from the others; null or none: everything. */
  readonly replicationSets: readonly string[] | null;
  /** When it became known to the group, as the server's text: tells the lives of a node apart that was removed and joined again. */
  readonly joinedAt: string | null;
  readonly error: string | null;
  /** Its users may not write to replicated tables. */
  readonly isReadOnly: boolean;
}

/** The nodes of a group other than these, and not parted. */
export function othersThan(than: readonly NodeId[], nodes: readonly Node[]): readonly Node[] {
  return nodes.filter(({ id, status }) => status !== 'k' && !than.some((one) => sameNode(one, id)));
}
