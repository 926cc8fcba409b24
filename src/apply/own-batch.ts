import type { PgTime } from '../base/pg-time.ts';
import { bytesOf, type Change, type Relation } from '../pgoutput/transaction.ts';
import type { Tuple } from '../pgoutput/tuple.ts';

/** A row that a user of this node deleted, or moved to another key, with the time of the commit. */
export interface Removed {
  readonly time: PgTime;
  /** As ClockWatch.lateAfter(). */
  readonly lateAfter: number | undefined;
  readonly old: Tuple;
}

/** What users of this node did to one table, as far as deletions have to do with it. */
export interface OwnChanges {
  readonly removed: Removed[];
  /** Updates that came with the old row: the key may be another one. */
  readonly moved: (Removed & { readonly row: Tuple })[];
  truncatedAt: PgTime | undefined;
  /** As that of a row; of the last TRUNCATE. */
  truncatedLateAfter: number | undefined;
}

/** Changes of this node's own users, gathered from one or more of their transactions, or from a part of one. */
export class OwnBatch {
  readonly #tables = new Map<Relation, OwnChanges>();
  #rows = 0;
  #bytes = 0;

  /** By table, and by its description: that changes when the table does. */
  get tables(): ReadonlyMap<Relation, OwnChanges> {
    return this.#tables;
  }

  get rows(): number {
    return this.#rows;
  }

  /** About how much memory is kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Takes what has to do with deletions; `time` is that of the commit, `lateAfter` what ClockWatch says of it. */
  add(change: Change, time: PgTime, lateAfter?: number): void {
    switch (change.kind) {
      case 'delete':
        this.#of(change.relation).removed.push({ time, lateAfter, old: change.oldTuple });
        break;
      case 'update':
        // The key is as it was, and a row that was there cannot be one that slipped in. Mostly they are not even decoded.
        if (!change.oldTuple) return;
        this.#of(change.relation).moved.push({
          time,
          lateAfter,
          old: change.oldTuple,
          row: change.newTuple,
        });
        break;
      case 'truncate':
        for (const relation of change.relations) {
          const changes = this.#of(relation);
          changes.truncatedAt = time;
          changes.truncatedLateAfter = lateAfter;
        }
        break;
      case 'insert':
      case 'message':
        return;
    }
    this.#rows += 1;
    this.#bytes += bytesOf(change);
  }

  #of(relation: Relation): OwnChanges {
    const known = this.#tables.get(relation);
    if (known) return known;
    const changes: OwnChanges = {
      removed: [],
      moved: [],
      truncatedAt: undefined,
      truncatedLateAfter: undefined,
    };
    this.#tables.set(relation, changes);
    return changes;
  }
}
