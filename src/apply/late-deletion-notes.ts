import { noteLateTruncateSql } from '../catalog/late-deletions.ts';
import { noteLateSql } from '../catalog/tombstones.ts';
import type { OwnChanges, Removed } from './own-batch.ts';
import type { PreparedStatements } from './prepared.ts';
import type { Table } from './table.ts';
import { keyArraysOf, tombstoneTable } from './tombstones.ts';

/** What users of this node did to one table below the greatest time that the clock had told by then: mostly nothing. */
export interface LateChanges {
  /** By the heartbeat that told it. */
  readonly deleted: ReadonlyMap<number, readonly Removed[]>;
  readonly truncatedAfter: number | undefined;
}

/** `deleted`: what was deleted in effect, a change of key included. */
export function lateOf(
  { truncatedLateAfter }: OwnChanges,
  deleted: readonly Removed[],
): LateChanges {
  const late = new Map<number, Removed[]>();
  for (const removed of deleted) {
    if (removed.lateAfter === undefined) continue;
    const some = late.get(removed.lateAfter);
    if (some) some.push(removed);
    else late.set(removed.lateAfter, [removed]);
  }
  return { deleted: late, truncatedAfter: truncatedLateAfter };
}

/** Notes such changes in bdr.late_deletion, inside the caller's transaction, to be made again: src/apply/late-deletions.ts. */
export class LateDeletionNotes {
  readonly #statements: PreparedStatements;

  constructor(statements: PreparedStatements) {
    this.#statements = statements;
  }

  async note(table: Table, { deleted, truncatedAfter }: LateChanges): Promise<void> {
    const of = tombstoneTable(table);
    for (const [xid, removed] of deleted) {
      const times = removed.map(({ time }) => time);
      const rows = removed.map(({ old }) => old);
      const keys = keyArraysOf(table, rows, times);
      // A row that cannot be found by a key is noted for its number alone.
      const columns = of.columns.length === 0 ? [] : keys.columns;
      await this.#statements.run(noteLateSql(of), [of.oid, xid, keys.times, ...columns]);
    }
    if (truncatedAfter !== undefined) {
      await this.#statements.run(noteLateTruncateSql, [of.oid, truncatedAfter]);
    }
  }
}
