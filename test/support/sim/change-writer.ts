import { LONG_AGO, type PgTime } from '../../../src/base/pg-time.ts';
import type { ChangeContext } from '../../../src/apply/change-context.ts';
import { NO_PAST, type Past } from '../../../src/apply/coalesce.ts';
import { KeyJournal, type NotedKey } from '../../../src/apply/key-journal.ts';
import { filledFrom, isComplete, readValues, UNSENT } from '../../../src/apply/row-values.ts';
import type { RowValues } from '../../../src/apply/row-values.ts';
import { sameKey } from '../../../src/apply/table.ts';
import { areCertainlyConcurrent } from '../../../src/conflict/concurrency.ts';
import { compareVersions, type Version } from '../../../src/conflict/version.ts';
import {
  decide,
  type ChangeKind,
  type Decision,
  type LocalRow,
} from '../../../src/conflict/decide.ts';
import { sameNode } from '../../../src/model/node.ts';
import type { RowChange } from '../../../src/pgoutput/transaction.ts';
import type { Steps } from './process.ts';
import type { ModelServer } from './server.ts';
import type { Statements, Values } from './statements.ts';
import type { Row, Transaction } from './transaction.ts';
import { ModelLosers } from './losers.ts';
import { ModelLostWriteNotes } from './lost-writes.ts';
import { decidedByPolicy } from './policy.ts';
import { isKnown } from './streams.ts';
import { DEATHS, TABLE, type World } from './world.ts';

/** src/apply/writer.ts on the model's statements: the same steps in the same order, and the same decisions by the real `decide`. */
export class ModelChangeWriter {
  readonly #world: World;
  readonly #statements: Statements;
  readonly provider: ModelServer;
  readonly groupLimit: () => PgTime;
  /** Asks the provider for a row's long value; ends the link when it cannot be reached. */
  readonly #readFromProvider: (key: string) => Steps<Row | undefined>;
  readonly #untilSeen: (xid: number) => Steps;
  readonly #lostWrites: ModelLostWriteNotes;
  readonly journal = new KeyJournal();
  mustBeAlone = false;
  #limit = LONG_AGO;
  #isCareful = false;
  readonly #losers: ModelLosers;

  constructor(options: {
    world: World;
    statements: Statements;
    provider: ModelServer;
    groupLimit: () => PgTime;
    readFromProvider: (key: string) => Steps<Row | undefined>;
    untilSeen: (xid: number) => Steps;
  }) {
    this.#world = options.world;
    this.#statements = options.statements;
    this.provider = options.provider;
    this.groupLimit = options.groupLimit;
    this.#readFromProvider = options.readFromProvider;
    this.#untilSeen = options.untilSeen;
    const { world, statements, provider } = options;
    this.#losers = new ModelLosers({ world, statements, seenUpTo: () => this.#limit });
    this.#lostWrites = new ModelLostWriteNotes(world, statements, provider);
  }

  begin(isCareful = false): void {
    this.#isCareful = isCareful;
    this.#losers.begin();
    this.#limit = this.groupLimit();
    this.journal.clear();
  }

  committed(): void {
    this.mustBeAlone = false;
  }

