import type { PgTime } from '../base/pg-time.ts';
import type { Change, Relation } from '../pgoutput/transaction.ts';
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

/** What has come in one piece with a row may be so much more than it: beyond that the row is copied out of it. */
const MOST_AROUND_BYTES = 256 * 1024;
/** What is kept of a row besides its bytes, about. */
const ROW_BYTES = 200;

/** Changes of this node's own users, gathered from one or more of their transactions, or from a part of one. */
export class OwnBatch {
  readonly #tables = new Map<Relation, OwnChanges>();
  #rows = 0;
  #bytes = 0;
  /** What rows are views of keeps all that has come with them. */
  #lastBuffer: Buffer | undefined;

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
        this.#of(change.relation).removed.push({
          time,
          lateAfter,
          old: this.#kept(change.oldTuple),
        });
        break;
      case 'update':
        // The key is as it was, and a row that was there cannot be one that slipped in. Mostly they are not even decoded.
        if (!change.oldTuple) return;
        this.#of(change.relation).moved.push({
          time,
          lateAfter,
          old: this.#kept(change.oldTuple),
          row: this.#kept(change.newTuple),
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
    this.#bytes += ROW_BYTES;
  }

  #kept(tuple: Tuple): Tuple {
    const isSmallPart = tuple.buffer.length - (tuple.end - tuple.start) > MOST_AROUND_BYTES;
    const kept = isSmallPart ? tuple.detached() : tuple;
    // Rows that have come together stand side by side.
    if (kept.buffer !== this.#lastBuffer) this.#bytes += kept.buffer.length;
    this.#lastBuffer = kept.buffer;
    return kept;
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
