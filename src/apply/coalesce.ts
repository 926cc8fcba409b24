import type { Change, RowChange } from '../pgoutput/transaction.ts';
import { insertChange, updateChange } from '../pgoutput/row-message.ts';
import { ColumnKind, type Tuple } from '../pgoutput/tuple.ts';
import type { ChangeContext } from './change-context.ts';
import type { Table, TableKey } from './table.ts';

/** What a change does not show any more of those that were folded into it. */
export interface Past {
  /** A delete of a row that was inserted in this same batch: that there is no such row is no surprise. */
  readonly wasNew: boolean;
  /** An update of a row that was deleted in this same batch, and then inserted: where there is no such row, it is that insert. */
  readonly isAnew: boolean;
}

/** Of a change that was not folded. */
export const NO_PAST: Past = { wasNew: false, isAnew: false };

/** What is left to do with one key after all changes of it that were folded together. */
export interface FoldedChange extends Past {
  readonly change: RowChange;
  /** Of the last change that was folded in. */
  readonly context: ChangeContext;
  /** An update that leaves TOASTed values out: which columns it brings, one digit a column; empty when it brings all. */
  readonly mask: string;
}

/** Changes of one table, one for each key (DESIGN 3.2). They touch different rows, so their order does not matter. */
export class TableBatch {
  readonly table: Table;
  readonly #changes: FoldedChange[] = [];
  /** Where the change of each key stands. Not made while inserts alone come, of which no two have one key. */
  #places: Map<Key, number> | undefined;

  constructor(table: Table) {
    this.table = table;
  }

  get size(): number {
    return this.#changes.length;
  }

  get changes(): readonly FoldedChange[] {
    return this.#changes;
  }

  /**
   * Folds a change in. False when it cannot be: then what the batch holds is to be written first, and the change is added to
   * the empty batch.
   */
  add(change: RowChange, context: ChangeContext): boolean {
    const { kind, isIdentity } = this.table.key;
    const isDistinct = change.kind === 'insert' && isIdentity && this.#places === undefined;
    if (kind !== 'unique' || isDistinct) {
      this.#changes.push(folded(change, context, ''));
      return true;
    }
    this.#places ??= this.#findPlaces();
    const key = keyOf(this.table, tupleOf(change));
    const mask = change.kind === 'update' ? maskOf(change.newTuple) : '';
    const place = this.#places.get(key);
    if (place === undefined) {
      this.#places.set(key, this.#changes.length);
      this.#changes.push(folded(change, context, mask));
      return true;
    }
    const earlier = this.#changes[place] as FoldedChange;
    // A row that comes anew keeps nothing of the one that has gone: as an update it would.
    const isAnew = earlier.change.kind === 'delete' && this.table.kept.length > 0;
    const both = isAnew ? undefined : fold(earlier, change, context, mask);
    if (!both) return false;
    this.#changes[place] = both;
    return true;
  }

  #findPlaces(): Map<Key, number> {
    const places = new Map<Key, number>();
    for (const [place, { change }] of this.#changes.entries()) {
      places.set(keyOf(this.table, tupleOf(change)), place);
    }
    return places;
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
      // One that a row filter has made of an update may leave long values out.
      return change.newTuple.isComplete;
    case 'delete':
      return table.key.kind === 'unique';
    case 'update': {
      if (table.key.kind !== 'unique') return false;
      const { oldTuple, newTuple } = change;
      if (oldTuple === null) return true;
      // With REPLICA IDENTITY FULL an old row comes with every update, and it holds what the new one leaves out.
      return newTuple.isComplete && keyOf(table, oldTuple) === keyOf(table, newTuple);
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
      const both = earlier.change.kind === 'insert' ? insertChange(relation, newTuple) : change;
      return folded(both, context, mask, false, earlier.isAnew);
    }
    case 'insert delete':
      // The row's older version may be here, and the delete must be remembered in any case (rule 6).
      return folded(change, context, mask, true);
    case 'update delete':
      return folded(change, context, mask);
    case 'delete insert': {
      if (change.kind !== 'insert') return undefined;
      if (earlier.wasNew) return folded(change, context, mask);
      const update = updateChange(change.relation, change.newTuple);
      return folded(update, context, mask, false, true);
    }
    default:
      // An order that one provider's changes of one key never have.
      return undefined;
  }
}

/** In one shape, for the reason that row messages are. */
function folded(
  change: RowChange,
  context: ChangeContext,
  mask: string,
  wasNew = NO_PAST.wasNew,
  isAnew = NO_PAST.isAnew,
): FoldedChange {
  return { change, context, mask, wasNew, isAnew };
}

/** The row that a change brings, or its key. */
export function tupleOf(change: RowChange): Tuple {
  return change.kind === 'delete' ? change.oldTuple : change.newTuple;
}

/** What tells keys apart: a number where the key is a whole one, which needs no memory and is found sooner; else a text. */
type Key = number | string;

/** Spellings that only the type takes for one key count as two, which costs nothing but a fold. */
function keyOf({ key }: Table, tuple: Tuple): Key {
  const [only] = key.columns;
  const whole = only && key.columns.length === 1 ? wholeNumberOf(tuple, only.position) : undefined;
  return whole ?? textKeyOf(key, tuple);
}

const DIGIT_0 = 0x30;
/** A double tells all whole numbers apart that are as long. */
const MOST_DIGITS = 15;

/** The value as a number, where it is a positive whole one as the server spells it; no other text has the same. */
function wholeNumberOf(tuple: Tuple, column: number): number | undefined {
  const from = tuple.offset(column);
  const length = tuple.length(column);
  if (length < 1 || length > MOST_DIGITS) return undefined;
  const { buffer } = tuple;
  if (buffer[from] === DIGIT_0) return length === 1 ? 0 : undefined;
  let number = 0;
  for (let i = from; i < from + length; i++) {
    const digit = (buffer[i] as number) - DIGIT_0;
    if (digit < 0 || digit > 9) return undefined;
    number = number * 10 + digit;
  }
  return number;
}

/** The key's bytes with their lengths. */
function textKeyOf({ columns }: TableKey, tuple: Tuple): string {
  let key = '';
  for (const { position } of columns) {
    const offset = tuple.offset(position);
    key +=
      offset < 0
        ? '-'
        : tuple.buffer.toString('latin1', offset - 4, offset + tuple.length(position));
  }
  return key;
}

function maskOf(tuple: Tuple): string {
  if (tuple.isComplete) return '';
  let mask = '';
  for (let column = 0; column < tuple.columnCount; column++) {
    if (tuple.kind(column) !== ColumnKind.unchanged) continue;
    mask ||= '1'.repeat(tuple.columnCount);
    mask = `${mask.slice(0, column)}0${mask.slice(column + 1)}`;
  }
  return mask;
}
