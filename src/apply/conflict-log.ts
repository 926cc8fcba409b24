import type { ConflictAction } from '../catalog/conflict-history.ts';
import { areCertainlyConcurrent } from '../conflict/concurrency.ts';
import type { ChangeKind, Conflict, Decision } from '../conflict/decide.ts';
import type { Version, Writer } from '../conflict/version.ts';
import type { TransactionCounts } from './apply-counts.ts';
import type { ChangeContext } from './change-context.ts';
import type { DoomedRow } from './kept-removal.ts';
import { columnParams, type FoundRow } from './local-rows.ts';
import type { HistoryOptions, PendingConflicts } from './pending-conflicts.ts';
import { UNSENT, type RowValues } from './row-values.ts';
import { conflictRowsSql, writable } from './statements.ts';
import { isOwn, policyOf, type Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';
import type { OriginMap } from './writers.ts';

/** A change, and what it has met. */
export interface MetChange {
  readonly kind: ChangeKind;
  readonly table: Table;
  /** The change's row, or for a delete its key. */
  readonly values: RowValues;
  readonly found: FoundRow | undefined;
  /** Where no row was found. */
  readonly tombstone: Version | undefined;
  readonly context: ChangeContext;
}

/** Both rows as they were before the conflict was resolved, and the key, as JSON text. */
interface ConflictRows {
  readonly local: string | null;
  readonly remote: string | null;
  readonly key: string | null;
}

/** Counts conflicts and keeps them in the history. */
export class ConflictLog {
  readonly #statements: TableStatements;
  readonly #provider: Writer;
  readonly #origins: () => OriginMap;
  readonly #counts: TransactionCounts;
  readonly #pending: PendingConflicts;
  readonly #options: HistoryOptions;

  constructor(options: {
    statements: TableStatements;
    provider: Writer;
    origins: () => OriginMap;
    counts: TransactionCounts;
    pending: PendingConflicts;
    history: HistoryOptions;
  }) {
    this.#statements = options.statements;
    this.#provider = options.provider;
    this.#origins = options.origins;
    this.#counts = options.counts;
    this.#pending = options.pending;
    this.#options = options.history;
  }

  /** Has a decision carried out by `resolve`, which tells what it did, and keeps the conflict that it resolves, if it does. */
  async during(
    met: MetChange,
    { conflict }: Decision,
    resolve: () => Promise<ConflictAction>,
  ): Promise<ConflictAction> {
    if (!conflict) return resolve();
    // Sent before anything is overwritten, and not waited for.
    const reading = this.read(met, conflict);
    reading.catch(() => undefined);
    const action = await resolve().catch(async (error: unknown) => {
      // Where that has failed already, it is the reason.
      await reading;
      throw error;
    });
    const keep = await reading;
    await keep(action);
    return action;
  }

  /**
   * Reads what a conflict is about before anything is overwritten; what is returned counts and keeps it, once it is certain that it is
   * one, and what was done. It is sent before this returns.
   */
  async read(
    met: MetChange,
    conflict: Conflict,
  ): Promise<(action: ConflictAction) => Promise<void>> {
    const rows = this.isKept(met.table) ? await this.#read(met) : undefined;
    return async (action) => {
      if (isOwn(met.table.relation)) return;
      this.#counts.conflict(met.kind);
      if (rows) await this.#keep(met, conflict, rows, action);
    };
  }

  /** Whether conflicts of a table are kept. */
  isKept({ relation }: Table): boolean {
    // The group's own tables change on several nodes by design, and hold DSNs: nothing for a history.
    return this.#options.isKept && !isOwn(relation);
  }

  /** Whether conflicts are kept with their rows. */
  get keepsRows(): boolean {
    return this.#options.withRows;
  }

  /**
   * Keeps the conflict of a TRUNCATE with a row that it removes, which has been read. Not counted, as the rows that a TRUNCATE removes are
   * not.
   */
  async removed(
    table: Table,
    { found, row: local, key }: DoomedRow,
    conflict: Conflict,
    context: ChangeContext,
  ): Promise<void> {
    const remote = this.#options.withRows ? key : null;
    const met = { table, found, tombstone: undefined, context };
    await this.#keep(met, conflict, { local, remote, key }, 'delete');
  }

  async #keep(
    { table, found, tombstone, context }: Omit<MetChange, 'kind' | 'values'>,
    conflict: Conflict,
    { local, remote, key }: ConflictRows,
    action: ConflictAction,
  ): Promise<void> {
    const version = found?.row.kind === 'versioned' ? found.row.version : tombstone;
    const change: Version = { time: context.commitTime, writer: this.#provider };
    await this.#pending.add({
      ...conflict,
      table: table.local.name,
      key,
      policy: policyOf(table),
      action,
      certainlyConcurrent: areCertainlyConcurrent(change, version, this.#origins().local.id),
      local: { row: local, xmin: found?.xmin ?? null, version: version ?? null },
      remote: {
        row: remote,
        node: this.#provider.id,
        xid: context.xid,
        commitTime: context.commitTime,
        commitLsn: context.commitLsn,
      },
    });
  }

  async #read({ kind, table, values, found }: MetChange): Promise<ConflictRows> {
    const { withRows } = this.#options;
    const sent = writable(
      table,
      (position) =>
        values[position] !== UNSENT &&
        // Of a deleted row often only the key was sent: the rest would show as null.
        (kind !== 'delete' || values[position] !== null),
    );
    const key =
      table.key.kind === 'unique'
        ? sent.filter((column) => table.key.columns.includes(column))
        : [];
    const columns = withRows ? sent : key;
    const ctid = withRows && found ? [found.ctid] : [];
    const [rows] = await this.#statements.rows<ConflictRows>(
      table,
      conflictRowsSql(table, { found: ctid.length > 0, columns, key }),
      [...columnParams(columns, values), ...ctid],
    );
    const { local = null, remote = null, key: keyJson = null } = rows ?? {};
    return { local, remote: withRows ? remote : null, key: keyJson };
  }
}
