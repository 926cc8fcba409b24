import { assert } from '../base/assert.ts';
import { backoffMs } from '../base/backoff.ts';
import { BdrError } from '../base/errors.ts';
import type { Lsn } from '../base/lsn.ts';
import { pause } from '../base/wait.ts';
import { commitApplied } from '../catalog/committed-positions.ts';
import { isRowChange, type Change, type RowChange } from '../pgoutput/transaction.ts';
import { commitStamped, rollBack } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE, sqlstateOf } from '../postgres/sqlstate.ts';
import type { AheadSender } from './ahead-sender.ts';
import type { ApplyOptions } from './apply-options.ts';
import type { ChangeContext } from './change-context.ts';
import type { Statement } from './prepared.ts';
import { ApplyPaused, Entrance } from './entrance.ts';
import type { SetWriter } from './set-writer.ts';
import type { TableMap } from './table-map.ts';
import { isLockConflict, LOCK_BACKOFF, MustWait } from './lock-conflict.ts';
import { dueTime, isWhole, latest, type TransactionPart } from './transaction-part.ts';
import type { ChangeWriter } from './writer.ts';

/**
 * How changes are written: as sets; one by one in their order; or so, each held against the unique indexes first, because one has found
 * its value taken.
 */
type Way = 'sets' | 'rows' | 'careful';

/** A local transaction and what of the provider's goes into it. */
interface Current {
  /** To begin again from after a lock conflict; undefined once it is too much to keep. */
  parts: TransactionPart[] | undefined;
  bytes: number;
  way: Way;
  /** The server has stopped in it when it was sent ahead: it would again. */
  readonly isStopped: boolean;
  /** Changes whose statements go out as one batch, in order. */
  sending: SentChange[];
  /** Whether changes before those in `sending` have been written in this local transaction. */
  written: boolean;
  /** A lock conflict has undone it. */
  again: boolean;
}

/** The beginning of the next group, folded while the server works on this one. */
interface Folded {
  readonly parts: readonly TransactionPart[];
  /** So many changes of theirs, from the first on. */
  readonly changes: number;
}

interface SentChange {
  readonly change: RowChange;
  readonly context: ChangeContext;
  readonly statement: Statement;
}

/** Parts kept for a second try. Beyond this a lock conflict costs reading the transaction again from the provider. */
const MOST_KEPT_BYTES = 32 * 1024 * 1024;
/** Below this many changes the statements of single rows, which are prepared, are faster than sets, which are planned each time. */
const LEAST_FOR_SETS = 20;
/** From so many statements on a batch is sent. */
const ENOUGH_FOR_BATCH = 128;
/** So often is looked for who has a value before its being taken again and again is an error. */
const MOST_COLLISIONS = 10;
const SENT_SAVEPOINT = 'bdr_sent';
/** From so many changes on they are written, while the next are folded. */
const ENOUGH_FOR_SET = 5000;

/**
 * Applies a link's transactions in commit order, exactly once, one or a group of them in each local transaction: the origin's
 * position commits with the rows, so after a crash both are there or neither is (DESIGN 3.2; 4.2, rule 1).
 *
 * A group whose statements fail is rolled back and tried in halves, down to one transaction, and that row by row in order. What
 * is small goes out in one piece with its commit, without waiting for answers, several transactions at once where they may not
 * share one; where the server stops in that, it goes on step by step.
 *
 * A guest on the user's server (DESIGN 3.4): a lock that is not had within the session's lock_timeout is given up together with
 * everything held, and the transaction begins again after a pause in which it holds nothing.
 */
export class ApplyWorker {
  readonly #session: Session;
  readonly #tables: TableMap;
  readonly #writer: ChangeWriter;
  readonly #sets: SetWriter;
  readonly #ahead: AheadSender;
  readonly #options: ApplyOptions;
  readonly #entrance: Entrance;
  /** A transaction of which not all parts have come. */
  #unfinished: Current | undefined;
  #folded: Folded | undefined;

