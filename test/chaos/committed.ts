import type { Finding } from './findings.ts';
import type { ClientTransaction, LedgerEntry } from './ledger.ts';
import type { NodeState } from './node-state.ts';

/** When and where a transaction was committed: the total order by which the later write wins. */
export interface Version {
  readonly committedAt: bigint;
  /** The node's number in the group. */
  readonly number: number;
}

export interface CommittedTransaction extends ClientTransaction {
  readonly version: Version;
  readonly isTold: boolean;
}

export function compareVersions(a: Version, b: Version): number {
  if (a.committedAt !== b.committedAt) return a.committedAt < b.committedAt ? -1 : 1;
  return a.number - b.number;
}

/**
 * Finds out what was committed: what has its entry in the journal of the node that wrote it. Not by transaction id: after a crash a
 * server gives ids again that it has not written down. What a client was told must be there; what no client knows how it ended may.
 */
export function findCommitted(
  entries: readonly LedgerEntry[],
  states: readonly NodeState[],
): { readonly committed: CommittedTransaction[]; readonly findings: Finding[] } {
  const committed: CommittedTransaction[] = [];
  const findings: Finding[] = [];
  for (const entry of entries) {
    const state = states[entry.node];
    const found = state?.journal.get(entry.entry);
    if (state && found) {
      const version = { committedAt: found.committedAt, number: state.number };
      committed.push({ ...entry, version });
    } else if (entry.isTold) {
      findings.push({
        kind: 'a told write is gone',
        text: `transaction ${entry.entry} of a client of ${state?.name} was told to be committed and is not in the journal there`,
      });
    }
  }
  return { committed, findings };
}
