import type { ChangeContext } from '../../../src/apply/change-context.ts';
import type { PgTime } from '../../../src/base/pg-time.ts';
import type { LocalRow } from '../../../src/conflict/decide.ts';
import { compareVersions, type Version, type Writer } from '../../../src/conflict/version.ts';
import { sameNode } from '../../../src/model/node.ts';
import { originsBelow, writerOf } from '../../../src/apply/writers.ts';
import type { Steps, Wait } from './process.ts';
import type { ModelServer } from './server.ts';
import type { Row, TableLock, Tombstone, Transaction } from './transaction.ts';
import { COPY_ORIGIN, NO_TIME, originMap, originOf, type World } from './world.ts';
import { hasUniqueIndex } from './switches.ts';

/** What a statement writes under a key. */
export interface Values {
  readonly key: string;
  readonly v: string;
  readonly big: string;
}

/** A statement that was refused: a duplicate key. */
export const UNIQUE_VIOLATION = new Error('duplicate key value violates unique constraint');

/**
 * The statements that apply and users run, at READ COMMITTED: each has a snapshot of its own, and waits for rows that another
 * transaction holds. Each says which SQL it stands for.
 */
export class Statements {
  readonly #world: World;
  readonly server: ModelServer;

  constructor(world: World, server: ModelServer) {
    this.#world = world;
    this.server = server;
  }

  // Rows ---------------------------------------------------------------------------------------------------------------

