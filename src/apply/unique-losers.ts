import type { PgTime } from '../base/pg-time.ts';
import { putIntoOutbox, type OutgoingDeath } from '../catalog/outbox.ts';
import type { ConflictAction } from '../catalog/conflict-history.ts';
import type { Conflict } from '../conflict/decide.ts';
import { answerTo, deathOf, losesTo, type Death } from '../conflict/unique.ts';
import type { Version, Writer } from '../conflict/version.ts';
import { sameNode } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';
import { hasUnseenCommit } from '../postgres/snapshot-shows.ts';
import { readUniqueness, type UniqueIndex, type Uniqueness } from '../postgres/unique-indexes.ts';
import type { ChangeContext } from './change-context.ts';
import type { ConflictLog, MetChange } from './conflict-log.ts';
import { sentIn } from './fast-statements.ts';
import { MustWait } from './lock-conflict.ts';
import { columnParams, keyParams, type FoundRow, type LocalRows } from './local-rows.ts';
import { rivalsSql, type Candidate } from './rival-statements.ts';
import { isComplete, UNSENT, type RowValues } from './row-values.ts';
import { lockedDeleteSql, writable } from './statements.ts';
import { keyName, storedKey } from './stored-keys.ts';
import { keyOnly, type Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';
import { keyArrays, Tombstones } from './tombstones.ts';
import type { OriginMap } from './writers.ts';

/** A row, with its key, that has a value which another row is to have. */
type Rival = FoundRow & {
  readonly key: RowValues;
  /**
   * Both are rows of this very transaction, and one of them, the other row or this rival, has values in the index that were read from the
   * provider as they are by now: its next change is on its way, and it is no collision.
   */
  readonly movesOn: 'other' | 'rival' | undefined;
};

/** What remembers and records that a row has lost. */
interface Unsettled {
  readonly table: Table;
  readonly settle: () => Promise<void>;
}

/** So many rows of one transaction that have lost to others of it are kept, until it is certain; then they are taken to be lost. */
const MOST_UNSETTLED = 1000;

/** Before every commit with a record, and a whole number. */
const LEAST_TIME = 0 as PgTime;

/**
 * Rows that have one value in a unique index besides the key (DESIGN 4.2, rule 10), inside the caller's transaction: the greatest
 * stays, the others lose. Under a loser's key nothing is left, an older row neither, and a tombstone of the loser's own version. The
 * whole row goes into the history, and its death into the outbox.
 *
 * Rows of *other* transactions are in the way: the provider's index was right after each of its statements, or, where it is deferrable,
 * at the commit, and changes are written here in the same order. So this is for one transaction row by row. Of the transaction's own
 * rows one is in the way of another where the provider lacks the index, and where values were read as they are by now.
 */
export class UniqueLosers {
  readonly #session: Session;
  readonly #onTable: TableStatements;
  readonly #rows: LocalRows;
  readonly #tombstones: Tombstones;
  readonly #conflicts: ConflictLog;
  readonly #origins: () => OriginMap;
  readonly #provider: Writer;
  readonly #seenUpTo: () => PgTime;
  readonly #uniqueness = new WeakMap<Table, Uniqueness>();
  /** To be told at the end: what the transaction's own rows ask for, by table and key, since a later one may have found room. */
  #asked = new Map<string, OutgoingDeath>();
  /** What remembers and records those of them that are not yet. */
  #unsettled = new Map<string, Unsettled>();
  #others: OutgoingDeath[] = [];
  /** Of rows of the transaction, by table and key: the columns whose values were read from the provider. */
  #read = new Map<string, ReadonlySet<string>>();
  /** Rows that were written under an index that is checked at the end. */
  #deferred = new Map<
    string,
    {
      readonly table: Table;
      readonly key: RowValues;
      readonly context: ChangeContext;
    }
  >();

  constructor(options: {
    session: Session;
    onTable: TableStatements;
    rows: LocalRows;
    tombstones: Tombstones;
    conflicts: ConflictLog;
    origins: () => OriginMap;
    provider: Writer;
    /** Up to here nothing of any other node than the provider is still on its way. */
    seenUpTo: () => PgTime;
  }) {
    this.#session = options.session;
    this.#onTable = options.onTable;
    this.#rows = options.rows;
    this.#tombstones = options.tombstones;
    this.#conflicts = options.conflicts;
    this.#origins = options.origins;
    this.#provider = options.provider;
    this.#seenUpTo = options.seenUpTo;
  }

  /** A local transaction begins. */
  begin(): void {
    this.#asked = new Map();
    this.#unsettled = new Map();
    this.#others = [];
    this.#read = new Map();
    this.#deferred = new Map();
  }

  /**
   * Removes the rows that have a value which `row` is to have, if that is greater than all of them; else it has lost, and what is under
   * its key, `found`, goes. Returns what has become of that instead of being overwritten, undefined where the row may be written.
   * `sent`: the row as it came; what is UNSENT there, and not in `row`, was read from the provider as it is by now.
   */
  async makeRoom(
    table: Table,
    row: RowValues,
    found: FoundRow | undefined,
    context: ChangeContext,
    sent: RowValues,
  ): Promise<'skip' | 'delete' | undefined> {
    if (!Tombstones.byKey(table)) return undefined;
    const name = keyName(table, row);
    this.#noteRead(name, table, row, sent);
    const candidate = {
      sent: writable(table, sentIn(row)),
      replaces: found !== undefined,
    };
    const params = columnParams(candidate.sent, row);
    if (found) params.push(found.ctid);
    const immediate = await this.#rivals(table, name, candidate, params, context, true);
    // Another row has a value by now that this one had given up by then.
    if (immediate.some(({ movesOn }) => movesOn === 'other')) return 'skip';
    const greater = immediate.find((one) => losesTo(this.#versionOf(context), one.row));
    if (greater) return this.#lose(table, row, found, greater, context);
    for (const rival of immediate) await this.#defeat(table, row, rival, context);
    this.#takeBack(name);
    // By its last change in a group, which is what its row is compared with others by.
    if (table.local.deferrable) {
      this.#deferred.delete(name);
      this.#deferred.set(name, { table, key: keyOnly(table, row), context });
    }
    return undefined;
  }

  /**
   * An ask of the provider for the row of a version: it goes if it is this node's and no newer. It may have come to the provider before
   * it is seen here, and could not be found yet: then the ask waits. Its own time may be below `asked`, which a group has stamped.
   */
  async follow(
    table: Table,
    key: RowValues,
    asked: Version,
    context: ChangeContext,
  ): Promise<void> {
    const { local } = this.#origins();
    if (sameNode(asked.writer.id, local.id) && (await hasUnseenCommit(this.#session, asked.time))) {
      throw new MustWait('the commit of a row that is asked for is not seen yet');
    }
    const found = await this.#rows.find(table, key, asked.time);
    const death = answerTo(asked, found?.row, local, this.#knownUpTo(context));
    if (!found || !death) return;
    await this.#record('delete', 'keep_remote', table, key, found, context, 'delete');
    await this.#bury(table, { ...found, key }, death);
  }

  /** The transaction has deleted a row: that has lost nothing to anybody. */
  gone(table: Table, key: RowValues): void {
    this.#takeBack(keyName(table, key));
  }

  /** OIDs of the tables of which rows are to be looked at, or remembered. */
  tables(): string[] {
    return [...this.#deferred.values(), ...this.#unsettled.values()].map(
      ({ table }) => table.local.oid,
    );
  }

  /** Looks at what is checked at the end, of some tables or of all. */
  async settle(isMeant: (table: Table) => boolean = () => true): Promise<void> {
    for (const [name, { table, key, context }] of this.#deferred) {
      if (!isMeant(table)) continue;
      this.#deferred.delete(name);
      await this.#settleDeferred(table, key, context);
    }
    await this.#settleAsked(isMeant);
  }

  /**
   * Ends the transaction's changes: looks at what is checked at the end, and puts what is to be told into the outbox. Returns whether that
   * was anything.
   */
  async finish(): Promise<boolean> {
    await this.settle();
    const deaths = [...this.#others, ...this.#asked.values()];
    if (deaths.length > 0) await putIntoOutbox(this.#session, deaths);
    return deaths.length > 0;
  }

  async #settleDeferred(table: Table, key: RowValues, context: ChangeContext): Promise<void> {
    const found = await this.#rows.find(table, key, context.commitTime);
    // Gone by now, or another row again.
    if (found?.row.kind !== 'own') return;
    const row = await this.#rows.filled(table, found, keyOnly(table, key, UNSENT));
    const candidate = { sent: [], replaces: true };
    const name = keyName(table, key);
    const all = await this.#rivals(table, name, candidate, [found.ctid], context, false);
    // Until then they may have one value: in apply, nothing is checked at the end.
    const rivals = all.filter(({ movesOn }) => movesOn === undefined);
    // Of the transaction's own rows the one that was written last is the greatest.
    const greater = rivals.find((one) =>
      one.row.kind === 'own'
        ? this.#deferred.has(keyName(table, one.key))
        : losesTo(this.#versionOf(context), one.row),
    );
    if (greater) await this.#lose(table, row, found, greater, context);
    else for (const rival of rivals) await this.#defeat(table, row, rival, context);
  }

  /** The rows that have the candidate's value in an index that is checked at once, or in one that is not: each once. */
  async #rivals(
    table: Table,
    name: string,
    candidate: Candidate,
    params: Parameters<LocalRows['foundBy']>[2],
    { commitTime }: ChangeContext,
    immediate: boolean,
  ): Promise<Rival[]> {
    const uniqueness = await this.#uniquenessOf(table);
    const found = new Map<string, Rival>();
    for (const index of uniqueness.indexes) {
      if (index.immediate !== immediate || isKey(index, table)) continue;
      const text = rivalsSql(table, uniqueness, index, candidate);
      for (const row of await this.#rows.foundBy(table, text, params, commitTime)) {
        const movesOn = this.#movesOn(table, name, row, isReadIn(index, uniqueness));
        // One index is enough to collide in.
        if (movesOn === undefined || !found.has(row.ctid)) found.set(row.ctid, { ...row, movesOn });
      }
    }
    return [...found.values()];
  }

  #movesOn(
    table: Table,
    name: string,
    rival: Omit<Rival, 'movesOn'>,
    isReadIn: (read: ReadonlySet<string> | undefined) => boolean,
  ): Rival['movesOn'] {
    if (rival.row.kind !== 'own') return undefined;
    if (isReadIn(this.#read.get(name))) return 'other';
    return isReadIn(this.#read.get(keyName(table, rival.key))) ? 'rival' : undefined;
  }

  #noteRead(name: string, table: Table, row: RowValues, sent: RowValues): void {
    const read = table.columns.filter(
      ({ position }) => sent[position] === UNSENT && row[position] !== UNSENT,
    );
    if (read.length > 0) this.#read.set(name, new Set(read.map((column) => column.name)));
    else if (isComplete(row)) this.#read.delete(name);
  }

  async #uniquenessOf(table: Table): Promise<Uniqueness> {
    const known =
      this.#uniqueness.get(table) ?? (await readUniqueness(this.#session, table.local.oid));
    this.#uniqueness.set(table, known);
    return known;
  }

  /** The provider's row has lost to `greater`. */
  async #lose(
    table: Table,
    row: RowValues,
    found: FoundRow | undefined,
    greater: Rival,
    context: ChangeContext,
  ): Promise<'skip' | 'delete'> {
    const whole = found ? await this.#rows.filled(table, found, row) : row;
    const action = found ? 'delete' : 'skip';
    await this.#record('insert', 'keep_local', table, whole, greater, context, action);
    if (found) await this.#onTable.run(table, lockedDeleteSql(table), [found.ctid]);
    const version = this.#versionOf(context);
    await this.#remember(table, row, version);
    const death = { kind: 'ask', version } as const;
    this.#asked.set(keyName(table, row), outgoing(table, row, death));
    return action;
  }

  async #defeat(table: Table, row: RowValues, rival: Rival, context: ChangeContext): Promise<void> {
    const death = deathOf(rival.row, this.#origins().local, this.#knownUpTo(context));
    if (!death) return this.#defeatOwn(table, row, rival, context);
    await this.#record('insert', 'keep_remote', table, row, rival, context, 'delete');
    await this.#bury(table, rival, death);
  }

  /** Of two rows of the transaction the earlier one has lost, unless the transaction writes or deletes it once more. */
  async #defeatOwn(
    table: Table,
    row: RowValues,
    rival: Rival,
    context: ChangeContext,
  ): Promise<void> {
    const name = keyName(table, rival.key);
    const met = { kind: 'insert', table, values: row, found: rival, context } as const;
    const keep =
      rival.movesOn === undefined &&
      (await this.#conflicts.read({ ...met, tombstone: undefined }, lastWins('keep_remote')));
    await this.#onTable.run(table, lockedDeleteSql(table), [rival.ctid]);
    if (!keep) return;
    // Its own time, in a group.
    const version = this.#versionOf(this.#deferred.get(name)?.context ?? context);
    this.#asked.set(name, outgoing(table, rival.key, { kind: 'ask', version }));
    const settle = async () => {
      await this.#remember(table, rival.key, version);
      await keep('delete');
    };
    this.#unsettled.set(name, { table, settle });
    if (this.#unsettled.size >= MOST_UNSETTLED) await this.#settleAsked();
  }

  async #settleAsked(isMeant: (table: Table) => boolean = () => true): Promise<void> {
    for (const [name, { table, settle }] of this.#unsettled) {
      if (!isMeant(table)) continue;
      this.#unsettled.delete(name);
      await settle();
    }
  }

  #takeBack(name: string): void {
    this.#asked.delete(name);
    this.#unsettled.delete(name);
  }

  async #bury(table: Table, row: FoundRow & { key: RowValues }, death: Death): Promise<void> {
    await this.#onTable.run(table, lockedDeleteSql(table), [row.ctid]);
    await this.#remember(table, row.key, death.version);
    this.#others.push(outgoing(table, row.key, death));
  }

  #remember(table: Table, key: RowValues, { time, writer }: Version): Promise<void> {
    const keys = keyArrays(table, [{ time, key: keyParams(table, key) }]);
    return this.#tombstones.add(table, keys, writer.id);
  }

  async #record(
    kind: MetChange['kind'],
    kept: 'keep_local' | 'keep_remote',
    table: Table,
    values: RowValues,
    found: FoundRow,
    context: ChangeContext,
    action: ConflictAction,
  ): Promise<void> {
    const conflict = lastWins(kept);
    const met = { kind, table, values, found, tombstone: undefined, context };
    await this.#conflicts.during(met, { action: 'apply', conflict }, () => Promise.resolve(action));
  }

  #versionOf({ commitTime }: ChangeContext): Version {
    return { time: commitTime, writer: this.#provider };
  }

  /** Up to here this node has seen everything, of the provider too: its changes come in order. */
  #knownUpTo({ commitTime }: ChangeContext): PgTime {
    return Math.max(LEAST_TIME, Math.min(this.#seenUpTo(), commitTime - 1)) as PgTime;
  }
}

function lastWins(kept: 'keep_local' | 'keep_remote'): Conflict {
  return {
    type: 'insert_insert',
    resolution: `last_update_wins_${kept}`,
    rule: 'unique_index',
  };
}

/** Tells whether columns that were read are what an index looks at. What expressions look at is not known. */
function isReadIn(
  { terms, predicate }: UniqueIndex,
  { generated }: Uniqueness,
): (read: ReadonlySet<string> | undefined) => boolean {
  const isOpaque =
    predicate !== null ||
    terms.some(({ column }) => column === null || generated.some(({ name }) => name === column));
  return (read) =>
    read !== undefined && (isOpaque || terms.some(({ column }) => read.has(column ?? '')));
}

/** The index that rows are found by: who has that value is no rival. */
function isKey({ terms, predicate }: UniqueIndex, { key }: Table): boolean {
  return (
    predicate === null &&
    terms.length === key.columns.length &&
    terms.every(({ column }) => key.columns.some(({ name }) => name === column))
  );
}

function outgoing(table: Table, row: RowValues, death: Death): OutgoingDeath {
  return { ...death, relation: table.local.oid, key: storedKey(table, row) };
}
