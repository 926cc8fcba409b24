import { BdrError, messageOf } from '../base/errors.ts';
import { displayName } from '../base/names.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { getsDeletions } from '../catalog/replication-sets.ts';
import type { ConflictAction } from '../catalog/conflict-history.ts';
import { askAnswered } from '../catalog/open-asks.ts';
import { isAboutDeath } from '../catalog/outbox.ts';
import { isQueuedCommand } from '../catalog/queued-commands.ts';
import { decide, type ChangeKind, type Decision } from '../conflict/decide.ts';
import type { Version, Writer } from '../conflict/version.ts';
import { sameNode, type NodeId } from '../model/node.ts';
import {
  isRowChange,
  type Change,
  type InsertChange,
  type RowChange,
  type TruncateChange,
} from '../pgoutput/transaction.ts';
import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import { TransactionCounts, type ApplyCounts } from './apply-counts.ts';
import type { ChangeContext } from './change-context.ts';
import { NO_PAST, type Past } from './coalesce.ts';
import { CommandRunner } from './command-runner.ts';
import { ConflictLog } from './conflict-log.ts';
import { DeathNotices } from './death-notices.ts';
import { DeferredKeys } from './deferred-keys.ts';
import { Deletions, type MeetDeletion } from './deletions.ts';
import { fastDelete, fastInsert, fastUpdate, sentIn, type Certain } from './fast-statements.ts';
import { LeftChanges } from './left-changes.ts';
import { columnParams, LocalRows, type FoundRow } from './local-rows.ts';
import { noteLostValue } from './lost-values.ts';
import { LostWriteNotes } from './lost-write-notes.ts';
import { PendingConflicts, type HistoryOptions } from './pending-conflicts.ts';
import { PreparedStatements } from './prepared.ts';
import { completed, MOST_UNSEEN_MS, type ReadFromProvider } from './provider-values.ts';
import { RecordProof } from './record-proof.ts';
import { filledFrom, isComplete } from './row-values.ts';
import type { RowValues } from './row-values.ts';
import * as sql from './statements.ts';
import { storedKey } from './stored-keys.ts';
import {
  hasFixedColumn,
  isOwn,
  refuseMissingColumns,
  rowOf,
  sameKey,
  type Table,
  type TableColumn,
} from './table.ts';
import type { TableMap } from './table-map.ts';
import { TableStatements } from './table-statements.ts';
import { Tombstones } from './tombstones.ts';
import { Truncation } from './truncation.ts';
import { UniqueLosers } from './unique-losers.ts';
import type { Seen } from '../model/seen.ts';
import { writerWithId, type OriginMap } from './writers.ts';

/** So many keys are noted before what they ask for is done. */
const MOST_NOTED = 5000;

/**
 * Writes changes into the local tables, inside the caller's transaction: first by a statement that takes only rows where that is
 * certain to be right, and where that took none, the slow way: lock the row, decide, record, carry out (DESIGN 4.3).
 */
export class ChangeWriter {
  readonly #session: Session;
  readonly #tables: TableMap;
  readonly #provider: Writer;
  readonly #providerOrigin: number;
  readonly #otherNodes: () => readonly NodeId[];
  readonly #readFromProvider: ReadFromProvider;
  readonly #untilSeen: (xid: number, mostMs: number) => Promise<boolean>;
  readonly statements: PreparedStatements;
  readonly #onTable: TableStatements;
  readonly #rows: LocalRows;
  readonly #proof: RecordProof;
  readonly #counts: TransactionCounts;
  readonly #conflicts: ConflictLog;
  readonly #pendingConflicts: PendingConflicts;
  readonly #lostWrites: LostWriteNotes;
  readonly #deferred: DeferredKeys;
  /** What is remembered of deletions. */
  readonly tombstones: Tombstones;
  /** What its inserts and deletes have to do with deletions. */
  readonly deletions: Deletions;
  readonly left: LeftChanges;
  /** Up to here nothing of any other node, this one included, is still on its way (DESIGN 4.6). */
  readonly groupLimit: () => PgTime;
  readonly #origins: () => OriginMap;
  readonly #losers: UniqueLosers;
  readonly #deathNotices: DeathNotices;
  readonly #commands: CommandRunner;
  readonly #truncation: Truncation;
  /** Each row is held against the unique indexes before it is written. */
  #isCareful = false;
  #hasCommands = false;
  /** The group limit when the local transaction began. */
  #limit = LONG_AGO;
  /** What the provider had seen, and up to when of all other nodes, in this local transaction. */
  #seen: Seen | undefined;
  #seenUpTo = LONG_AGO;

