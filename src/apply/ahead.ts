import type { PgTime } from '../base/pg-time.ts';
import { enterStep, leaveStep, LOOK_AGAIN, type Step } from '../catalog/ahead.ts';
import type { NodeId } from '../model/node.ts';
import type { Change, RowChange } from '../pgoutput/transaction.ts';
import type { ChangeContext } from './change-context.ts';
import { fastDelete, fastUpdate, strictInsert, type Form } from './fast-statements.ts';
import { KeyJournal, keysOf } from './key-journal.ts';
import type { Statement } from './prepared.ts';
import type { RowValues } from './row-values.ts';
import { isOwn, rowOf, type Table } from './table.ts';
import type { TableMap } from './table-map.ts';
import { Tombstones } from './tombstones.ts';
import { latest, type TransactionPart } from './transaction-part.ts';
import type { ChangeWriter } from './writer.ts';

/** Tables in which something is remembered are asked about it key by key; in the others it is enough to know that nothing is. */
const ASK_AGAIN_AFTER = 1000;

/**
 * Puts together statements that are sent without waiting for answers: each carries a change out where that needs no look at the
 * local row, and fails where it does. What has failed is done again by ChangeWriter.
 */
export class Ahead {
  readonly #tables: TableMap;
  readonly #writer: ChangeWriter;
  readonly #provider: NodeId;
  readonly #providerOrigin: number;
  /** So many transactions are still asked about their keys. */
  #asksForKeys = 0;

  constructor(options: {
    tables: TableMap;
    writer: ChangeWriter;
    provider: NodeId;
    providerOrigin: number;
  }) {
    this.#tables = options.tables;
    this.#writer = options.writer;
    this.#provider = options.provider;
    this.#providerOrigin = options.providerOrigin;
  }

  /** A change of a table with a key; undefined for one that needs more than a statement. */
  async change(change: RowChange, context: ChangeContext): Promise<Statement | undefined> {
    const table = await this.#tables.find(change.relation);
    return Tombstones.byKey(table)
      ? this.#statement(table, change, valuesOf(table, change), context, 'asserted')
      : undefined;
  }

  /**
   * A local transaction with its commit, which carries out whole transactions of the provider; undefined when one of their changes
   * needs more. `due`: the server's clock must have passed it. The writer must have begun.
   */
  async transaction(parts: readonly TransactionPart[], due: PgTime): Promise<Step[] | undefined> {
    const last = parts.at(-1);
    if (last?.endLsn === undefined || parts.some(({ isAlone }) => isAlone)) return undefined;
    const journal = new KeyJournal();
    const steps: Step[] = [];
    const tables = new Set<Table>();
    for (const { changes, context } of parts) {
      for (const change of changes) {
        if (change.kind === 'message') continue;
        const step = await this.#noted(change, context, journal, tables);
        if (!step) return undefined;
        steps.push(step);
      }
    }
    for (const [table, keys] of journal.all('deleted')) {
      const open = keys.filter(({ context }) => !this.#writer.deletions.isLast(context));
      if (open.length > 0) {
        steps.push(Tombstones.addingStep(table, keysOf(table, open), this.#provider));
      }
    }
    // In statements behind the inserts, with newer snapshots: see src/apply/tombstones.ts.
    const unremembered: string[] = [];
    for (const [table, keys] of journal.all('inserted')) {
      if (this.#asksForKeys > 0 || journal.all('deleted').has(table)) {
        steps.push(Tombstones.refusingStep(table, keysOf(table, keys), this.#provider));
      } else unremembered.push(table.local.oid);
    }
    this.#asksForKeys = Math.max(this.#asksForKeys - 1, 0);
    const position = last.endLsn;
    return [
      enterStep(await this.#tables.heldFor([...tables]), due),
      ...steps,
      leaveStep({
        tables: unremembered,
        position,
        time: latest(parts),
        mayNotify: [...tables].some(({ runsCode }) => runsCode),
      }),
    ];
  }

  /** Takes note of why the server has stopped, for what is put together next. */
  stopped(error: Error): void {
    if ((error as { detail?: unknown }).detail === LOOK_AGAIN.tombstones) {
      this.#asksForKeys = ASK_AGAIN_AFTER;
    }
  }

  async #noted(
    change: Exclude<Change, { kind: 'message' }>,
    context: ChangeContext,
    journal: KeyJournal,
    tables: Set<Table>,
  ): Promise<Step | undefined> {
    if (change.kind === 'truncate') return undefined;
    const table = await this.#tables.seek(change.relation);
    if (!table) return undefined;
    tables.add(table);
    const values = valuesOf(table, change);
    if (change.kind === 'insert') journal.add('inserted', table, values, context);
    else if (change.kind === 'delete') journal.add('deleted', table, values, context);
    // What is cast from text by another function than its type's input function would not be the same value.
    if (table.columns.some(({ local }) => local?.castsFromText === false)) return undefined;
    return this.#statement(table, change, values, context, 'step');
  }

  #statement(
    table: Table,
    change: RowChange,
    values: RowValues,
    context: ChangeContext,
    form: Form,
  ): Statement | undefined {
    if (isOwn(table.relation) || table.local.deferrable || table.role !== undefined)
      return undefined;
    if (table.columns.some(({ missing }) => missing)) return undefined;
    if (change.kind === 'insert' && !change.newTuple.isComplete) return undefined;
    if (!Tombstones.byKey(table)) {
      // Without a key nothing can be in the row's way.
      return table.key.kind === 'none' && change.kind === 'insert'
        ? strictInsert(table, values, form)
        : undefined;
    }
    const certain = this.#writer.certain(context);
    switch (change.kind) {
      case 'insert':
        return strictInsert(table, values, form);
      case 'update':
        if (change.oldTuple) return undefined;
        return fastUpdate(table, values, this.#providerOrigin, certain, form);
      case 'delete':
        return fastDelete(table, values, this.#providerOrigin, certain, form);
    }
  }
}

/** The new row, or the old one of a delete. */
function valuesOf(table: Table, change: RowChange): RowValues {
  return rowOf(table, change.kind === 'delete' ? change.oldTuple : change.newTuple);
}
