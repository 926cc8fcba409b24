import type { PgTime } from '../base/pg-time.ts';
import { putIntoOutbox, type OutgoingDeath } from '../catalog/outbox.ts';
import type { ConflictAction } from '../catalog/conflict-history.ts';
import type { Resolution } from '../conflict/decide.ts';
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
import { UNSENT, type RowValues } from './row-values.ts';
import { lockedDeleteSql, writable } from './statements.ts';
import { keyName, storedKey } from './stored-keys.ts';
import { keyOnly, type Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';
import { keyArrays, Tombstones } from './tombstones.ts';
import type { OriginMap } from './writers.ts';

/** A row, with its key, that has a value which another row is to have. */
type Rival = FoundRow & { readonly key: RowValues };

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
  #others: OutgoingDeath[] = [];
  /** Rows of the transaction, by table and key, with values that were read from the provider: their next change is on its way. */
  #read = new Set<string>();
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
    this.#others = [];
    this.#read = new Set();
    this.#deferred = new Map();
  }

  /**
   * Removes the rows that have a value which `row` is to have, if that is greater than all of them; else it has lost, and what is under
   * its key, `found`, goes. Returns what has become of that instead of being overwritten, undefined where the row may be written.
   * `isRead`: some of its values were read from the provider as they are by now.
   */
  async makeRoom(
    table: Table,
    row: RowValues,
    found: FoundRow | undefined,
    context: ChangeContext,
    isRead: boolean,
  ): Promise<'skip' | 'delete' | undefined> {
    if (!Tombstones.byKey(table)) return undefined;
    const name = keyName(table, row);
    if (isRead) this.#read.add(name);
    const candidate = {
      sent: writable(table, sentIn(row)),
      replaces: found !== undefined,
    };
    const params = columnParams(candidate.sent, row);
    if (found) params.push(found.ctid);
    const immediate = await this.#rivals(table, candidate, params, context, true);
    // Another row has a value by now that this one had given up by then: its next change is on its way.
    if (isRead && immediate.some(({ row: { kind } }) => kind === 'own')) return 'skip';
    const greater = immediate.find((one) => losesTo(this.#versionOf(context), one.row));
    if (greater) return this.#lose(table, row, found, greater, context);
    for (const rival of immediate) await this.#defeat(table, row, rival, context);
    this.#asked.delete(name);
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

  /** Ends the transaction's changes: looks at what is checked at the end, and puts what is to be told into the outbox. */
  async finish(): Promise<void> {
    for (const [name, { table, key, context }] of this.#deferred) {
      this.#deferred.delete(name);
      await this.#settleDeferred(table, key, context);
    }
    const deaths = [...this.#others, ...this.#asked.values()];
    if (deaths.length > 0) await putIntoOutbox(this.#session, deaths);
  }

  async #settleDeferred(table: Table, key: RowValues, context: ChangeContext): Promise<void> {
    const found = await this.#rows.find(table, key, context.commitTime);
    // Gone by now, or another row again.
    if (found?.row.kind !== 'own') return;
    const row = await this.#rows.filled(table, found, keyOnly(table, key, UNSENT));
    const candidate = { sent: [], replaces: true };
    const all = await this.#rivals(table, candidate, [found.ctid], context, false);
    // Where one moves on they may have one value until then: in apply, nothing is checked at the end.
    const movesOn = this.#movesOn(table, key);
    const rivals = all.filter(
      (one) => one.row.kind !== 'own' || !(movesOn || this.#movesOn(table, one.key)),
    );
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
      for (const rival of await this.#rows.foundBy(table, text, params, commitTime)) {
        found.set(rival.ctid, rival);
      }
    }
    return [...found.values()];
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
    const death = this.#deathOf(table, rival, context);
    if (death) await this.#record('insert', 'keep_remote', table, row, rival, context, 'delete');
    await this.#bury(table, rival, death);
  }

  #movesOn(table: Table, key: RowValues): boolean {
    return this.#read.has(keyName(table, key));
  }

  /** A row of this very transaction has lost to a later one, unless its next change is on its way. */
  #deathOf(table: Table, { row, key }: Rival, context: ChangeContext): Death | undefined {
    if (row.kind !== 'own') return deathOf(row, this.#origins().local, this.#knownUpTo(context));
    if (this.#movesOn(table, key)) return undefined;
    return { kind: 'ask', version: this.#versionOf(context) };
  }

  async #bury(table: Table, rival: Rival, death: Death | undefined): Promise<void> {
    await this.#onTable.run(table, lockedDeleteSql(table), [rival.ctid]);
    if (!death) return;
    await this.#remember(table, rival.key, death.version);
    const told = outgoing(table, rival.key, death);
    if (rival.row.kind === 'own') this.#asked.set(keyName(table, rival.key), told);
    else this.#others.push(told);
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
    const resolution: Resolution = `last_update_wins_${kept}`;
    const conflict = { type: 'insert_insert', resolution, rule: 'unique_index' } as const;
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