  constructor(
    session: Session,
    tables: TableMap,
    writer: ChangeWriter,
    sets: SetWriter,
    ahead: AheadSender,
    options: ApplyOptions,
  ) {
    this.#session = session;
    this.#tables = tables;
    this.#writer = writer;
    this.#sets = sets;
    this.#ahead = ahead;
    this.#options = options;
    this.#entrance = new Entrance(session, tables, options, () => writer.deletions.mustBeAlone);
  }

  /**
   * Applies whole transactions in one local transaction, or the next part of one that is too large to be whole. `next` tells what
   * will probably be applied then: that is folded while the server works on this.
   */
  async apply(
    parts: readonly TransactionPart[],
    next: () => readonly TransactionPart[] = () => [],
  ): Promise<void> {
    if (this.#unfinished) return this.#goOn(this.#unfinished, parts);
    const way = this.#wayOf(parts);
    if (way !== 'rows') return this.#applyBy(way, parts, next);
    const { committed, isStopped } = await this.#ahead.sendAsOne(parts);
    if (committed > 0) return;
    await (isStopped ? this.#applyStopped(parts, next) : this.#applyBy(way, parts, next));
  }

  /**
   * Applies some of the transactions, from the first on, each in a local transaction of its own. All are whole, and none must be
   * alone. Returns how many it has applied: one at least.
   */
  async applyEach(parts: readonly TransactionPart[]): Promise<number> {
    assert(this.#unfinished === undefined, 'a transaction begins when the one before has ended');
    const some = parts.slice(0, this.#ahead.most);
    const large = some.findIndex((part) => this.#wayOf([part]) !== 'rows');
    const small = large < 0 ? some : some.slice(0, large);
    const { committed, isStopped } = await this.#ahead.sendEach(small);
    if (committed > 0 && committed === small.length) return committed;
    const [next] = parts.slice(committed);
    assert(next !== undefined, 'there is a transaction to apply');
    await (isStopped ? this.#applyStopped([next]) : this.#applyBy(this.#wayOf([next]), [next]));
    return committed + 1;
  }

  #wayOf(parts: readonly TransactionPart[]): Way {
    const changes = parts.reduce((sum, part) => sum + part.changes.length, 0);
    const { difficult } = this.#options;
    if (parts.some(({ context }) => difficult.has(context.commitLsn))) return 'careful';
    return changes < LEAST_FOR_SETS || parts.some(({ isAlone }) => isAlone) ? 'rows' : 'sets';
  }

  /**
   * Applies what the server has stopped in when it was sent ahead: a set finds all rows at once that need a look. Not with a delete:
   * folded with an insert it is an update, and what is recorded of that says less.
   */
  async #applyStopped(
    parts: readonly TransactionPart[],
    next?: () => readonly TransactionPart[],
  ): Promise<void> {
    const isPlain = parts.every(
      ({ isAlone, changes }) => !isAlone && changes.every(({ kind }) => kind !== 'delete'),
    );
    // Of several only one may be what it has stopped in.
    return this.#applyBy(isPlain ? 'sets' : 'rows', parts, next, parts.length === 1);
  }

  /**
   * Moves the origin to a position between transactions, and waits until that is on disk, with all before it. `alongside` is a
   * statement that commits with it.
   */
  async moveTo(lsn: Lsn, alongside = ''): Promise<void> {
    assert(this.#unfinished === undefined, 'the origin moves between transactions');
    await this.#orStartOver(begun([], 'rows'), async (current) => {
      await this.#open(current);
      // "local": under synchronous_standby_names anything more could wait for ever.
      await this.#session.script(`SET LOCAL synchronous_commit = local; ${alongside}`);
      await commitStamped(this.#session, lsn);
    });
  }

  async #applyBy(
    way: Way,
    parts: readonly TransactionPart[],
    next: () => readonly TransactionPart[] = () => [],
    isStopped = false,
  ): Promise<void> {
    if (way !== 'sets' && parts.length > 1 && parts.every(isWhole)) {
      // Row by row each change is judged by its own time, and what its transaction inserted by that one's: not a later one's.
      for (const part of parts) await this.#applyBy(way, [part]);
      return;
    }
    const current = begun(parts, way, isStopped);
    const [first] = parts;
    if (first) this.#options.onBegin(first.context);
    try {
      await this.#orStartOver(current, () => this.#begin(current, parts, next));
    } catch (error) {
      const other = this.#otherWay(way, error, parts);
      if (!other) throw error;
      if (way === 'rows' || parts.length === 1) return this.#applyBy(other, parts);
      const middle = Math.ceil(parts.length / 2);
      await this.apply(parts.slice(0, middle));
      await this.apply(parts.slice(middle));
    }
  }

  /** The next part of an unfinished transaction. */
  async #goOn(current: Current, parts: readonly TransactionPart[]): Promise<void> {
    keep(current, parts);
    try {
      await this.#orStartOver(current, () =>
        current.again ? this.#begin(current, kept(current)) : this.#write(current, parts),
      );
    } catch (error) {
      const other = this.#otherWay(current.way, error, []);
      if (!other) throw error;
      if (current.parts) return this.#applyBy(other, current.parts);
      for (const { context } of parts) this.#options.difficult.add(context.commitLsn);
      throw error;
    }
  }

  async #begin(
    current: Current,
    parts: readonly TransactionPart[],
    next?: () => readonly TransactionPart[],
  ): Promise<void> {
    await this.#open(current);
    await this.#write(current, parts, await this.#takeFolded(current, parts), next);
  }