  /** fastLimit() */
  fastLimit({ commitTime, seen }: ChangeContext): PgTime {
    const { statuses } = this.#statements.server;
    const others = this.#world.servers.filter(
      (one) => one !== this.provider && isKnown(statuses.get(one.index)),
    );
    const upTo = seen.upToOfAll(others.map(({ writer }) => writer.id));
    return upTo < commitTime ? upTo : commitTime;
  }

  /** isLast() */
  isLast({ commitTime }: ChangeContext): boolean {
    if (this.#world.has('limit of deletions read after the look')) {
      return commitTime <= this.groupLimit();
    }
    return commitTime <= this.#limit;
  }

  /** write() */
  *write(
    transaction: Transaction,
    change: RowChange,
    context: ChangeContext,
    past: Past = NO_PAST,
  ): Steps {
    if (change.relation === DEATHS) return yield* this.#hear(transaction, change, context);
    switch (change.kind) {
      case 'insert':
        yield* this.#insert(transaction, readValues(change.newTuple), context);
        return;
      case 'update': {
        const sent = readValues(change.newTuple);
        const old = change.oldTuple ? readValues(change.oldTuple) : sent;
        return yield* this.#update(transaction, old, filledFrom(old, sent), context, past);
      }
      case 'delete':
        return yield* this.#delete(transaction, readValues(change.oldTuple), context, past);
    }
  }

  /** truncate() */
  *truncate(transaction: Transaction, context: ChangeContext): Steps {
    const { provider } = this;
    if (!this.#world.has('TRUNCATE lets writers in')) {
      yield* this.#statements.lockTable(transaction, 'share row exclusive');
    }
    yield* this.#statements.removeTruncated(transaction, provider.index, context);
    yield undefined;
    if (!this.#world.has('TRUNCATEs that lose are passed over')) {
      this.#statements.noteRowsOfOthers(transaction);
    }
    yield undefined;
    if (this.#world.has('TRUNCATE leaves no tombstone')) return;
    this.#statements.remember(transaction, undefined, context.commitTime, provider.writer);
    yield undefined;
  }

  /** Returns whether there was no such row before. */
  *#insert(
    transaction: Transaction,
    values: RowValues,
    context: ChangeContext,
    brought?: RowValues,
  ): Steps<boolean> {
    const row = yield* this.#completed(values);
    if (!row) {
      yield* this.#insertUnread(transaction, values, context, brought);
      return false;
    }
    const statements = this.#statements;
    const inserted = !this.#isCareful && (yield* statements.insert(transaction, plain(row)));
    yield undefined;
    if (inserted) {
      this.journal.add('inserted', TABLE, row, context);
      return true;
    }
    const found = yield* statements.find(transaction, keyIn(row));
    yield undefined;
    if (found) {
      yield* this.#resolve(transaction, 'insert', row, row, found, context, brought);
      return false;
    }
    const tombstone = statements.tombstoneOf(transaction, keyIn(row));
    if (this.#isDeleted(tombstone, context)) {
      this.#skipDeleted(transaction, row, tombstone, context);
      return false;
    }
    yield undefined;
    if (!(yield* this.#makeRoom(transaction, row, undefined, context))) return false;
    yield* statements.insertOrFail(transaction, plain(row));
    yield undefined;
    this.journal.add('inserted', TABLE, row, context);
    return true;
  }

  *#update(
    transaction: Transaction,
    old: RowValues,
    values: RowValues,
    context: ChangeContext,
    { isAnew }: Past,
  ): Steps {
    const statements = this.#statements;
    if (!sameKey(TABLE, old, values)) {
      if (this.#world.has('key change that loses keeps the old key')) {
        const there = yield* statements.find(transaction, keyIn(values));
        if (
          there &&
          this.#decide('insert', transaction, there, undefined, context).action === 'skip'
        )
          return;
      }
      const row = yield* this.#moved(transaction, old, values, context);
      yield* this.#delete(transaction, old, context);
      yield* this.#insert(transaction, row, context);
      return;
    }
    const key = keyIn(values);
    if (!this.#isCareful) {
      const test = isComplete(values)
        ? statements.versionTest(transaction, this.provider.index, this.fastLimit(context))
        : statements.ownTest(transaction, this.provider.index);
      const taken = yield* statements.update(transaction, key, (row) => over(row, values), test);
      yield undefined;
      if (taken) return;
    }
    const found = yield* statements.find(transaction, key);
    yield undefined;
    if (!found && isAnew) yield* this.#insert(transaction, values, context);
    else yield* this.#resolve(transaction, 'update', old, values, found, context, old);
  }

  /** moved(): what a change of key leaves out. No commit of the model waits for a standby. */
  *#moved(
    transaction: Transaction,
    old: RowValues,
    values: RowValues,
    context: ChangeContext,
  ): Steps<RowValues> {
    if (isComplete(values) || this.#world.has('change of key read before its commit is seen')) {
      return values;
    }
    if (this.#world.has('change of key takes what is under the old key')) {
      const found = yield* this.#statements.find(transaction, keyIn(old));
      yield undefined;
      if (found && this.#isProviders(transaction, found, context)) {
        return values.map((value) => (value === UNSENT ? found.big : value));
      }
    }
    yield* this.#untilSeen(context.xid);
    return values;
  }

  #isProviders(transaction: Transaction, row: Row, { commitTime }: ChangeContext): boolean {
    const local = this.#statements.localRow(transaction, row, commitTime);
    if (local.kind === 'versioned')
      return sameNode(local.version.writer.id, this.provider.writer.id);
    return local.kind === 'own';
  }

  *#delete(
    transaction: Transaction,
    old: RowValues,
    context: ChangeContext,
    { wasNew }: Past = NO_PAST,
  ): Steps {
    const statements = this.#statements;
    const key = keyIn(old);
    const limit = this.fastLimit(context);
    const test = statements.versionTest(transaction, this.provider.index, limit);
    const taken = yield* statements.delete(transaction, key, test);
    yield undefined;
    if (taken) return this.journal.add('deleted', TABLE, old, context);
    const found = yield* statements.find(transaction, key);
    yield undefined;
    this.journal.add(found ? 'deleted' : wasNew ? 'gone' : 'missed', TABLE, old, context);
    if (found) yield* this.#resolve(transaction, 'delete', old, undefined, found, context, old);
  }

  /** resolve(): the slow way. */
  *#resolve(
    transaction: Transaction,
    kind: ChangeKind,
    old: RowValues,
    values: RowValues | undefined,
    found: Row | undefined,
    context: ChangeContext,
    brought?: RowValues,
  ): Steps {
    const tombstone = found ? undefined : this.#statements.tombstoneOf(transaction, keyIn(old));
    const met = { kind, old, found, tombstone, context };
    const decided = this.#decide(kind, transaction, found, tombstone, context);
    const decision = this.#lostWrites.judged(decided, found, brought);
    const { action, conflict } = decision;
    // Without that rule it is not so, and nodes differ: that is to be seen.
    if (conflict && !context.isUndecided && !this.#world.has('apply ahead of the clock')) {
      this.#check(transaction, found, tombstone, context);
    }
    this.#keep(transaction, decision, { values, found, context });
    this.#lostWrites.noteRow(transaction, decision, met);
    yield undefined;
    switch (action) {
      case 'skip':
        if (found && !this.#world.has('lost values are not read again')) {
          const row = this.#statements.localRow(transaction, found, context.commitTime);
          if (row.kind !== 'versioned') return;
          this.#statements.noteLostValue(transaction, keyIn(old), row.version.writer);
        }
        return;
      case 'as-insert':
        if (values && (yield* this.#insert(transaction, values, context, old))) {
          this.#lostWrites.noteDeletion(transaction, decision, met);
        }
        return;
      case 'apply':
        if (!found) return;
        if (values && context.isUnread) yield* this.#deleteUnread(transaction, values, context);
        else if (values) yield* this.#overwrite(transaction, values, found, context);
        else yield* this.#statements.delete(transaction, found.key);
        yield undefined;
    }
  }

  /** ConflictLog.during(), and of what nobody has decided only the row that lies below it. */
  #keep(
    transaction: Transaction,
    { action, conflict }: Decision,
    {
      values,
      found,
      context,
    }: {
      readonly values: RowValues | undefined;
      readonly found: Row | undefined;
      readonly context: ChangeContext;
    },
  ): void {
    if (!conflict) return;
    const { commitTime: time, isUndecided, isUnread } = context;
    if (isUndecided) {
      const row = found && this.#statements.localRow(transaction, found, time);
      const isOfTime = row?.kind !== 'versioned' || row.version.time === time;
      if (isUnread || action !== 'apply' || isOfTime) return;
      if (this.#world.has('what a kill finds goes in silence')) return;
    }
    if (isUnread && this.#world.has('what an unread row finds goes in silence')) return;
    if (found) transaction.inHistory.push({ row: found });
    if (values) {
      transaction.inHistory.push({ time, writer: this.provider.writer, key: keyIn(values) });
    }
  }

  /** What the history would say of a conflict must be so. */
  #check(
    transaction: Transaction,
    found: Row | undefined,
    tombstone: Version | undefined,
    { commitTime, commitLsn }: ChangeContext,
  ): void {
    const { server } = this.#statements;
    const row = found && this.#statements.localRow(transaction, found, commitTime);
    const met = row?.kind === 'versioned' ? row.version : tombstone;
    const change: Version = { time: commitTime, writer: this.provider.writer };
    if (met && areCertainlyConcurrent(change, met, server.writer.id)) {
      this.#world.checks.concurrent(server, this.provider, commitLsn, met);
    }
  }

  /** decide(), behind the mutants of its rules. */
  #decide(
    kind: ChangeKind,
    transaction: Transaction,
    found: Row | undefined,
    tombstone: Version | undefined,
    { commitTime, seen }: ChangeContext,
  ): Decision {
    const world = this.#world;
    const remote: Version = { time: commitTime, writer: this.provider.writer };
    const local = found
      ? this.#statements.localRow(transaction, found, commitTime)
      : this.#missing(tombstone);
    const met = local.kind === 'versioned' ? local.version : tombstone;
    const isSameWriter = met !== undefined && sameNode(met.writer.id, remote.writer.id);
    const loses = met !== undefined && compareVersions(remote, met) < 0;
    if (isSameWriter && loses) {
      if (found && world.has('no rule for the same writer')) return { action: 'skip' };
      if (!found && kind !== 'delete' && world.has('same writer: rows only')) {
        return { action: 'skip' };
      }
    }
    if (!isSameWriter && loses && met.time === commitTime && world.has('equal times: first come')) {
      return { action: found ? 'apply' : kind === 'update' ? 'as-insert' : 'apply' };
    }
    if (!found && kind === 'update' && world.has('update of a missing key is skipped')) {
      return { action: 'skip' };
    }
    const decided = decide(kind, remote, local, met ? seen.upTo(met.writer.id) : commitTime);
    const { policy } = world;
    if (policy?.mutant !== 'decided where the change is applied') return decided;
    const isDeletion = kind === 'delete';
    return decidedByPolicy(
      policy,
      decided,
      { row: found, version: met },
      { isDeletion, version: remote },
    );
  }

  /** overwrite() */
  *#overwrite(
    transaction: Transaction,
    values: RowValues,
    found: Row,
    context: ChangeContext,
  ): Steps {
    const keeps =
      this.#isProviders(transaction, found, context) ||
      this.#world.has('unchanged TOAST kept in any row');
    const row = keeps ? values : yield* this.#completed(values);
    if (!row) return yield* this.#deleteUnread(transaction, values, context);
    if (!(yield* this.#makeRoom(transaction, row, found, context))) return;
    yield* this.#statements.update(transaction, found.key, (old) => over(old, row));
  }

  /** insertUnread(): a row under its key is met by it. */
  *#insertUnread(
    transaction: Transaction,
    values: RowValues,
    context: ChangeContext,
    brought: RowValues | undefined,
  ): Steps {
    const found = yield* this.#statements.find(transaction, keyIn(values));
    yield undefined;
    if (!found) return yield* this.#deleteUnread(transaction, values, context, false);
    const unread = { ...context, isUnread: true };
    yield* this.#resolve(transaction, 'insert', values, values, found, unread, brought);
  }

  /** deleteUnread(): the provider has the row no more, so that it cannot be written. */
  *#deleteUnread(
    transaction: Transaction,
    values: RowValues,
    context: ChangeContext,
    isUnread = true,
  ): Steps {
    if (this.#world.has('what cannot be read any more leaves nothing')) return;
    yield* this.#delete(transaction, values, { ...context, isUndecided: true, isUnread });
  }

  // The unique index ---------------------------------------------------------------------------------------------------

  /** makeRoom(): whether the row may be written. */
  *#makeRoom(
    transaction: Transaction,
    row: RowValues,
    found: Row | undefined,
    context: ChangeContext,
  ): Steps<boolean> {
    if (!this.#isCareful) return true;
    const values = { key: keyIn(row), v: String(row[1]), big: '' };
    const remote: Version = { time: context.commitTime, writer: this.provider.writer };
    return yield* this.#losers.makeRoom(transaction, values, found, remote);
  }

  /** hear(): a kill is a deletion of the row's own version; an ask is followed by who wrote the row. */
  *#hear(transaction: Transaction, change: RowChange, context: ChangeContext): Steps {
    if (change.kind !== 'insert') return;
    const [kind, key, time, writer] = readValues(change.newTuple).map(String);
    const commitTime = Number(time) as PgTime;
    if (kind === 'kill') {
      this.#statements.askAnswered(transaction, String(key), this.provider.writer);
      const old = [String(key), null, null];
      const killing: ChangeContext = { ...context, commitTime, isUndecided: true };
      if (this.#world.has('kill takes smaller rows only')) {
        const row = yield* this.#statements.find(transaction, String(key));
        yield undefined;
        if (row && row.time > commitTime) return;
      }
      if (this.#world.has('kill is answered')) {
        const row = yield* this.#statements.find(transaction, String(key));
        yield undefined;
        if (row) this.#losers.answerKill(transaction, row);
      }
      return yield* this.#delete(transaction, old, killing);
    }
    const { servers } = this.#world;
    const asked = { time: commitTime, writer: (servers[Number(writer)] as ModelServer).writer };
    yield* this.#losers.follow(transaction, String(key), asked);
  }

  /** completed(): the row with the long value that was not sent, as the provider has it by now. */
  *#completed(values: RowValues): Steps<RowValues | undefined> {
    if (isComplete(values)) return values;
    const row = yield* this.#readFromProvider(keyIn(values));
    return row && values.map((value) => (value === UNSENT ? row.big : value));
  }

  // Deletions ----------------------------------------------------------------------------------------------------------

  /** Deletions.settle() */
  *settleDeletions(transaction: Transaction): Steps {
    const inserted = [...this.journal.all('inserted').values()].flat();
    const contested = this.contested(transaction, inserted);
    yield undefined;
    for (const noted of contested) yield* this.takeBack(transaction, noted);
    yield* this.#lookAgain(transaction);
    const deleted = [...this.journal.all('deleted').values()].flat();
    for (const { key, context } of deleted) {
      // With a policy it counts whether a row is still gone by this very deletion.
      if (this.#world.policy || !this.isLast(context)) this.remember(transaction, key, context);
    }
    this.journal.clear();
    yield undefined;
  }

  /** Tombstones.contested() */
  contested(transaction: Transaction, keys: readonly NotedKey[]): NotedKey[] {
    if (!this.#statements.remembersAny(transaction)) return [];
    return keys.filter(({ key, context }) =>
      this.#statements.isContested(
        transaction,
        keyIn(key),
        context.commitTime,
        this.provider.writer,
      ),
    );
  }

  remember(transaction: Transaction, key: RowValues, { commitTime }: ChangeContext): void {
    this.#statements.remember(transaction, keyIn(key), commitTime, this.provider.writer);
  }

  /** Deletions.takeBack(): removes a row that this transaction inserted, if it loses to a tombstone. */
  *takeBack(transaction: Transaction, { key, context }: NotedKey): Steps {
    const tombstone = this.#statements.tombstoneOf(transaction, keyIn(key));
    if (!this.#isDeleted(tombstone, context)) return;
    this.#skipDeleted(transaction, key, tombstone, context);
    yield undefined;
    yield* this.#statements.delete(transaction, keyIn(key), (row) =>
      this.#statements.isOwn(transaction, row),
    );
    yield undefined;
  }

  /** lookAgain(): what other links hold uncommitted is waited for, and looked at. */
  *#lookAgain(transaction: Transaction): Steps {
    const missing = (['missed', 'gone'] as const).flatMap((kind) =>
      [...this.journal.all(kind).values()].flat().map((noted) => ({ kind, ...noted })),
    );
    if (this.#world.has('delete that finds nothing goes on')) {
      for (const { key, context } of missing) this.journal.add('deleted', TABLE, key, context);
      return;
    }
    if (missing.some(({ context }) => !this.isLast(context))) {
      this.mustBeAlone = true;
      // holdOtherApply()
      yield* this.#statements.lockGate(transaction, 'exclusive');
      yield undefined;
    }
    for (const { kind, key, context } of missing) {
      if (kind !== 'gone' || !this.#world.has('folded insert and delete leave no tombstone')) {
        this.journal.add('deleted', TABLE, key, context);
      }
      const found = yield* this.#statements.find(transaction, keyIn(key));
      yield undefined;
      if (found && this.#statements.isOwn(transaction, found)) continue;
      if (!found && kind === 'gone') continue;
      yield* this.#resolve(transaction, 'delete', key, undefined, found, context);
    }
  }

  #isDeleted(tombstone: Version | undefined, context: ChangeContext): boolean {
    const remote: Version = { time: context.commitTime, writer: this.provider.writer };
    const isSameWriter = tombstone && sameNode(tombstone.writer.id, remote.writer.id);
    if (isSameWriter && this.#world.has('same writer: rows only')) {
      return compareVersions(remote, tombstone) < 0;
    }
    return decide('insert', remote, this.#missing(tombstone), context.commitTime).action === 'skip';
  }

  #missing(tombstone: Version | undefined): Extract<LocalRow, { kind: 'missing' }> {
    const { writer } = this.#statements.server;
    const isDeletedHere = tombstone !== undefined && sameNode(tombstone.writer.id, writer.id);
    return { kind: 'missing', tombstone, isDeletedHere };
  }

  /** Deletions.takesInsert() */
  #skipDeleted(
    transaction: Transaction,
    values: RowValues,
    tombstone: Version | undefined,
    context: ChangeContext,
  ): void {
    if (this.#world.has('an insert below a deletion goes in silence')) return;
    const decision = this.#decide('insert', transaction, undefined, tombstone, context);
    this.#keep(transaction, decision, { values, found: undefined, context });
  }
}

export function keyIn(values: RowValues): string {
  return String(values[0]);
}

/** A complete row. */
export function plain(values: RowValues): Values {
  return { key: keyIn(values), v: String(values[1]), big: String(values[2]) };
}

/** What an UPDATE leaves of a row: columns that were not sent stay. */
export function over(row: Row, values: RowValues): Values {
  return {
    key: keyIn(values),
    v: String(values[1]),
    big: values[2] === UNSENT ? row.big : String(values[2]),
  };
}
