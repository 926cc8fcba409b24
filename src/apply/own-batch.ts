import type { PgTime } from '../base/pg-time.ts';
import type { Change, Relation } from '../pgoutput/transaction.ts';
import type { Tuple } from '../pgoutput/tuple.ts';

/** A row that a user of this node deleted or made, with the time of the commit. */
interface Removed {
  readonly time: PgTime;
  readonly old: Tuple;
}
interface Made {
  readonly time: PgTime;
  readonly row: Tuple;
}

/** What users of this node did to one table, as far as deletions have to do with it. */
export interface OwnChanges {
  readonly removed: Removed[];
  readonly made: Made[];
  /** Updates that came with the old row: the key may be another one. */
  readonly moved: (Removed & Made)[];
  truncatedAt: PgTime | undefined;
}

/** Changes of this node's own users, gathered from one or more of their transactions, or from a part of one. */
export class OwnBatch {
  readonly #tables = new Map<Relation, OwnChanges>();
  readonly #makers = new Set<number>();
  #rows = 0;
  #bytes = 0;

  /** By table, and by its description: that changes when the table does. */
  get tables(): ReadonlyMap<Relation, OwnChanges> {
    return this.#tables;
  }

  /** The ids of the transactions that made rows. */
  get makers(): ReadonlySet<number> {
    return this.#makers;
  }

  get rows(): number {
    return this.#rows;
  }

  /** About how much memory is kept. */
  get bytes(): number {
    return this.#bytes;
  }

  add(
    change: Change,
    { xid, commitTime: time }: { readonly xid: number; readonly commitTime: PgTime },
    bytes: number,
  ): void {
    switch (change.kind) {
      case 'insert':
        this.#of(change.relation).made.push({ time, row: change.newTuple });
        this.#makers.add(xid);
        break;
      case 'delete':
        this.#of(change.relation).removed.push({ time, old: change.oldTuple });
        break;
      case 'update':
        // The key is as it was, and a row that was there cannot be one that slipped in.
        if (!change.oldTuple) return;
        this.#of(change.relation).moved.push({ time, old: change.oldTuple, row: change.newTuple });
        this.#makers.add(xid);
        break;
      case 'truncate':
        for (const relation of change.relations) this.#of(relation).truncatedAt = time;
        break;
      case 'message':
        return;
    }
    this.#rows += 1;
    this.#bytes += bytes;
  }

  #of(relation: Relation): OwnChanges {
    const known = this.#tables.get(relation);
    if (known) return known;
    const changes: OwnChanges = { removed: [], made: [], moved: [], truncatedAt: undefined };
    this.#tables.set(relation, changes);
    return changes;
  }
}