  /** How many of the changes, from the first on, are folded already. The transaction is open. */
  async #takeFolded(current: Current, parts: readonly TransactionPart[]): Promise<number> {
    const folded = this.#folded;
    this.#folded = undefined;
    if (!folded) return 0;
    const isBeginning =
      current.way === 'sets' && folded.parts.every((part, i) => part === parts[i]);
    // What is known of a table counts in the transaction that holds it.
    for (const table of isBeginning ? this.#sets.tables() : []) {
      if (await this.#tables.hold(table)) continue;
      this.#sets.discard();
      return 0;
    }
    if (isBeginning) return folded.changes;
    this.#sets.discard();
    return 0;
  }

  /** Folds what comes next while the server works, as far as it needs no look at the database. */
  #foldNext(parts: readonly TransactionPart[]): void {
    if (parts.length === 0 || this.#wayOf(parts) !== 'sets') return;
    try {
      this.#folded = { parts, changes: this.#foldFirst(parts) };
    } catch {
      // Met again in its turn, where it is known whose fault it is.
      this.#sets.discard();
    }
  }

  /** Returns how many of the changes it has folded, or passed over, from the first on. */
  #foldFirst(parts: readonly TransactionPart[]): number {
    let count = 0;
    for (const { changes, context } of parts) {
      for (const change of changes) {
        if (this.#sets.size >= ENOUGH_FOR_SET) return count;
        if (change.kind !== 'message' && !this.#fold(change, context, 'sets')) return count;
        count += 1;
      }
    }
    return count;
  }

  /** Writes parts into the local transaction that is open, and commits it when the last one ends its transaction. */
  async #write(
    current: Current,
    parts: readonly TransactionPart[],
    folded = 0,
    next?: () => readonly TransactionPart[],
  ): Promise<void> {
    let left = folded;
    let earlier: ChangeContext | undefined;
    for (const { changes, context } of parts) {
      if (earlier && earlier !== context) await this.#settleEarlier();
      earlier = context;
      for (const change of changes) {
        if (left > 0) {
          left -= 1;
          this.#writer.count(change);
          continue;
        }
        if (this.#fold(change, context, current.way)) {
          this.#writer.count(change);
          if (this.#sets.size >= ENOUGH_FOR_SET) await this.#sets.flush();
          continue;
        }
        await this.#change(change, context, current);
        if (!current.again) this.#options.onProgress();
      }
    }
    await this.#sets.flush();
    const last = parts.at(-1);
    if (last?.endLsn === undefined) {
      // What a lock conflict had undone is done again: the next parts go on from here.
      current.again = false;
      this.#unfinished = current;
      return;
    }
    if (current.way === 'sets' && next) this.#foldNext(next());
    await this.#sets.written();
    await this.#settle(current);
    await this.#writer.finish();
    await commitApplied(this.#session, {
      position: last.endLsn,
      time: latest(parts),
      mayNotify: this.#tables.mayNotify,
    });
    this.#unfinished = undefined;
    this.#options.difficult.delete(last.context.commitLsn);
    this.#writer.committed();
    this.#options.onCommit(parts);
  }

