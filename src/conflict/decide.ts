import type { PgTime } from '../base/pg-time.ts';
import { sameNode } from '../model/node.ts';
import { compareVersions, type Version } from './version.ts';

export type ChangeKind = 'insert' | 'update' | 'delete';

/** BDR's names (bdr.bdr_conflict_type). */
export type ConflictType = 'insert_insert' | 'update_update' | 'update_delete' | 'delete_delete';

/** BDR's names (bdr.bdr_conflict_resolution). */
export type Resolution =
  | 'last_update_wins_keep_local'
  | 'last_update_wins_keep_remote'
  | 'apply_change'
  | 'skip_change'
  | 'conflict_trigger_skip_change'
  | 'conflict_trigger_returned_tuple';

/** Which rule has decided, by the names of docs/concepts/conflicts.md: DESIGN 4.2, rules 3 to 6, and 4.4. */
export type Rule =
  | 'greater_version'
  | 'insert_existing'
  | 'insert_deleted'
  | 'update_missing'
  | 'delete_existing'
  | 'delete_missing'
  /** A row that slipped in below a deletion or a TRUNCATE; found by the own stream, not decided here. */
  | 'below_tombstone'
  /** A row of this node's own users that a TRUNCATE of another node takes, whose user may not have had it; not decided here. */
  | 'truncated'
  /** Two rows have one value in a unique index: src/conflict/unique.ts. */
  | 'unique_index'
  /** What this node had written lost to a concurrent change and was held against the table's policy; not decided here. */
  | 'lost_write';

export interface Conflict {
  readonly type: ConflictType;
  readonly resolution: Resolution;
  readonly rule: Rule;
}

/** The row that a change meets under its key. */
export type LocalRow =
  /** `tombstone`: the greatest that is remembered of the key or of its table (DESIGN 4.4), this node's own where `isDeletedHere`. */
  | {
      readonly kind: 'missing';
      readonly tombstone: Version | undefined;
      readonly isDeletedHere: boolean;
    }
  /** Written earlier in this same apply transaction: it has no version yet, and came from this provider. */
  | { readonly kind: 'own' }
  /** Its commit record is gone: it is older than any change that is not as old as the records that are gone. */
  | { readonly kind: 'unrecorded' }
  /** It has no record that counts, and is known to be older than the change, or newer. */
  | { readonly kind: 'older' | 'newer' }
  | { readonly kind: 'versioned'; readonly version: Version };

/** What apply shall do with a change. */
export interface Decision {
  /** `as-insert` writes an update's whole row, because the row is missing. */
  readonly action: 'apply' | 'as-insert' | 'skip';
  readonly conflict?: Conflict;
}

/**
 * Decides what becomes of a change of version `remote`: the rules 2 to 6 of DESIGN 4.2. That a delete leaves its tombstone
 * whatever is decided here (rule 6) is for the caller to see to.
 *
 * `seenUpTo` is the commit time up to which the change's writer had applied what was written by the writer of the local row, or
 * of the tombstone: what lies before was seen before it was overwritten, so there is no conflict to record.
 */
export function decide(
  kind: ChangeKind,
  remote: Version,
  local: LocalRow,
  seenUpTo: PgTime,
): Decision {
  const met = MET[kind];
  const loses: Decision = {
    action: 'skip',
    conflict: { ...met, resolution: 'last_update_wins_keep_local' },
  };
  switch (local.kind) {
    case 'missing':
      return whenMissing(kind, remote, local, seenUpTo);
    case 'own':
    case 'unrecorded':
    case 'older':
      return { action: 'apply' };
    case 'newer':
      return loses;
    case 'versioned':
      break;
  }
  // Rule 2: one node's changes arrive in its own order, which its timestamps may not follow exactly.
  if (sameNode(local.version.writer.id, remote.writer.id)) return { action: 'apply' };
  if (compareVersions(remote, local.version) < 0) return loses;
  if (local.version.time <= seenUpTo) return { action: 'apply' };
  return { action: 'apply', conflict: { ...met, resolution: 'last_update_wins_keep_remote' } };
}

function whenMissing(
  kind: ChangeKind,
  remote: Version,
  { tombstone, isDeletedHere }: Extract<LocalRow, { kind: 'missing' }>,
  seenUpTo: PgTime,
): Decision {
  // Rule 2 counts for what a missing row has left, too.
  const isWriters = tombstone !== undefined && sameNode(tombstone.writer.id, remote.writer.id);
  const loses = tombstone !== undefined && !isWriters && compareVersions(remote, tombstone) < 0;
  const wasKnown = isWriters || (tombstone !== undefined && tombstone.time <= seenUpTo);
  switch (kind) {
    case 'insert':
      if (!loses) return { action: 'apply' };
      // Rule 4. Who deleted the row on another node had mostly seen this very insert, which came by a longer way; if not, the insert comes
      // there, too. Users of this node had not, since it comes only now.
      if (!isDeletedHere) return { action: 'skip' };
      return {
        action: 'skip',
        conflict: { type: 'update_delete', resolution: 'skip_change', rule: 'insert_deleted' },
      };
    case 'update': {
      const missing = { type: 'update_delete', rule: 'update_missing' } as const;
      if (loses) return { action: 'skip', conflict: { ...missing, resolution: 'skip_change' } };
      // Rule 5: the row's own insert may still come over another link, and then loses.
      if (wasKnown) return { action: 'as-insert' };
      return { action: 'as-insert', conflict: { ...missing, resolution: 'apply_change' } };
    }
    case 'delete': {
      if (wasKnown && !loses) return { action: 'skip' };
      const missing = { type: 'delete_delete', rule: 'delete_missing' } as const;
      return { action: 'skip', conflict: { ...missing, resolution: 'skip_change' } };
    }
  }
}

/** What a change that meets a row of another writer is called. */
const MET: Readonly<Record<ChangeKind, { readonly type: ConflictType; readonly rule: Rule }>> = {
  insert: { type: 'insert_insert', rule: 'insert_existing' },
  update: { type: 'update_update', rule: 'greater_version' },
  delete: { type: 'update_delete', rule: 'delete_existing' },
};
