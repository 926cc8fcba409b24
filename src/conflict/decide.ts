import type { PgTime } from '../base/pg-time.ts';
import { sameNode } from '../model/node.ts';
import { compareVersions, type Version } from './version.ts';

export type ChangeKind = 'insert' | 'update' | 'delete';

/** BDR's names (bdr.bdr_conflict_type). */
export type ConflictType = 'insert_insert' | 'update_update' | 'update_delete' | 'delete_delete';

/** BDR's names (bdr.bdr_conflict_resolution). */
export type Resolution =
  'last_update_wins_keep_local' | 'last_update_wins_keep_remote' | 'apply_change' | 'skip_change';

/** The row that a change meets under its key. */
export type LocalRow =
  /** `tombstone`: the greatest that is remembered of the key or of its table (DESIGN 4.4). */
  | { readonly kind: 'missing'; readonly tombstone: Version | undefined }
  /** Written earlier in this same apply transaction: it has no version yet, and came from this provider. */
  | { readonly kind: 'own' }
  /** Its commit record is gone, so it is older than anything still on its way. */
  | { readonly kind: 'unrecorded' }
  | { readonly kind: 'versioned'; readonly version: Version };

/** What apply shall do with a change. */
export interface Decision {
  /** `as-insert` writes an update's whole row, because the row is missing. */
  readonly action: 'apply' | 'as-insert' | 'skip';
  readonly conflict?: { readonly type: ConflictType; readonly resolution: Resolution };
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
  switch (local.kind) {
    case 'missing':
      return whenMissing(kind, remote, local.tombstone, seenUpTo);
    case 'own':
    case 'unrecorded':
      return { action: 'apply' };
    case 'versioned':
      break;
  }
  // Rule 2: one node's changes arrive in its own order, which its timestamps may not follow exactly.
  if (sameNode(local.version.writer.id, remote.writer.id)) return { action: 'apply' };
  const type = typeOf(kind);
  if (compareVersions(remote, local.version) < 0) {
    return { action: 'skip', conflict: { type, resolution: 'last_update_wins_keep_local' } };
  }
  if (local.version.time <= seenUpTo) return { action: 'apply' };
  return { action: 'apply', conflict: { type, resolution: 'last_update_wins_keep_remote' } };
}

function whenMissing(
  kind: ChangeKind,
  remote: Version,
  tombstone: Version | undefined,
  seenUpTo: PgTime,
): Decision {
  // Rule 2 counts for what a missing row has left, too.
  const isWriters = tombstone !== undefined && sameNode(tombstone.writer.id, remote.writer.id);
  const loses = tombstone !== undefined && !isWriters && compareVersions(remote, tombstone) < 0;
  const wasKnown = isWriters || (tombstone !== undefined && tombstone.time <= seenUpTo);
  switch (kind) {
    case 'insert':
      // Rule 4. Whoever deleted the row had mostly seen this very insert, which came by a longer way: no conflict.
      return { action: loses ? 'skip' : 'apply' };
    case 'update': {
      const type: ConflictType = 'update_delete';
      if (loses) return { action: 'skip', conflict: { type, resolution: 'skip_change' } };
      // Rule 5: the row's own insert may still come over another link, and then loses.
      if (wasKnown) return { action: 'as-insert' };
      return { action: 'as-insert', conflict: { type, resolution: 'apply_change' } };
    }
    case 'delete': {
      if (wasKnown && !loses) return { action: 'skip' };
      const type: ConflictType = 'delete_delete';
      return { action: 'skip', conflict: { type, resolution: 'skip_change' } };
    }
  }
}

function typeOf(kind: ChangeKind): ConflictType {
  switch (kind) {
    case 'insert':
      return 'insert_insert';
    case 'update':
      return 'update_update';
    case 'delete':
      return 'update_delete';
  }
}