  /**
   * What a transaction inserted one by one is held against tombstones by its own time, so before a later one of the group writes
   * over it.
   */
  async #settleEarlier(): Promise<void> {
    if (this.#writer.deletions.noted === 0) return;
    await this.#sets.settle();
    await this.#writer.deletions.settle();
  }

  /** Takes a change into the sets, where that needs nothing else. */
  #fold(change: Change, context: ChangeContext, way: Way): boolean {
    if (way !== 'sets' || !isRowChange(change)) return false;
    const table = this.#tables.known(change.relation);
    return table !== undefined && this.#sets.add(table, change, context);
  }

  async #change(change: Change, context: ChangeContext, current: Current): Promise<void> {
    if (change.kind === 'message') return;
    if (change.kind === 'truncate') {
      await this.#sets.settle();
      await this.#settle(current);
      await this.#writer.truncate(change, context);
      current.written = true;
      return;
    }
    // Not behind a COPY: where that fails, as it may, the server would refuse to say anything about the table.
    if (!this.#tables.known(change.relation)) await this.#sets.settle();
    await this.#tables.find(change.relation);
    if (current.way === 'sets') {
      // The batch may have held what this change cannot be folded with.
      await this.#sets.flush();
      if (this.#fold(change, context, current.way)) return this.#writer.count(change);
      await this.#sets.settle();
    }
    this.#writer.count(change);
    // Behind a set a statement sent ahead could not be undone by itself: sets hold what is many.
    const mayBeSent = current.way === 'rows' && !current.isStopped;
    if (mayBeSent && (await this.#send(change, context, current))) return;
    await this.#settle(current);
    await this.#writer.write(change, context);
    current.written = true;
  }

  /** Puts a change off to be sent with others as one batch, if it can be. */
  async #send(change: RowChange, context: ChangeContext, current: Current): Promise<boolean> {
    const statement = await this.#ahead.statements.change(change, context);
    if (!statement) return false;
    current.sending.push({ change, context, statement });
    if (current.sending.length >= ENOUGH_FOR_BATCH) await this.#settle(current);
    return true;
  }

  /** Sends what was put off. If the server stops in it, all of that is undone and written one after the other. */
  async #settle(current: Current): Promise<void> {
    const { sending } = current;
    if (sending.length === 0) return;
    current.sending = [];
    if (current.written) await this.#session.script(`SAVEPOINT ${SENT_SAVEPOINT}`);
    const error = await this.#errorOf(sending);
    if (error === undefined) {
      for (const { change, context } of sending) await this.#writer.done(change, context);
    } else if (this.#session.lost.aborted || isLockConflict(error)) {
      throw error;
    } else {
      if (current.written) await this.#session.script(`ROLLBACK TO SAVEPOINT ${SENT_SAVEPOINT}`);
      else {
        await this.#session.script('ROLLBACK');
        await this.#entrance.enter(dueTime(current.parts ?? [], this.#options.applyDelayMs));
      }
      for (const { change, context } of sending) await this.#writer.write(change, context);
    }
    if (current.written) await this.#session.script(`RELEASE SAVEPOINT ${SENT_SAVEPOINT}`);
    current.written = true;
    await this.#writer.relieve();
  }

  async #errorOf(sending: readonly SentChange[]): Promise<Error | undefined> {
    try {
      const { answer } = await this.#writer.statements.send(
        sending.map(({ statement }) => statement),
      );
      return (await answer).error;
    } catch (error) {
      return error as Error;
    }
  }

  async #open(current: Current): Promise<void> {
    await this.#entrance.enter(dueTime(current.parts ?? [], this.#options.applyDelayMs));
    this.#writer.begin({
      isCareful: current.way === 'careful',
      // Commands make their transaction one that is alone.
      hasCommands: current.parts?.some(({ isAlone }) => isAlone) ?? false,
    });
    this.#sets.begin();
    current.written = false;
  }

  /** Runs a step; after a lock conflict rolls back, waits holding nothing, and runs it again. */
  async #orStartOver(current: Current, step: (current: Current) => Promise<void>): Promise<void> {
    for (let failures = 0; ; failures++) {
      if (failures > 0) {
        await pause(backoffMs(failures, LOCK_BACKOFF, this.#options.random), this.#options.signal);
        this.#options.signal.throwIfAborted();
      }
      try {
        return await step(current);
      } catch (error) {
        await this.#rollback(current, error, failures);
        current.again = true;
        // Long as that may take, the link is not stuck.
        if (error instanceof MustWait) this.#options.onProgress();
      }
    }
  }

  /** Rolls back after an error, and throws it again unless doing the same again can help. */
  async #rollback(current: Current, error: unknown, failures: number): Promise<void> {
    current.sending = [];
    await this.#sets.abandon();
    this.#folded = undefined;
    this.#unfinished = undefined;
    if (this.#session.lost.aborted || error instanceof ApplyPaused) throw error;
    this.#options.onRollback();
    // What a transaction that must be alone has defined is undone.
    if (current.parts?.every(({ isAlone }) => !isAlone)) this.#tables.doubt(error);
    else this.#tables.forget();
    try {
      await rollBack(this.#session);
    } catch {
      // The server ended the session with its last answer: that is what there is to tell.
      throw error;
    }
    // Somebody has taken a value since it was looked for.
    const isTaken = current.way === 'careful' && isCollision(error) && failures < MOST_COLLISIONS;
    if (!(isLockConflict(error) || isTaken) || !current.parts) throw error;
  }

  /** Which way to try when one has failed; undefined when there is none. `parts`: where it was whole transactions. */
  #otherWay(way: Way, error: unknown, parts: readonly TransactionPart[]): Way | undefined {
    if (!this.#canTryOtherwise(error)) return undefined;
    // A small one has been sent ahead before.
    const wasRows = way === 'rows' || (parts.length === 1 && this.#wayOf(parts) === 'rows');
    if (wasRows && way !== 'careful' && isCollision(error)) return 'careful';
    return way === 'sets' ? 'rows' : undefined;
  }

  /** Whether a set, or a group, may have failed where its transactions one by one, row by row, do not. */
  #canTryOtherwise(error: unknown): boolean {
    if (this.#session.lost.aborted || this.#options.signal.aborted) return false;
    return (
      sqlstateOf(error) !== undefined ||
      (error instanceof BdrError && error.code === 'apply_failed')
    );
  }
}

/** A row of a table with a key has found its value in a unique index taken. */
function isCollision(error: unknown): boolean {
  return hasSqlstate(error, SQLSTATE.uniqueViolation);
}

function begun(parts: readonly TransactionPart[], way: Way, isStopped = false): Current {
  const current: Current = {
    parts: [],
    bytes: 0,
    way,
    isStopped,
    sending: [],
    written: false,
    again: false,
  };
  keep(current, parts);
  return current;
}

function keep(current: Current, parts: readonly TransactionPart[]): void {
  for (const part of parts) current.bytes += part.bytes;
  if (current.bytes > MOST_KEPT_BYTES) current.parts = undefined;
  else current.parts?.push(...parts);
}

/** All parts so far. What a lock conflict has undone is done again only while they are kept. */
function kept({ parts }: Current): readonly TransactionPart[] {
  assert(parts !== undefined, 'a transaction that begins again is kept');
  return parts;
}
