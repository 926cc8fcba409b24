import type { Change, RowChange } from '../pgoutput/transaction.ts';
import { ColumnKind, type Tuple } from '../pgoutput/tuple.ts';
import type { ChangeContext } from './change-context.ts';
import type { Table } from './table.ts';

/** What is left to do with one key after all changes of it that were folded together. */
export interface FoldedChange {
  readonly change: RowChange;
  /** Of the last change that was folded in. */
  readonly context: ChangeContext;
  /** An update that leaves TOASTed values out: which columns it brings, one digit a column; empty when it brings all. */
  readonly mask: string;
  /** A delete of a row that was inserted in this same batch: that there is no such row is no surprise. */
  readonly wasNew: boolean;
}

/** Changes of one table, one for each key (DESIGN 3.2). They touch different rows, so their order does not matter. */
export class TableBatch {
  readonly table: Table;
  readonly #byKey = new Map<string, FoldedChange>();
  /** Inserts into a table without key. */
  readonly #appended: FoldedChange[] = [];

  constructor(table: Table) {
    this.table = table;
  }

  get size(): number {
    return this.#byKey.size + this.#appended.length;
  }

  *changes(): Generator<FoldedChange, void, void> {
    yield* this.#byKey.values();
    yield* this.#appended;
  }

  /**
   * Folds a change in. False when it cannot be: then what the batch holds is to be written first, and the change is added to
   * the empty batch.
   */
  add(change: RowChange, context: ChangeContext): boolean {
    if (this.table.key.kind !== 'unique') {
      this.#appended.push({ change, context, mask: '', wasNew: false });
      return true;
    }
    const tuple = change.kind === 'delete' ? change.oldTuple : change.newTuple;
    const key = keyOf(this.table, tuple);
    const mask = change.kind === 'update' ? maskOf(tuple) : '';
    const earlier = this.#byKey.get(key);
    const folded = earlier
      ? fold(earlier, change, context, mask)
      : { change, context, mask, wasNew: false };
    if (!folded) return false;
    this.#byKey.set(key, folded);
    return true;
  }
}

/**
 * Whether a change can stand in a batch at all. Not one that moves a row to another key: a delete and an insert in one, of which
 * others in the batch may be part. Not a message, which writes nothing.
 */
export function isFoldable(table: Table, change: Change): change is RowChange {
  switch (change.kind) {
    case 'message':
    case 'truncate':
      return false;
    case 'insert':
      return true;
    case 'delete':
      return table.key.kind === 'unique';
    case 'update': {
      if (table.key.kind !== 'unique') return false;
      const { oldTuple, newTuple } = change;
      if (oldTuple === null) return true;
      // With REPLICA IDENTITY FULL an old row comes with every update, and it holds what the new one leaves out.
      return maskOf(newTuple) === '' && keyOf(table, oldTuple) === keyOf(table, newTuple);
    }
  }
}

function fold(
  earlier: FoldedChange,
  change: RowChange,
  context: ChangeContext,
  mask: string,
): FoldedChange | undefined {
  switch (`${earlier.change.kind} ${change.kind}`) {
    case 'insert update':
    case 'update update': {
      // What a masked update leaves out may have been written by another node in between (rule 9): never taken from before.
      if (change.kind !== 'update' || mask !== '') return undefined;
      const { relation, newTuple } = change;
      const folded: RowChange =
        earlier.change.kind === 'insert' ? { kind: 'insert', relation, newTuple } : change;
      return { change: folded, context, mask, wasNew: false };
    }
    case 'insert delete':
      // The row's older version may be here, and the delete must be remembered in any case (rule 6).
      return { change, context, mask, wasNew: true };
    case 'update delete':
      return { change, context, mask, wasNew: false };
    case 'delete insert': {
      if (change.kind !== 'insert') return undefined;
      if (earlier.wasNew) return { change, context, mask, wasNew: false };
      const { relation, newTuple } = change;
      const update: RowChange = {
        kind: 'update',
        relation,
        oldTuple: null,
        oldTupleIsKey: false,
        newTuple,
      };
      return { change: update, context, mask, wasNew: false };
    }
    default:
      // An order that one provider's changes of one key never have.
      return undefined;
  }
}

/** The key's bytes with their lengths. Spellings that only the type takes for one key count as two, which costs nothing but a fold. */
function keyOf(table: Table, tuple: Tuple): string {
  let key = '';
  for (const { position } of table.key.columns) {
    const offset = tuple.offset(position);
    key +=
      offset < 0
        ? '-'
        : tuple.buffer.toString('latin1', offset - 4, offset + tuple.length(position));
  }
  return key;
}

function maskOf(tuple: Tuple): string {
  let mask = '';
  for (let column = 0; column < tuple.columnCount; column++) {
    if (tuple.kind(column) !== ColumnKind.unchanged) continue;
    mask ||= '1'.repeat(tuple.columnCount);
    mask = `${mask.slice(0, column)}0${mask.slice(column + 1)}`;
  }
  return mask;
}
