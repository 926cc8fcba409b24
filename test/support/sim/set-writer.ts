import { LONG_AGO, type PgTime } from '../../../src/base/pg-time.ts';
import type { ChangeContext } from '../../../src/apply/change-context.ts';
import { isFoldable, TableBatch, type FoldedChange } from '../../../src/apply/coalesce.ts';
import { readValues, type RowValues } from '../../../src/apply/row-values.ts';
import type { RowChange } from '../../../src/pgoutput/transaction.ts';
import { keyIn, over, plain, type ModelChangeWriter } from './change-writer.ts';
import type { Steps } from './process.ts';
import type { Statements } from './statements.ts';
import type { Row, Transaction } from './transaction.ts';
import { TABLE, type World } from './world.ts';

/** src/apply/set-writer.ts on the model's statements; changes are folded by the real TableBatch. */
export class ModelSetWriter {
  readonly #world: World;
  readonly #statements: Statements;
  readonly #writer: ModelChangeWriter;
  #batch = new TableBatch(TABLE);

  constructor(world: World, statements: Statements, writer: ModelChangeWriter) {
    this.#world = world;
    this.#statements = statements;
    this.#writer = writer;
  }

  get size(): number {
    return this.#batch.size;
  }

  /** abandon() */
  abandon(): void {
    this.#batch = new TableBatch(TABLE);
  }

  add(change: RowChange, context: ChangeContext): boolean {
    if (this.#world.policy || !isFoldable(TABLE, change)) return false;
    return this.#batch.add(change, context);
  }

  /** flush() and settle(): deletes, updates, inserts; what they leave goes the slow way. */
  *flush(transaction: Transaction): Steps {
    const changes = [...this.#batch.changes];
    this.abandon();
    if (changes.length === 0) return;
    const deletes = changes.filter(({ change }) => change.kind === 'delete');
    const updates = changes.filter(({ change }) => change.kind === 'update');
    const inserts = changes.filter(({ change }) => change.kind === 'insert');
    const left: FoldedChange[] = [];
    if (deletes.length > 0) left.push(...(yield* this.#delete(transaction, deletes)));
    for (const mask of new Set(updates.map((one) => one.mask))) {
      const alike = updates.filter((one) => one.mask === mask);
      left.push(...(yield* this.#update(transaction, alike)));
    }
    if (inserts.length > 0) left.push(...(yield* this.#insert(transaction, inserts)));
    for (const folded of left) {
      yield* this.#writer.write(transaction, folded.change, folded.context, folded);
    }
    if (left.length > 0) yield* this.#writer.settleDeletions(transaction);
  }

  /** setDeleteSql(), then the tombstones of what it took. */
  *#delete(
    transaction: Transaction,
    changes: readonly FoldedChange[],
  ): Steps<readonly FoldedChange[]> {
    let limit = this.#writer.groupLimit();
    const test = this.#test(transaction, changes);
    const snapshot = this.#statements.server.seen;
    const left: FoldedChange[] = [];
    for (const one of changes) {
      const key = keyIn(valuesIn(one));
      const taken = yield* this.#statements.delete(transaction, key, test, snapshot);
      if (!taken) left.push(one);
    }
    yield undefined;
    if (this.#world.has('limit of deletions read after the look')) {
      limit = this.#writer.groupLimit();
    }
    for (const one of changes) {
      if (left.includes(one) || one.context.commitTime <= limit) continue;
      this.#writer.remember(transaction, valuesIn(one), one.context);
    }
    yield undefined;
    return left;
  }

  /** setUpdateSql() or setOwnUpdateSql(): one statement for what brings the same columns. */
  *#update(
    transaction: Transaction,
    changes: readonly FoldedChange[],
  ): Steps<readonly FoldedChange[]> {
    const isMasked = changes.some(({ mask }) => mask !== '');
    const test = isMasked
      ? this.#statements.ownTest(transaction, this.#writer.provider.index)
      : this.#test(transaction, changes);
    const snapshot = this.#statements.server.seen;
    const left: FoldedChange[] = [];
    for (const one of changes) {
      const values = valuesIn(one);
      const change = (row: Row) => over(row, values);
      const key = keyIn(values);
      const taken = yield* this.#statements.update(transaction, key, change, test, snapshot);
      if (!taken) left.push(one);
    }
    yield undefined;
    return left;
  }

  /** copySql() in a savepoint, else setInsertSql(); then, by a newer snapshot, what loses to a tombstone is taken back (rule 4). */
  *#insert(
    transaction: Transaction,
    changes: readonly FoldedChange[],
  ): Steps<readonly FoldedChange[]> {
    const keys = changes.map((one) => ({ key: valuesIn(one), context: one.context }));
    const early = this.#world.has('tombstones looked at before the insert')
      ? this.#writer.contested(transaction, keys)
      : undefined;
    const left: FoldedChange[] = [];
    for (const one of changes) {
      if (!(yield* this.#statements.insert(transaction, plain(valuesIn(one))))) left.push(one);
    }
    yield undefined;
    const contested = early ?? this.#writer.contested(transaction, keys);
    yield undefined;
    for (const noted of contested) yield* this.#writer.takeBack(transaction, noted);
    return left;
  }

  /** versionTest() for all of them at once: the least of their limits. */
  #test(transaction: Transaction, changes: readonly FoldedChange[]): (row: Row) => boolean {
    const limits = changes.map(({ context }) => this.#writer.fastLimit(context));
    const least = limits.reduce<PgTime>(
      (limit, one) => (one < limit ? one : limit),
      limits[0] ?? LONG_AGO,
    );
    return this.#statements.versionTest(transaction, this.#writer.provider.index, least);
  }
}

function valuesIn({ change }: FoldedChange): RowValues {
  return readValues(change.kind === 'delete' ? change.oldTuple : change.newTuple);
}
