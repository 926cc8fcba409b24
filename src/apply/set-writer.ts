import { assert } from '../base/assert.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import type { NodeId } from '../model/node.ts';
import type { RowChange } from '../pgoutput/transaction.ts';
import type { Tuple } from '../pgoutput/tuple.ts';
import type { Param, Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import { columnArray } from './arrays.ts';
import type { ChangeContext } from './change-context.ts';
import { isFoldable, TableBatch, tupleOf, type FoldedChange } from './coalesce.ts';
import type { Deletions } from './deletions.ts';
import { copyText } from './copy-text.ts';
import type { LeftChanges } from './left-changes.ts';
import type { Unrecorded } from './row-tests.ts';
import { readValues } from './row-values.ts';
import {
  copySql,
  notInsertedSql,
  setDeleteSql,
  setInsertSql,
  setOwnUpdateSql,
  setUpdateSql,
  type SetStatement,
} from './set-statements.ts';
import { updatable, writable } from './statements.ts';
import { hasFixedColumn, isOwn, type Table } from './table.ts';
import { keyArraysOf, Tombstones, type KeyArrays } from './tombstones.ts';
import type { ChangeWriter } from './writer.ts';

/** What a set writer asks of others, and what it leaves to them. */
export interface SlowWay extends Pick<ChangeWriter, 'certain' | 'groupLimit' | 'tombstones'> {
  readonly deletions: Pick<Deletions, 'isTruncated' | 'settle' | 'takeBack'>;
  readonly left: Pick<LeftChanges, 'write'>;
}

/** The changes that a statement did not take: for the slow way. */
type Left = readonly FoldedChange[];

/** A statement of a batch, of changes of one kind. */
interface Sending {
  readonly table: Table;
  readonly send: () => Promise<Left>;
}

/** From so many rows on COPY is the faster way to insert. */
const LEAST_FOR_COPY = 50;
const COPY_SAVEPOINT = 'bdr_copy';

/**
 * Writes changes as sets: folded by key, then one statement for each table and kind, in the order deletes, updates, inserts. What
 * a set did not take goes the slow way, row by row, in the same local transaction (DESIGN 3.2 and 4.3).
 *
 * While the server works on one batch, the next is folded and put together: `flush` returns once its statements are sent.
 */
export class SetWriter {
  readonly #session: Session;
  readonly #writer: SlowWay;
  readonly #provider: NodeId;
  readonly #providerOrigin: number;
  readonly #beforeBatch: () => Promise<void>;
  #batches = new Map<Table, TableBatch>();
  #added = 0;
  #running: Promise<void> = Promise.resolve();
  /** Tables in which COPY has met a row that was there already, in this transaction. */
  readonly #contended = new Set<Table>();

  constructor(options: {
    session: Session;
    writer: SlowWay;
    provider: NodeId;
    providerOrigin: number;
    /** Called before a batch is sent, when the one before is done. Where it throws, the batch fails. */
    beforeBatch?: () => Promise<void>;
  }) {
    this.#session = options.session;
    this.#writer = options.writer;
    this.#provider = options.provider;
    this.#providerOrigin = options.providerOrigin;
    this.#beforeBatch = options.beforeBatch ?? (() => Promise.resolve());
  }

  /** How many changes were added since the last flush. */
  get size(): number {
    return this.#added;
  }

  /** The tables of the changes that were added since the last flush. */
  tables(): Table[] {
    return [...this.#batches.values()].filter(({ size }) => size > 0).map(({ table }) => table);
  }

  /** A local transaction begins. What was added before is its beginning. */
  begin(): void {
    this.#contended.clear();
  }

  /** Forgets what was added since the last flush. */
  discard(): void {
    this.#batches = new Map();
    this.#added = 0;
  }

  /** As `discard`, and returns when nothing is under way any more: only then may the transaction be rolled back. */
  async abandon(): Promise<void> {
    this.discard();
    const running = this.#running;
    this.#running = Promise.resolve();
    await running.catch(() => undefined);
  }

  /**
   * Takes a change into the batch; false when it cannot: then call `flush` and try again, and if that is refused too, `settle`,
   * and write it alone.
   */
  add(table: Table, change: RowChange, context: ChangeContext): boolean {
    let batch = this.#batches.get(table);
    if (!batch) {
      if (!suitsSets(table) || this.#isUnderOtherDescription(table)) return false;
      batch = new TableBatch(table);
      this.#batches.set(table, batch);
    }
    if (!isFoldable(table, change) || !batch.add(change, context)) return false;
    this.#added += 1;
    return true;
  }

  /** Begins to write the batch, when the one before is done. */
  async flush(): Promise<void> {
    const batches = [...this.#batches.values()].filter(({ size }) => size > 0);
    this.#batches = new Map();
    this.#added = 0;
    if (batches.length === 0) return;
    const statements = batches.flatMap((batch) => this.#prepare(batch));
    await this.#running;
    this.#running = this.#run(statements);
    // A failure is seen by who waits next.
    this.#running.catch(() => undefined);
  }

  /** Returns when all that was added is written. */
  async settle(): Promise<void> {
    await this.flush();
    await this.written();
  }

  /** Returns when all that was flushed is written. */
  async written(): Promise<void> {
    await this.#running;
  }

  /** One after the other: what stood behind a COPY that is taken back would be taken back with it. */
  async #run(statements: readonly Sending[]): Promise<void> {
    await this.#beforeBatch();
    const left: { readonly table: Table; readonly changes: Left }[] = [];
    for (const { table, send } of statements) {
      const changes = await send();
      if (changes.length > 0) left.push({ table, changes });
    }
    for (const { table, changes } of left) await this.#writer.left.write(table, changes);
    // Here, and not at the end: a later batch may bring back what a deletion takes away now.
    if (left.length > 0) await this.#writer.deletions.settle();
  }

  /** The provider has described the table anew: what came before is written before what follows. */
  #isUnderOtherDescription({ local }: Table): boolean {
    for (const [table, { size }] of this.#batches) {
      if (size > 0 && table.local.oid === local.oid) return true;
    }
    return false;
  }

  /** Puts a batch's statements together; what is returned sends them. */
  #prepare(batch: TableBatch): Sending[] {
    const { table } = batch;
    const deletes: FoldedChange[] = [];
    const inserts: FoldedChange[] = [];
    const updates = new Map<string, FoldedChange[]>();
    for (const folded of batch.changes) {
      if (folded.change.kind === 'delete') deletes.push(folded);
      else if (folded.change.kind === 'insert') inserts.push(folded);
      else {
        const alike = updates.get(folded.mask);
        if (alike) alike.push(folded);
        else updates.set(folded.mask, [folded]);
      }
    }
    const sends: (() => Promise<Left>)[] = [];
    if (deletes.length > 0) sends.push(this.#delete(table, deletes));
    for (const [mask, list] of updates) sends.push(this.#update(table, mask, list));
    if (inserts.length > 0) sends.push(this.#insert(table, inserts));
    return sends.map((send) => ({ table, send }));
  }

  #delete(table: Table, changes: readonly FoldedChange[]): () => Promise<Left> {
    if (table.local.missingIdentity !== undefined) return () => Promise.resolve(changes);
    const { limit: overwritten, unrecorded } = this.#certain(changes);
    const send = this.#taking(setDeleteSql(table, unrecorded), changes, [
      this.#providerOrigin,
      overwritten,
    ]);
    if (!Tombstones.byKey(table)) return send;
    return async () => {
      // Before the rows are looked for: in a long transaction it has moved on since the beginning.
      const limit = this.#writer.groupLimit();
      const left = await send();
      const isLeft = new Set(left);
      const open = changes.filter(
        (change) => !isLeft.has(change) && change.context.commitTime > limit,
      );
      if (open.length > 0) {
        await this.#writer.tombstones.add(table, keysOf(table, open), this.#provider);
      }
      return left;
    };
  }

  #update(table: Table, mask: string, changes: readonly FoldedChange[]): () => Promise<Left> {
    const sent = writable(table, (position) => mask === '' || mask[position] === '1');
    const columns = updatable(table, sent);
    // Nothing that an UPDATE could set, or no UPDATE as it is.
    if (columns.length === 0 || table.local.missingIdentity !== undefined) {
      return () => Promise.resolve(changes);
    }
    if (mask !== '') {
      return this.#taking(setOwnUpdateSql(table, columns), changes, [this.#providerOrigin]);
    }
    const { limit, unrecorded } = this.#certain(changes);
    return this.#taking(setUpdateSql(table, columns, unrecorded), changes, [
      this.#providerOrigin,
      limit,
    ]);
  }

  #taking(
    { sql, columns }: SetStatement,
    changes: readonly FoldedChange[],
    rest: readonly Param[],
  ): () => Promise<Left> {
    const rows = tuplesOf(changes);
    const arrays = columns.map(({ position }) => columnArray(rows, position));
    return async () => {
      // Not prepared: there are many of them, and planning is little beside so many rows.
      const [answer] = await this.#session.query<{ count: string; list: string | null }>(sql, [
        ...arrays,
        changes.length,
        ...rest,
      ]);
      assert(answer !== undefined, 'an aggregate has one row');
      if (Number(answer.count) === changes.length) return [];
      const taken = new Set(answer.list?.slice(1, -1).split(',').map(Number));
      return changes.filter((_, index) => !taken.has(index + 1));
    };
  }

  #insert(table: Table, changes: readonly FoldedChange[]): () => Promise<Left> {
    const rows = tuplesOf(changes);
    const columns = writable(table);
    const isLarge = changes.length >= LEAST_FOR_COPY && !this.#contended.has(table);
    // Without a key nothing can be in the way that COPY would have to be taken back for.
    const copies = isLarge || table.key.kind === 'none';
    const data = copies
      ? copyText(
          rows,
          columns.map(({ position }) => position),
        )
      : undefined;
    return async () => {
      if (table.key.kind === 'none') return this.#append(table, changes, data);
      const isCopied = data !== undefined && (await this.#copy(table, data));
      const left = isCopied ? [] : await this.#insertFree(table, changes, rows);
      if (Tombstones.byKey(table)) await this.#takeBackDeleted(table, changes);
      return left;
    };
  }

  /** False when a row was in the way of one of them: then none is inserted. */
  async #copy(table: Table, data: Buffer): Promise<boolean> {
    const begun = this.#session.script(`SAVEPOINT ${COPY_SAVEPOINT}`);
    const copied = this.#session.copyIn(copySql(table, writable(table)), data);
    try {
      await Promise.all([begun, copied]);
      await this.#session.script(`RELEASE SAVEPOINT ${COPY_SAVEPOINT}`);
      return true;
    } catch (error) {
      if (!hasSqlstate(error, SQLSTATE.uniqueViolation)) throw error;
      await this.#session.script(`ROLLBACK TO SAVEPOINT ${COPY_SAVEPOINT}`);
      this.#contended.add(table);
      return false;
    }
  }

  /** Inserts into a table without key, where any row in the way is an error; all go the slow way if one loses to a TRUNCATE. */
  async #append(table: Table, changes: Left, data: Buffer | undefined): Promise<Left> {
    for (const { context } of changes) {
      if (await this.#writer.deletions.isTruncated(table, context)) return changes;
    }
    if (!data) return changes;
    await this.#session.copyIn(copySql(table, writable(table)), data);
    return [];
  }

  async #insertFree(
    table: Table,
    changes: readonly FoldedChange[],
    rows: readonly Tuple[],
  ): Promise<Left> {
    const { sql, columns } = setInsertSql(table, writable(table));
    const arrays = columns.map(({ position }) => columnArray(rows, position));
    const count = await this.#session.run(sql, arrays);
    if (count === changes.length) return [];
    const key = table.key.columns.map(({ position }) => columnArray(rows, position));
    const missing = await this.#session.query<{ n: string }>(notInsertedSql(table).sql, key);
    return missing.flatMap(({ n }) => changes[Number(n) - 1] ?? []);
  }

  /** Rule 4: asked after the insert, by a newer snapshot, so that a deletion that committed meanwhile is seen. */
  async #takeBackDeleted(table: Table, changes: readonly FoldedChange[]): Promise<void> {
    const { tombstones } = this.#writer;
    const keys = () => keysOf(table, changes);
    for (const index of await tombstones.contested(table, keys, this.#provider)) {
      const folded = changes[index];
      if (!folded) continue;
      const key = readValues(tupleOf(folded.change));
      await this.#writer.deletions.takeBack(table, { key, context: folded.context });
    }
  }

  /** Rows that every one of the changes may overwrite without looking. */
  #certain(changes: readonly FoldedChange[]): { limit: string; unrecorded: Unrecorded } {
    let least = Infinity as PgTime;
    let unrecorded: Unrecorded = 'taken';
    let last: ChangeContext | undefined;
    for (const { context } of changes) {
      // Changes of one transaction stand side by side.
      if (context === last) continue;
      last = context;
      const certain = this.#writer.certain(context);
      if (certain.limit < least) least = certain.limit;
      if (certain.unrecorded === 'left') unrecorded = 'left';
    }
    return { limit: formatPgTime(least), unrecorded };
  }
}

function tuplesOf(changes: readonly FoldedChange[]): Tuple[] {
  return changes.map(({ change }) => tupleOf(change));
}

function keysOf(table: Table, changes: readonly FoldedChange[]): KeyArrays {
  return keyArraysOf(
    table,
    tuplesOf(changes),
    changes.map(({ context }) => context.commitTime),
  );
}

/** Where the order of the rows matters, or a value could be read differently, rows are written one by one. */
function suitsSets(table: Table): boolean {
  if (table.key.kind === 'whole-row' || table.local.deferrable) return false;
  if (isOwn(table.relation)) return false;
  // Of several changes of a row the first tells what their writer knew.
  if (table.role !== undefined || table.policy !== undefined) return false;
  if (table.local.hasReplicaTriggers || hasFixedColumn(table)) return false;
  const columns = writable(table);
  return (
    columns.length > 0 &&
    columns.every(({ local }) => local?.castsFromText) &&
    table.columns.every(({ missing }) => !missing)
  );
}
