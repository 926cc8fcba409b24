import type { ConflictEntry } from '../../catalog/read-conflicts.ts';
import { displayName } from '../../base/names.ts';
import { colors } from './colors.ts';
import { oneLine } from './table.ts';

/** What this node did, from the side of its row. */
const DONE: Readonly<Record<ConflictEntry['action'], string>> = {
  skip: 'change skipped',
  insert: 'row inserted',
  update: 'row overwritten',
  delete: 'row deleted',
};

/** A conflict in one line: when, where, which row, what kind, what was done, who won over whom. */
export function drawConflict(conflict: ConflictEntry): string {
  const { at, schema, table, key, type, action, certainlyConcurrent } = conflict;
  return [
    colors.dim(at.replace('T', ' ')),
    oneLine(displayName({ schema, name: table })),
    oneLine(key ?? '(no key)'),
    colors.yellow(type),
    DONE[action],
    oneLine(who(conflict)),
    colors.dim(certainlyConcurrent ? 'concurrent' : 'perhaps concurrent'),
  ].join('  ');
}

function who({ resolution, local, remote }: ConflictEntry): string {
  // A row that is missing for no known reason is nobody's.
  if (local === null) return `from ${remote}`;
  switch (resolution) {
    case 'last_update_wins_keep_local':
    case 'skip_change':
    case 'conflict_trigger_skip_change':
      return `${local} over ${remote}`;
    case 'last_update_wins_keep_remote':
    case 'apply_change':
      return `${remote} over ${local}`;
    case 'conflict_trigger_returned_tuple':
      return `made of ${local} and ${remote}`;
  }
}
