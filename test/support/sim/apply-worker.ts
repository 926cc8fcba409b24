import { must } from '../../../src/base/assert.ts';
import type { Lsn } from '../../../src/base/lsn.ts';
import type { PgTime } from '../../../src/base/pg-time.ts';
import { KeyJournal } from '../../../src/apply/key-journal.ts';
import { isComplete, readValues } from '../../../src/apply/row-values.ts';
import {
  dueTime,
  isWhole,
  latest,
  type TransactionPart,
} from '../../../src/apply/transaction-part.ts';
import type { RowChange } from '../../../src/pgoutput/transaction.ts';
import type { ChangeContext } from '../../../src/apply/change-context.ts';
import { keyIn, over, plain, type ModelChangeWriter } from './change-writer.ts';
import { LOCK_CONFLICT, type Steps, type Wait } from './process.ts';
import type { ModelSetWriter } from './set-writer.ts';
import { UNIQUE_VIOLATION, type Statements } from './statements.ts';
import type { ModelSession, Transaction } from './transaction.ts';
import { TABLE, type World } from './world.ts';

/** From so many changes on the model writes sets; the real worker from 20 on. */
const LEAST_FOR_SETS = 3;
/** After so many attempts it pauses before the next, for so long at the most. */
const PATIENCE = 8;
const MOST_PAUSE = 100;
/** Raised where a statement that was sent ahead fails: bdr.internal_look_again(). */
const LOOK_AGAIN = new Error('look again');

type Way = 'sets' | 'rows' | 'careful';

/**
 * src/apply/apply-worker.ts and ahead-sender.ts: local transactions with one or many of the provider's, begun again after a lock
 * conflict, tried in halves and row by row after an error, or sent ahead. What is sent ahead runs one statement after the other
 * here too, so sending several is the same as sending one after the other.
 */
export class ModelApplyWorker {
  readonly #world: World;
  readonly #statements: Statements;
  readonly #session: ModelSession;
  readonly #writer: ModelChangeWriter;
  readonly #sets: ModelSetWriter;
  readonly #onCommit: (parts: readonly TransactionPart[]) => void;

  constructor(options: {
    world: World;
    statements: Statements;
    session: ModelSession;
    writer: ModelChangeWriter;
    sets: ModelSetWriter;
    onCommit: (parts: readonly TransactionPart[]) => void;
  }) {
    this.#world = options.world;
    this.#statements = options.statements;
    this.#session = options.session;
    this.#writer = options.writer;
    this.#sets = options.sets;
    this.#onCommit = options.onCommit;
  }

  /** apply() */
  *apply(parts: readonly TransactionPart[]): Steps {
    const way = wayOf(parts);
    if (way === 'rows' && (yield* this.#sendAsOne(parts))) return;
    yield* this.#applyBy(way, parts);
  }

  /** applyEach(): one at a time, which is what it comes to on the server. */
  *applyEach(parts: readonly TransactionPart[]): Steps<number> {
    const [first] = parts;
    if (first) yield* this.apply([first]);
    return 1;
  }

  *#applyBy(way: Way, parts: readonly TransactionPart[]): Steps {
    if (way === 'rows' && parts.length > 1 && parts.every(isWhole)) {
      for (const part of parts) yield* this.#applyBy('rows', [part]);
      return;
    }
    try {
      yield* this.#orStartOver(() => this.#transaction(way, parts), way);
    } catch (error) {
      if (error !== UNIQUE_VIOLATION) throw error;
      if (way === 'rows') return yield* this.#applyBy('careful', parts);
      if (parts.length === 1) return yield* this.#applyBy('rows', parts);
      const middle = Math.ceil(parts.length / 2);
      yield* this.apply(parts.slice(0, middle));
      yield* this.apply(parts.slice(middle));
    }
  }

  *#orStartOver(step: () => Steps, way: Way): Steps {
    for (let failures = 1; ; failures++) {
      try {
        return yield* step();
      } catch (error) {
        this.#sets.abandon();
        this.#statements.server.rollback(this.#session);
        // Somebody has taken a value since it was looked for.
        const isTaken = error === UNIQUE_VIOLATION && way === 'careful';
        if (error !== LOCK_CONFLICT && !isTaken) throw error;
      }
      yield failures < PATIENCE ? undefined : this.#pause();
    }
  }

  /** backoffMs(): several that take the table as a whole would else never find a moment in which none of the others has begun. */
  #pause(): Wait {
    const until = this.#world.time + this.#world.random.below(MOST_PAUSE);
    return { ready: () => this.#world.time >= until };
  }