  constructor(options: {
    session: Session;
    tables: TableMap;
    provider: Writer;
    providerOrigin: number;
    origins: () => OriginMap;
    otherNodes: () => readonly NodeId[];
    readFromProvider: ReadFromProvider;
    /** Returns once what the provider's transaction did can be read there. */
    untilSeen: (xid: number, mostMs: number) => Promise<boolean>;
    /** Up to when the provider has applied all that its own peers have committed. */
    providerApplied: () => Promise<PgTime>;
    /** Changes up to then do not take it for granted what commit records say (DESIGN 4.1). */
    recordLimit: () => PgTime;
    /** Up to here nothing of any other node, this one included, is still on its way (DESIGN 4.6). */
    groupLimit: () => PgTime;
    counts: ApplyCounts;
    history: HistoryOptions;
    /** Tells other nodes of a command before it is committed here. */
    tellOfCommand: (context: ChangeContext) => Promise<void>;
    /** Something of this node's users was noted for their tables' conflict policies, if the transaction commits. */
    onLostWrite: () => void;
  }) {
    const { session, provider, origins } = options;
    this.#session = session;
    this.#tables = options.tables;
    this.#provider = provider;
    this.#providerOrigin = options.providerOrigin;
    this.#otherNodes = options.otherNodes;
    this.#readFromProvider = options.readFromProvider;
    this.#untilSeen = options.untilSeen;
    this.statements = new PreparedStatements(session);
    this.#onTable = new TableStatements(session, this.statements);
    this.#rows = new LocalRows(session, this.#onTable, origins);
    this.#proof = new RecordProof({ ...options, onTable: this.#onTable });
    this.#counts = new TransactionCounts(options.counts);
    this.#pendingConflicts = new PendingConflicts(session, () => origins().local.id);
    this.#conflicts = new ConflictLog({
      statements: this.#onTable,
      provider,
      origins,
      counts: this.#counts,
      pending: this.#pendingConflicts,
      history: options.history,
    });
    this.#lostWrites = new LostWriteNotes({
      statements: this.statements,
      onTable: this.#onTable,
      provider: provider.id,
      origins,
      onNoted: options.onLostWrite,
    });
    this.tombstones = new Tombstones(this.statements, origins);
    this.#origins = origins;
    this.#truncation = new Truncation({
      ...options,
      statements: this.statements,
      onTable: this.#onTable,
      rows: this.#rows,
      conflicts: this.#conflicts,
      proof: this.#proof,
      tombstones: this.tombstones,
    });
    const meet: MeetDeletion = (table, key, found, context) =>
      this.#resolve('delete', table, key, undefined, found, context);
    this.#deferred = new DeferredKeys({
      onTable: this.#onTable,
      rows: this.#rows,
      proof: this.#proof,
      conflicts: this.#conflicts,
      isProviders: (found) => this.#isProviders(found),
      decide: (found, context) => this.#decide('insert', found, undefined, context),
      meet,
    });
    this.deletions = new Deletions({
      session,
      onTable: this.#onTable,
      rows: this.#rows,
      tombstones: this.tombstones,
      conflicts: this.#conflicts,
      provider: provider.id,
      decide: (tombstone, context) => this.#decide('insert', undefined, tombstone, context),
      meet,
    });
    this.groupLimit = options.groupLimit;
    this.#deathNotices = new DeathNotices(session, this.#tables);
    this.#commands = new CommandRunner(session, this.#tables, options.tellOfCommand, {
      tables: () => [...this.#deferred.tables(), ...this.#losers.tables()],
      settle: async (isMeant) => {
        await this.#deferred.settleEarly(isMeant);
        await this.#losers.settle(isMeant);
      },
    });
    this.left = new LeftChanges({
      rows: this.#rows,
      isReadForHistory: () => this.#conflicts.keepsRows,
      isCertain: (context) => this.#proof.trusts(context),
      resolve: (kind, table, values, found, context) =>
        this.#resolve(
          kind,
          table,
          values,
          values,
          found,
          context,
          kind === 'update' ? values : undefined,
        ),
      write: (change, context, past) => this.write(change, context, past),
    });
    this.#losers = new UniqueLosers({
      session,
      onTable: this.#onTable,
      rows: this.#rows,
      tombstones: this.tombstones,
      conflicts: this.#conflicts,
      origins,
      provider,
      seenUpTo: () => this.#limit,
    });
  }

  /**
   * Call it when a local transaction has begun, the second try of one too. `isCareful`: its rows may have values of a unique index that
   * others have; it must be one transaction of the provider, written row by row. `hasCommands`: some of its changes are commands, which
   * the provider has carried out since.
   */
  begin({ isCareful = false, hasCommands = false } = {}): void {
    this.#isCareful = isCareful;
    this.#hasCommands = hasCommands;
    this.#losers.begin();
    this.#limit = this.groupLimit();
    this.#seen = undefined;
    this.#tables.begin();
    this.#counts.begin();
    this.#deferred.begin();
    this.deletions.begin(this.#limit);
    this.#pendingConflicts.clear();
    this.#deathNotices.begin();
  }

  /** Takes note of a change that was sent ahead (src/apply/ahead.ts); `write` does so by itself. */
  async done(change: RowChange, context: ChangeContext): Promise<void> {
    const table = await this.#tables.find(change.relation);
    if (change.kind === 'insert') {
      this.deletions.inserted(table, rowOf(table, change.newTuple), context);
    } else if (change.kind === 'delete') {
      this.deletions.deleted(table, rowOf(table, change.oldTuple), context);
    }
  }

  /** Counts a change of the provider, if it is one of a row. */
  count(change: Change): void {
    if (isRowChange(change) && !isOwn(change.relation)) this.#counts.change(change.kind);
  }

  /** `past`: of a change into which others were folded. */
  async write(change: RowChange, context: ChangeContext, past: Past = NO_PAST): Promise<void> {
    if (isAboutDeath(change)) return this.#hear(change, context);
    const table = await this.#tables.find(change.relation);
    switch (change.kind) {
      case 'insert': {
        const values = rowOf(table, change.newTuple);
        refuseMissingColumns(table, values);
        // A row filter makes an insert of a change of key: what was not sent is read under the new key, as in #moved().
        if (!isComplete(values)) await this.#untilSeen(context.xid, Infinity);
        await this.#insert(table, values, context);
        if (isQueuedCommand(change)) await this.#runCommand(change, context);
        return;
      }
      case 'update': {
        const sent = rowOf(table, change.newTuple);
        refuseMissingColumns(table, sent);
        const old = change.oldTuple ? rowOf(table, change.oldTuple) : sent;
        return this.#update(table, old, filledFrom(old, sent), context, past);
      }
      case 'delete':
        return this.#delete(table, rowOf(table, change.oldTuple), context, past);
    }
  }

  /** Removes the rows that lose to a TRUNCATE of the provider; writers are held back while it looks. */
  async truncate(change: TruncateChange, context: ChangeContext): Promise<void> {
    for (const relation of change.relations) await this.#truncation.carryOut(relation, context);
  }

  /** Call it now and then, when nothing is under way: keeps what is noted until the commit from growing with the transaction. */
  async relieve(): Promise<void> {
    if (this.deletions.noted >= MOST_NOTED) await this.deletions.settle();
  }

  /** Ends the transaction's changes: what was put off until all of them are here. Call it right before the commit. */
  async finish(): Promise<void> {
    await this.#deferred.settle();
    if (await this.#losers.finish()) this.#tables.willNotify();
    await this.deletions.settle();
    await this.#pendingConflicts.write();
  }

  committed(): void {
    this.deletions.committed();
    this.#counts.commit();
  }

  /** `brought`: the old row, where an update that finds none becomes an insert. */
  async #insert(
    table: Table,
    values: RowValues,
    context: ChangeContext,
    brought?: RowValues,
  ): Promise<ConflictAction> {
    const row = await completed(table, values, this.#readFromProvider);
    if (!row) return this.#insertUnread(table, values, context, brought);
    if (!Tombstones.byKey(table)) {
      const truncation = await this.deletions.truncationOf(table);
      if (await this.deletions.takesInsert(table, row, truncation, context)) return 'skip';
    }
    if (table.key.kind === 'unique' && !table.key.deferrable) {
      const looksFirst = this.#isCarefulWith(table) || table.local.refusesOnConflict;
      if (!looksFirst && (await this.#fastInsert(table, row))) {
        this.deletions.inserted(table, row, context);
        return 'insert';
      }
      const found = await this.#rows.find(table, row, context.commitTime);
      if (found) return this.#resolve('insert', table, row, row, found, context, brought);
      // Nothing under its key: another unique index, or a trigger that would not have the row. The server says which; not to a
      // row that is deleted again already.
      const tombstone = await this.deletions.tombstoneOf(table, row);
      if (await this.deletions.takesInsert(table, row, tombstone, context)) return 'skip';
    }
    const lost = await this.#makeRoom(table, row, undefined, context, values);
    if (lost) return lost;
    const columns = sql.insertable(table, row);
    await this.#insertOrFail(table, columns, columnParams(columns, row));
    this.deletions.inserted(table, row, context);
    if (table.key.deferrable) this.#deferred.add(table, row, context);
    return 'insert';
  }

  /** Inserts the row unless one is in its way; says whether it did. */
  #fastInsert(table: Table, row: RowValues): Promise<boolean> {
    const { sql: text, params } = fastInsert(table, row);
    return this.#onTable.takes(table, text, params);
  }

  async #insertOrFail(
    table: Table,
    columns: readonly TableColumn[],
    params: ReturnType<typeof columnParams>,
  ): Promise<void> {
    try {
      await this.#onTable.run(table, sql.insertSql(table, columns, false), params);
    } catch (error) {
      // With a key it is known which row has to go, see #makeRoom().
      if (!hasSqlstate(error, SQLSTATE.uniqueViolation) || Tombstones.byKey(table)) throw error;
      throw new BdrError('apply_failed', {
        message: `a replicated row of ${displayName(table.local.name)} collides with another row: ${messageOf(error)}`,
        detail:
          `${(error as { detail?: string }).detail ?? ''} Rows of this table have no key: the other nodes could not be told which of the two is to go.`.trim(),
        hint: 'Change or delete the local row that has the same value, or drop the unique index until the link has passed this row: it goes on by itself. With a primary key, on every node, the later of two such rows wins and nothing stops.',
        sqlstate: SQLSTATE.uniqueViolation,
        cause: error,
      });
    }
  }

  async #update(
    table: Table,
    old: RowValues,
    values: RowValues,
    context: ChangeContext,
    { isAnew }: Past,
  ): Promise<void> {
    if (table.key.kind === 'unique' && !sameKey(table, old, values)) {
      // Rule 7: a change of key is a delete of the old key and an insert of the new one, of one version.
      const moved = await this.#moved(table, old, values, context);
      const row = await this.#bringingKept(table, old, moved, context);
      await this.#delete(table, old, context);
      await this.#insert(table, row, context);
      return;
    }
    if (table.key.kind === 'unique' && !this.#isCarefulWith(table)) {
      if (await this.#fastUpdate(table, values, context)) return;
    }
    const found = await this.#rows.find(table, old, context.commitTime);
    if (!found && isAnew) await this.#insert(table, values, context);
    else await this.#resolve('update', table, old, values, found, context, old);
  }

  /**
   * The new row of a change of key. What was not sent is read under the new key, but not before the commit is seen there: until then
   * there is no such row, or another one. Not taken from under the old key, although the provider wrote that row: it may have been
   * completed by what the provider had there later, and that moved on since (found by the simulation). Only where the provider's
   * commit may be waiting for this very node is it better than to wait for ever; and where a command behind it may have given the table,
   * the column or the value another form over there: then it is read when all of that is here, too.
   */
  async #moved(
    table: Table,
    old: RowValues,
    values: RowValues,
    context: ChangeContext,
  ): Promise<RowValues> {
    if (isComplete(values)) return values;
    if (this.#readsLater(table)) {
      const there = await this.#rows.find(table, old, context.commitTime);
      if (!there) return values;
      await this.#noteUnread(table, values);
      return this.#rows.filled(table, there, values);
    }
    if (await this.#untilSeen(context.xid, MOST_UNSEEN_MS)) return values;
    const found = await this.#rows.find(table, old, context.commitTime);
    if (found && this.#isProviders(found)) return this.#rows.filled(table, found, values);
    await this.#untilSeen(context.xid, Infinity);
    return values;
  }

  /** What this node has of its own in the row under the old key goes along to the new one. */
  async #bringingKept(
    table: Table,
    old: RowValues,
    values: RowValues,
    context: ChangeContext,
  ): Promise<RowValues> {
    if (table.kept.length === 0) return values;
    const found = await this.#rows.find(table, old, context.commitTime);
    return found ? this.#rows.withKept(table, found, values) : values;
  }

  async #fastUpdate(table: Table, values: RowValues, context: ChangeContext): Promise<boolean> {
    const certain = this.certain(context);
    const statement = fastUpdate(table, values, this.#providerOrigin, certain);
    return statement !== undefined && this.#onTable.takes(table, statement.sql, statement.params);
  }

  #fastDelete(table: Table, old: RowValues, context: ChangeContext): Promise<boolean> {
    const certain = this.certain(context);
    const { sql: text, params } = fastDelete(table, old, this.#providerOrigin, certain);
    return this.#onTable.takes(table, text, params);
  }

  async #delete(
    table: Table,
    old: RowValues,
    context: ChangeContext,
    { wasNew }: Past = NO_PAST,
  ): Promise<void> {
    if (table.key.kind === 'unique' && !table.key.deferrable) {
      if (await this.#fastDelete(table, old, context)) {
        return this.deletions.deleted(table, old, context);
      }
    }
    const found = await this.#rows.find(table, old, context.commitTime);
    if (this.#isCarefulWith(table)) this.#losers.gone(table, old);
    if (table.key.deferrable) this.#deferred.removed(table, old, context);
    this.deletions.deleted(table, old, context, found ? 'deleted' : wasNew ? 'gone' : 'missed');
    if (found || !Tombstones.byKey(table)) {
      await this.#resolve('delete', table, old, undefined, found, context, old);
    }
  }

  /**
   * The slow way. `values` is the new row, absent for a delete; `old` is what the row was found by; `brought` the old row that came
   * with the change, if one did.
   */
  async #resolve(
    kind: ChangeKind,
    table: Table,
    old: RowValues,
    values: RowValues | undefined,
    locked: FoundRow | undefined,
    context: ChangeContext,
    brought?: RowValues,
  ): Promise<ConflictAction> {
    const found = locked && (await this.#proof.settled(kind, table, old, locked, context));
    const tombstone = found ? undefined : await this.deletions.tombstoneOf(table, old);
    const met = { kind, table, values: values ?? old, found, tombstone, context };
    const decided = this.#decide(kind, found, tombstone, context);
    const carryOut = (decision: Decision) =>
      this.#carryOut(decision, table, old, values, found, context);
    if (context.isLate) return this.#conflicts.during(met, decided, () => carryOut(decided));
    if (context.isUndecided) {
      // Nobody has decided that: no conflict of its own, and nothing that a policy is asked about. But a row that only lies below it
      // has lost to the one that it stands for, which may come to nobody before this does.
      const { conflict: _conflict, ...rest } = decided;
      const isBelow = !context.isUnread && decided.action === 'apply' && !isOfTime(found, context);
      return this.#conflicts.during(met, isBelow ? decided : rest, () => carryOut(decided));
    }
    const decision = await this.#lostWrites.judged(decided, met, brought);
    return this.#conflicts.during(met, decision, async () => {
      await this.#lostWrites.noteRow(decision, met);
      const action = await carryOut(decision);
      await this.#lostWrites.noteDeletion(decision, met, action);
      return action;
    });
  }

  async #carryOut(
    { action }: Decision,
    table: Table,
    old: RowValues,
    values: RowValues | undefined,
    found: FoundRow | undefined,
    context: ChangeContext,
  ): Promise<ConflictAction> {
    switch (action) {
      case 'skip':
        if (found?.row.kind === 'versioned') {
          const { id } = found.row.version.writer;
          await noteLostValue(this.statements, table, old, id, this.#origins());
        }
        return 'skip';
      case 'as-insert':
        return values ? this.#insert(table, values, context, old) : 'skip';
      case 'apply':
        if (!found) return 'skip';
        if (values && context.isUnread) return this.#deleteUnread(table, values, found, context);
        if (values) return this.#overwrite(table, values, found, context);
        await this.#onTable.run(table, sql.lockedDeleteSql(table), [found.ctid]);
        return 'delete';
    }
  }

  #decide(
    kind: ChangeKind,
    found: FoundRow | undefined,
    tombstone: Version | undefined,
    { commitTime, seen }: ChangeContext,
  ) {
    const remote: Version = { time: commitTime, writer: this.#provider };
    const isDeletedHere =
      tombstone !== undefined && sameNode(tombstone.writer.id, this.#origins().local.id);
    const local = found?.row ?? { kind: 'missing' as const, tombstone, isDeletedHere };
    const met = local.kind === 'versioned' ? local.version : tombstone;
    return decide(kind, remote, local, met ? seen.upTo(met.writer.id) : commitTime);
  }

  // Unique indexes -----------------------------------------------------------------------------------------------------

  /** A constraint that is checked later is not checked at all in replica role: it is looked at with every row. */
  #isCarefulWith({ local }: Table): boolean {
    return this.#isCareful || local.deferrable;
  }

  /**
   * What became of the row that is there if this one may not be written, as far as unique indexes besides its key go. `sent`: the row as
   * it came.
   */
  async #makeRoom(
    table: Table,
    row: RowValues,
    found: FoundRow | undefined,
    context: ChangeContext,
    sent: RowValues,
  ): Promise<'skip' | 'delete' | undefined> {
    if (!this.#isCarefulWith(table)) return undefined;
    return this.#losers.makeRoom(table, row, found, context, sent);
  }

  /**
   * A kill, which is a deletion of the row's own version, or an ask (DESIGN 4.2, rule 10). Or a kill of what users had deleted, or
   * truncated, while the provider's clock was behind (4.7): a deletion, or TRUNCATE, of a time that is told.
   */
  async #hear(change: RowChange, context: ChangeContext): Promise<void> {
    const heard = await this.#deathNotices.read(change);
    if (!heard) return;
    const { kind, table, key, time, isLate } = heard;
    if (!key) return this.#truncation.carryOut(table.relation, { ...context, commitTime: time });
    if (kind === 'kill') {
      await askAnswered(this.#session, table.local.oid, storedKey(table, key), this.#provider.id);
      return this.#delete(table, key, { ...context, commitTime: time, isUndecided: true, isLate });
    }
    const writer = writerWithId(this.#origins(), heard.writer);
    return this.#losers.follow(table, key, { time, writer }, context);
  }

  // Definitions --------------------------------------------------------------------------------------------------------

  /** What the transaction has written by then is settled first: afterwards its tables may be others. */
  async #runCommand(change: InsertChange, context: ChangeContext): Promise<void> {
    await this.deletions.settle();
    await this.#commands.run(change, context);
  }

  /** Writes the change's row over the locked one, its key too: equal keys may be spelt differently. */
  async #overwrite(
    table: Table,
    values: RowValues,
    found: FoundRow,
    context: ChangeContext,
  ): Promise<ConflictAction> {
    // What was not sent may be kept only in a row that this provider wrote.
    const isTheirs = this.#isProviders(found);
    const isLater = !isTheirs && !isComplete(values) && this.#readsLater(table);
    if (isLater) await this.#noteUnread(table, values);
    const keeps = isTheirs || isLater;
    const row = keeps ? values : await completed(table, values, this.#readFromProvider);
    if (!row) return this.#deleteUnread(table, values, found, context);
    const lost = await this.#makeRoom(table, row, found, context, values);
    if (lost) return lost;
    const columns = sql.writable(table, sentIn(row));
    const settable = sql.settable(columns);
    const isFixed = hasFixedColumn(table) && isComplete(row);
    if (settable.length === 0 || isFixed) {
      // No UPDATE can do that.
      const whole = await this.#rows.withKept(table, found, row);
      const inserted = [...columns, ...table.kept];
      await this.#onTable.run(table, sql.lockedDeleteSql(table), [found.ctid]);
      await this.#insertOrFail(table, inserted, columnParams(inserted, whole));
    } else {
      await this.#onTable.run(table, sql.lockedUpdateSql(table, settable), [
        ...columnParams(settable, row),
        found.ctid,
      ]);
    }
    if (table.key.deferrable) this.#deferred.changed(table, row, context);
    return 'update';
  }

  /** A row under the key of one that cannot be read is met by that one, and may lose to it: that is a conflict like any other. */
  async #insertUnread(
    table: Table,
    values: RowValues,
    context: ChangeContext,
    brought: RowValues | undefined,
  ): Promise<ConflictAction> {
    const found = Tombstones.byKey(table)
      ? await this.#rows.find(table, values, context.commitTime)
      : undefined;
    if (!found) return this.#deleteUnread(table, values, undefined, context);
    const unread = { ...context, isUnread: true };
    return this.#resolve('insert', table, values, values, found, unread, brought);
  }

  /**
   * The provider has the row no more, so that its long values cannot be read. What has removed it is on its way, but may have its very
   * version (a kill), or none that comes here (what a third node's row has lost to). Until then this counts as a deletion of the change's
   * version: nothing older may take its place, in a group perhaps, under a later stamp (found by the simulation). Not where deletions of
   * the table are not sent to this node: rows stay here then.
   */
  async #deleteUnread(
    table: Table,
    values: RowValues,
    found: FoundRow | undefined,
    context: ChangeContext,
  ): Promise<ConflictAction> {
    if (!Tombstones.byKey(table)) return 'skip';
    if (
      !isOwn(table.relation) &&
      !(await getsDeletions(this.#session, table.local.oid, this.#provider.id))
    )
      return 'skip';
    const isUnread = found !== undefined;
    await this.#delete(table, values, { ...context, isUndecided: true, isUnread });
    return found ? 'delete' : 'skip';
  }

  /** Whether long values that were not sent are read from the provider only when the transaction is committed here, if rows have keys to note them by. */
  #readsLater(table: Table): boolean {
    return this.#hasCommands && Tombstones.byKey(table);
  }

  /** Notes that the row's long values are to be read. */
  #noteUnread(table: Table, values: RowValues): Promise<void> {
    return noteLostValue(this.statements, table, values, this.#provider.id, this.#origins());
  }

  #isProviders({ row }: FoundRow): boolean {
    return (
      row.kind === 'own' ||
      (row.kind === 'versioned' && sameNode(row.version.writer.id, this.#provider.id))
    );
  }

  /**
   * Rows that a change overwrites without looking: they are older than the change, and its writer had seen them. So are rows without
   * a record, unless the change is old itself.
   */
  certain(context: ChangeContext): Certain {
    const { commitTime, seen } = context;
    // Most changes follow the same heartbeat.
    if (seen !== this.#seen) {
      this.#seen = seen;
      this.#seenUpTo = seen.upToOfAll(this.#otherNodes());
    }
    const limit = this.#seenUpTo < commitTime ? this.#seenUpTo : commitTime;
    return { limit, unrecorded: this.#proof.trusts(context) ? 'taken' : 'left' };
  }
}

/** Whether the row has the very version of the change, or none that is known. */
function isOfTime(found: FoundRow | undefined, { commitTime }: ChangeContext): boolean {
  return found?.row.kind !== 'versioned' || found.row.version.time === commitTime;
}