  /** INSERT … ON CONFLICT DO NOTHING: insertSql() with skipExisting, setInsertSql(). Returns whether it did. */
  *insert(transaction: Transaction, values: Values): Steps<boolean> {
    yield* this.lockTable(transaction, 'row exclusive');
    const { server } = this;
    const { key } = values;
    // It looks at what is there now, in no snapshot, and waits for whoever is writing there.
    for (;;) {
      while (this.#isWrittenByOther(transaction, key)) yield this.#unheld(transaction, key);
      if (this.#now(transaction, key)) return false;
      const writer = hasUniqueIndex(this.#world.switches) && this.#writerOf(transaction, values);
      if (!writer) break;
      yield { ready: () => writer.phase === 'ended', isLock: true };
    }
    if (hasUniqueIndex(this.#world.switches) && this.#isTaken(transaction, values)) return false;
    server.lock(transaction, key);
    transaction.rows.set(key, this.#row(values, server.newChain()));
    server.xidOf(transaction);
    return true;
  }

  /** The same without ON CONFLICT: insertSql(), copySql(). */
  *insertOrFail(transaction: Transaction, values: Values): Steps {
    if (!(yield* this.insert(transaction, values))) throw UNIQUE_VIOLATION;
  }

  /**
   * UPDATE … WHERE key AND test: fastUpdateSql(), ownUpdateSql(), setUpdateSql(), setOwnUpdateSql(); a user's with no test. Returns
   * the row that it replaced.
   */
  *update(
    transaction: Transaction,
    key: string,
    change: (row: Row) => Values,
    test: (row: Row) => boolean = () => true,
    snapshot = this.server.seen,
  ): Steps<Row | undefined> {
    const row = yield* this.#lockRow(transaction, key, test, snapshot);
    if (!row) return undefined;
    const values = change(row);
    yield* this.#takeValue(transaction, values);
    this.#noteReplaced(transaction, row);
    transaction.rows.set(key, this.#row(values, row.chain));
    return row;
  }

  /** DELETE … WHERE key AND test: fastDeleteSql(), setDeleteSql(), lockedDeleteSql(). */
  *delete(
    transaction: Transaction,
    key: string,
    test: (row: Row) => boolean = () => true,
    snapshot = this.server.seen,
  ): Steps<Row | undefined> {
    const row = yield* this.#lockRow(transaction, key, test, snapshot);
    if (!row) return undefined;
    this.#noteReplaced(transaction, row);
    transaction.rows.set(key, undefined);
    return row;
  }

  #noteReplaced(transaction: Transaction, row: Row): void {
    if (transaction.session.origin === 0) transaction.replaced.push(row);
  }

  // The unique index ---------------------------------------------------------------------------------------------------

  /** What the index does when a row gets a value: it waits for whoever is writing it, and refuses one that another row has. */
  *#takeValue(transaction: Transaction, values: Values): Steps {
    if (!hasUniqueIndex(this.#world.switches)) return;
    for (;;) {
      const writer = this.#writerOf(transaction, values);
      if (!writer) break;
      yield { ready: () => writer.phase === 'ended', isLock: true };
    }
    if (this.#isTaken(transaction, values)) throw UNIQUE_VIOLATION;
  }

  /** Another transaction, open, that has given the value to a row or taken it from one. */
  #writerOf(transaction: Transaction, { key, v }: Values): Transaction | undefined {
    for (const other of this.server.open) {
      if (other === transaction) continue;
      for (const [at, row] of other.rows) {
        if (at === key || transaction.rows.has(at)) continue;
        if (this.#share(row?.v, v) || this.#share(this.server.latest(at)?.v, v)) return other;
      }
    }
    return undefined;
  }

  #isTaken(transaction: Transaction, { key, v }: Values): boolean {
    for (const at of this.server.keys()) {
      if (at !== key && this.#share(this.#now(transaction, at)?.v, v)) return true;
    }
    return false;
  }

  /** Whether two rows have one value in a unique index: in `v`, or, where there are two of them, in one of its halves. */
  #share(one: string | undefined, other: string): boolean {
    if (one === undefined) return false;
    return this.#world.switches.uniques ? haveCommonHalf(one, other) : one === other;
  }

  /** What is looked for as a rival: as above, but in the mutant. */
  #rivals(one: string, other: string): boolean {
    const isOneIndex = this.#world.has('rivals of the first index only');
    return isOneIndex ? one.split(' ')[0] === other.split(' ')[0] : this.#share(one, other);
  }

  /** rivalsSql(): the rows of other keys that have the value in the unique index, locked. */
  *rivals(transaction: Transaction, { key, v }: Values): Steps<Row[]> {
    const rows: Row[] = [];
    for (const { key: other } of this.seenRows(transaction).filter((row) =>
      this.#rivals(row.v, v),
    )) {
      if (other === key) continue;
      const row = yield* this.find(transaction, other);
      if (row && this.#rivals(row.v, v)) rows.push(row);
    }
    return rows;
  }

  /** SELECT … WHERE key FOR UPDATE: fetchSql(), fetchAllSql(). */
  *find(transaction: Transaction, key: string): Steps<Row | undefined> {
    return yield* this.#lockRow(transaction, key, () => true, this.server.seen);
  }

  /** Finds the row in the statement's snapshot, waits until nobody else holds it, and tests what it has become (EvalPlanQual). */
  *#lockRow(
    transaction: Transaction,
    key: string,
    test: (row: Row) => boolean,
    snapshot: number,
  ): Steps<Row | undefined> {
    yield* this.lockTable(transaction, 'row exclusive');
    const { server } = this;
    const row = server.visible(transaction, key, snapshot);
    if (!row || !test(row)) return undefined;
    if (transaction.rows.has(key)) return row;
    while (this.#isHeldByOther(transaction, key)) yield this.#unheld(transaction, key);
    const now = server.latest(key);
    // Deleted meanwhile; what may be there instead is a row that the snapshot does not show.
    if (!now || now.chain !== row.chain) return undefined;
    const tested = this.#world.has('condition on the old row') || now === row || test(now);
    if (!tested) return undefined;
    server.lock(transaction, key);
    server.xidOf(transaction);
    return now;
  }

  #row({ key, v, big }: Values, chain: number): Row {
    return { key, v, big, chain, time: NO_TIME, origin: 0, xid: 0 };
  }

  #now(transaction: Transaction, key: string): Row | undefined {
    return transaction.rows.has(key) ? transaction.rows.get(key) : this.server.latest(key);
  }

  #isHeldByOther(transaction: Transaction, key: string): boolean {
    const holder = this.server.holder(key);
    return holder !== undefined && holder !== transaction;
  }

  #isWrittenByOther(transaction: Transaction, key: string): boolean {
    const holder = this.server.holder(key);
    return holder !== undefined && holder !== transaction && holder.rows.has(key);
  }

  #unheld(transaction: Transaction, key: string): Wait {
    return { ready: () => !this.#isHeldByOther(transaction, key), isLock: true };
  }

  // Tests on versions --------------------------------------------------------------------------------------------------

  /** versionTest(): the provider's own, or older than `limit`, or of this very transaction. */
  versionTest(transaction: Transaction, provider: number, limit: PgTime): (row: Row) => boolean {
    const takesAll = this.#world.has('fast path without its condition');
    const knowsProvider = !this.#world.has('no rule for the same writer');
    return (row) =>
      this.isOwn(transaction, row) ||
      (knowsProvider && row.origin === originOf(provider)) ||
      row.time < limit ||
      takesAll;
  }

  /** `ORIGIN = $n OR OWN`: ownUpdateSql(), setOwnUpdateSql(). */
  ownTest(transaction: Transaction, provider: number): (row: Row) => boolean {
    const anybodys = this.#world.has('unchanged TOAST kept in any row');
    return (row) => anybodys || this.isOwn(transaction, row) || row.origin === originOf(provider);
  }

  /** OWN: written by this very transaction. */
  isOwn(transaction: Transaction, row: Row): boolean {
    return transaction.rows.get(row.key) === row;
  }

  /** LocalRows.find(): the row with what decides about it, for a change of `remoteTime`. */
  localRow(
    transaction: Transaction | undefined,
    row: Row,
    remoteTime: PgTime,
  ): Exclude<LocalRow, { kind: 'missing' }> {
    if (transaction && this.isOwn(transaction, row)) return { kind: 'own' };
    const { key, time, origin } = row;
    const isTrue = origin !== COPY_ORIGIN || this.#world.has('copied rows are as new as the copy');
    if (isTrue) return { kind: 'versioned', version: this.#recorded(row) };
    if (remoteTime > time) return { kind: 'older' };
    const version = this.server.versions().find((one) => one.key === key);
    return version ? { kind: 'versioned', version } : { kind: 'older' };
  }

  /** What its commit record says. */
  #recorded({ time, origin }: Row): Version {
    return { time, writer: writerOf(originMap(this.#world.servers, this.server), origin) };
  }

  // The whole table ----------------------------------------------------------------------------------------------------

  /** TRUNCATE of a user. */
  *truncate(transaction: Transaction): Steps {
    yield* this.lockTable(transaction, 'access exclusive');
    this.server.xidOf(transaction);
    transaction.truncates = true;
    for (const key of this.server.keys()) this.#remove(transaction, key);
  }

  /** unseenTruncatedSql(), truncateSql(): removes the rows that lose to a provider's TRUNCATE. */
  *removeTruncated(
    transaction: Transaction,
    provider: number,
    { commitTime: time, seen }: ChangeContext,
  ): Steps {
    const { server } = this;
    const { writer } = this.#world.servers[provider] as ModelServer;
    const below = originsBelow(originMap(this.#world.servers, server), writer);
    // copiedRowsAbove(), without which the copy's stamp counts.
    const isKept = ({ key }: Row) =>
      this.#world.has('TRUNCATE goes by the stamps of copied rows') ||
      server
        .versions()
        .some(
          (one) =>
            one.key === key &&
            !sameNode(one.writer.id, writer.id) &&
            compareVersions(one, { time, writer }) > 0,
        );
    const loses = (row: Row) =>
      this.isOwn(transaction, row) ||
      row.origin === originOf(provider) ||
      row.time < time ||
      (row.time === time && below.includes(row.origin)) ||
      (row.origin === COPY_ORIGIN && !isKept(row));
    const snapshot = server.seen;
    const seenUpTo = seen.upTo(server.writer.id);
    const isRecorded = !this.#world.has('what a TRUNCATE takes goes in silence');
    for (const key of server.keys()) {
      const row = yield* this.delete(transaction, key, loses, snapshot);
      if (row && row.origin === 0 && row.time > seenUpTo && isRecorded) {
        transaction.inHistory.push({ row });
      }
    }
  }

  /** BelowTombstones.removeTruncated(): what other nodes wrote before this node truncated the table, and what came in only afterwards. */
  *removeTruncatedRest(transaction: Transaction, time: PgTime): Steps {
    const { server } = this;
    const below = originsBelow(originMap(this.#world.servers, server), server.writer);
    const loses = (row: Row) =>
      row.origin !== 0 && (row.time < time || (row.time === time && below.includes(row.origin)));
    const snapshot = server.seen;
    for (const key of server.keys()) {
      const row = yield* this.delete(transaction, key, loses, snapshot);
      const isKept = !this.#world.has('what lies below a deletion goes in silence');
      if (row && isKept) transaction.inHistory.push({ row });
    }
  }

  /** noteRowsOfOthers(): those that a TRUNCATE has left. */
  noteRowsOfOthers(transaction: Transaction): void {
    const { providers } = originMap(this.#world.servers, this.server);
    for (const { key, origin } of this.seenRows(transaction)) {
      const copied =
        origin === COPY_ORIGIN && this.server.versions().find((one) => one.key === key);
      const writer = copied ? copied.writer : providers.get(origin);
      if (writer) this.noteLostValue(transaction, key, writer);
    }
  }

  /** The rows of the table as a statement of the transaction sees them. */
  seenRows(transaction: Transaction): Row[] {
    const { server } = this;
    return [...server.keys()].flatMap((key) => server.visible(transaction, key, server.seen) ?? []);
  }

  #remove(transaction: Transaction, key: string): void {
    const row = this.#now(transaction, key);
    if (!row) return;
    this.#noteReplaced(transaction, row);
    this.server.lock(transaction, key);
    transaction.rows.set(key, undefined);
  }

  /** LOCK TABLE, and what each statement takes by itself. */
  *lockTable(transaction: Transaction, wanted: TableLock): Steps {
    if (transaction.tableLock && RANK[transaction.tableLock] >= RANK[wanted]) return;
    const isFree = () => {
      for (const other of this.server.open) {
        if (other !== transaction && other.tableLock && conflict(other.tableLock, wanted)) {
          return false;
        }
      }
      return true;
    };
    if (!isFree()) yield { ready: isFree, isLock: true };
    transaction.tableLock = wanted;
  }

  // The gate -----------------------------------------------------------------------------------------------------------

  /** LOCK TABLE bdr.bdr_local_node IN ROW SHARE MODE, or IN EXCLUSIVE MODE: src/catalog/apply-gate.ts. */
  *lockGate(transaction: Transaction, mode: 'shared' | 'exclusive'): Steps {
    const isFree = () => {
      for (const other of this.server.open) {
        if (other === transaction || !other.gate) continue;
        if (mode === 'exclusive' || other.gate === 'exclusive') return false;
      }
      return true;
    };
    if (!isFree()) yield { ready: isFree, isLock: true };
    transaction.gate = mode;
  }

  /** openApplyTransactions() */
  openApply(): Transaction[] {
    return [...this.server.open].filter(({ gate }) => gate !== undefined);
  }

  // Tombstones ---------------------------------------------------------------------------------------------------------

  /** askAnswered() */
  askAnswered(transaction: Transaction, key: string, writer: Writer): void {
    const open = this.server.openAsks().filter((one) => one.key === key && one.writer === writer);
    transaction.answered.push(...open);
  }

  /** addTombstonesSql(), addTableTombstoneSql(): without a key, of the table. */
  remember(transaction: Transaction, key: string | undefined, time: PgTime, writer: Writer): void {
    if (this.#world.has('deletions leave no tombstone')) return;
    transaction.tombstones.push({ key, time, writer });
    this.server.xidOf(transaction);
  }

  /** anyTombstoneSql */
  remembersAny(transaction: Transaction): boolean {
    return this.server.tombstones(transaction).length > 0;
  }

  /** contestedSql(), refuseContestedSql(): whether a row may lose to a tombstone of another writer. */
  isContested(transaction: Transaction, key: string, time: PgTime, writer: Writer): boolean {
    if (this.#world.has('inserts pass tombstones')) return false;
    return this.server
      .tombstones(transaction)
      .some(
        (one) =>
          (one.key === undefined || one.key === key) &&
          one.time >= time &&
          !sameNode(one.writer.id, writer.id),
      );
  }

  /** findTombstoneSql(): the greatest of the key and of the table. */
  tombstoneOf(transaction: Transaction, key: string): Version | undefined {
    let greatest: Tombstone | undefined;
    for (const one of this.server.tombstones(transaction)) {
      if (one.key !== undefined && one.key !== key) continue;
      if (!greatest || compareVersions(one, greatest) > 0) greatest = one;
    }
    return greatest;
  }

  /** purgeTombstones() */
  forget(transaction: Transaction, upTo: PgTime): void {
    transaction.forgotten = this.server.tombstones(transaction).filter(({ time }) => time <= upTo);
    if (transaction.forgotten.length > 0) this.server.xidOf(transaction);
  }

  /** purgeRowVersions() */
  forgetVersions(transaction: Transaction, upTo: PgTime): void {
    if (this.server.lostValues().length > 0) return;
    transaction.forgottenVersions = this.server.versions().filter(({ time }) => time <= upTo);
    if (transaction.forgottenVersions.length > 0) this.server.xidOf(transaction);
  }

  /** noteLostValue(): something lost to a row of `writer`; if that is another node, its long value is read again from there. */
  noteLostValue(transaction: Transaction, key: string, { id }: Writer): void {
    // A change that brings its old row brings all values.
    if (sameNode(id, this.server.writer.id) || this.#world.policy) return;
    const origin = originOf(this.#world.servers.findIndex(({ writer }) => sameNode(writer.id, id)));
    const noted = [...this.server.lostValues(), ...transaction.lost];
    if (noted.some((one) => one.key === key && one.writer === origin)) return;
    transaction.lost.push({ key, writer: origin });
    this.server.xidOf(transaction);
  }
}

/** Of values that User.#v() makes. */
function haveCommonHalf(one: string, other: string): boolean {
  const halves = other.split(' ');
  return one.split(' ').some((half, at) => half === halves[at]);
}

const RANK = { 'row exclusive': 0, 'share row exclusive': 1, 'access exclusive': 2 } as const;

function conflict(held: TableLock, wanted: TableLock): boolean {
  return RANK[held] + RANK[wanted] > 0;
}