  *#transaction(way: Way, parts: readonly TransactionPart[]): Steps {
    const transaction = yield* this.#enter(dueTime(parts, 0));
    this.#writer.begin(way === 'careful');
    if (this.#world.has('origin position kept after rollback')) this.#setUpEarly(parts);
    const settles = !this.#world.has('group settles its key changes at the end');
    for (const { changes, context } of parts) {
      if (settles && this.#writer.journal.size > 0) {
        // settleEarlier()
        yield* this.#sets.flush(transaction);
        yield* this.#writer.settleDeletions(transaction);
      }
      for (const change of changes) {
        if (change.kind === 'message') continue;
        if (change.kind === 'truncate') {
          yield* this.#writer.truncate(transaction, context);
          continue;
        }
        if (way === 'sets') {
          if (this.#sets.add(change, context)) continue;
          yield* this.#sets.flush(transaction);
          if (this.#sets.add(change, context)) continue;
        }
        yield* this.#writer.write(transaction, change, context);
      }
    }
    yield* this.#sets.flush(transaction);
    yield* this.#writer.settleDeletions(transaction);
    yield* this.#commit(transaction, parts);
  }

  /** enter(): the gate, once the server's clock has passed the moment. */
  *#enter(due: PgTime): Steps<Transaction> {
    const { server } = this.#statements;
    for (;;) {
      const transaction = server.begin(this.#session);
      yield* this.#statements.lockGate(
        transaction,
        this.#writer.mustBeAlone ? 'exclusive' : 'shared',
      );
      if (this.#isDue(due)) return transaction;
      server.rollback(this.#session);
      yield { ready: () => this.#isDue(due) };
    }
  }

  /** "clock_timestamp() > due", strictly. */
  #isDue(due: PgTime): boolean {
    if (this.#world.has('apply ahead of the clock')) return true;
    const clock = this.#statements.server.clock();
    return this.#world.has('apply at the clock') ? clock >= due : clock > due;
  }

  /** pg_replication_origin_xact_setup(end, time), pg_current_xact_id(), COMMIT */
  *#commit(transaction: Transaction, parts: readonly TransactionPart[]): Steps {
    const { server } = this.#statements;
    const ends = parts.map(({ endLsn }) => must(endLsn, 'end'));
    const position = this.#position(must(ends.at(-1), 'end'));
    this.#session.setup = { position, time: latest(parts) };
    server.xidOf(transaction);
    transaction.applies = { provider: this.#writer.provider.index, ends };
    yield undefined;
    yield* server.commit(this.#session);
    this.#writer.committed();
    this.#onCommit(parts);
  }

  /** Of the mutant: the position is set up when the transaction begins. */
  #setUpEarly(parts: readonly TransactionPart[]): void {
    const position = this.#position(must(parts.at(-1)?.endLsn, 'end'));
    this.#session.setup = { position, time: latest(parts) };
  }

  /** Of the mutant: whoever does not set up his own position gets the one that was set up before. */
  #position(end: Lsn): Lsn {
    const before = this.#session.setup?.position;
    const isStale = this.#world.has('origin position kept after rollback') && before !== undefined;
    return isStale && before > end ? before : end;
  }

  // Ahead --------------------------------------------------------------------------------------------------------------

  /** sendAsOne(): from BEGIN to COMMIT without a look; says whether it is committed. */
  *#sendAsOne(parts: readonly TransactionPart[]): Steps<boolean> {
    if (this.#writer.mustBeAlone || parts.some(({ isAlone }) => isAlone)) return false;
    this.#writer.begin();
    try {
      yield* this.#ahead(parts);
      return true;
    } catch (error) {
      this.#statements.server.rollback(this.#session);
      if (error !== LOOK_AGAIN && error !== LOCK_CONFLICT && error !== UNIQUE_VIOLATION)
        throw error;
      yield undefined;
      return false;
    }
  }

  /** Ahead.transaction() */
  *#ahead(parts: readonly TransactionPart[]): Steps {
    const statements = this.#statements;
    const { server } = statements;
    const transaction = server.begin(this.#session);
    yield* statements.lockGate(transaction, 'shared');
    yield undefined;
    if (this.#world.has('origin position kept after rollback')) this.#setUpEarly(parts);
    const journal = new KeyJournal();
    for (const { changes, context } of parts) {
      for (const change of changes) {
        if (change.kind === 'message') continue;
        if (change.kind === 'truncate') throw LOOK_AGAIN;
        yield* this.#changeAhead(transaction, change, context, journal);
        yield undefined;
      }
    }
    for (const { key, context } of [...journal.all('deleted').values()].flat()) {
      if (!this.#writer.isLast(context)) this.#writer.remember(transaction, key, context);
    }
    yield undefined;
    const inserted = [...journal.all('inserted').values()].flat();
    if (this.#writer.contested(transaction, inserted).length > 0) throw LOOK_AGAIN;
    yield undefined;
    // leaveSql: the clock is looked at last.
    if (!this.#isDue(dueTime(parts, 0))) throw LOOK_AGAIN;
    yield* this.#commit(transaction, parts);
  }

  /** Ahead.#statement(): a statement that must take its row. */
  *#changeAhead(
    transaction: Transaction,
    change: RowChange,
    context: ChangeContext,
    journal: KeyJournal,
  ): Steps {
    const statements = this.#statements;
    const provider = this.#writer.provider.index;
    const limit = this.#writer.fastLimit(context);
    switch (change.kind) {
      case 'insert': {
        const values = readValues(change.newTuple);
        journal.add('inserted', TABLE, values, context);
        return yield* statements.insertOrFail(transaction, plain(values));
      }
      case 'update': {
        if (change.oldTuple) throw LOOK_AGAIN;
        const values = readValues(change.newTuple);
        const test = isComplete(values)
          ? statements.versionTest(transaction, provider, limit)
          : statements.ownTest(transaction, provider);
        const key = keyIn(values);
        const taken = yield* statements.update(transaction, key, (row) => over(row, values), test);
        if (!taken) throw LOOK_AGAIN;
        return;
      }
      case 'delete': {
        const old = readValues(change.oldTuple);
        journal.add('deleted', TABLE, old, context);
        const test = statements.versionTest(transaction, provider, limit);
        if (!(yield* statements.delete(transaction, keyIn(old), test))) throw LOOK_AGAIN;
      }
    }
  }
}

function wayOf(parts: readonly TransactionPart[]): Way {
  const changes = parts.reduce((sum, part) => sum + part.changes.length, 0);
  return changes < LEAST_FOR_SETS || parts.some(({ isAlone }) => isAlone) ? 'rows' : 'sets';
}
