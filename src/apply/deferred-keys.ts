import { BdrError } from '../base/errors.ts';
import { displayName } from '../base/names.ts';
import type { Decision } from '../conflict/decide.ts';
import type { ChangeContext } from './change-context.ts';
import type { ConflictLog } from './conflict-log.ts';
import type { MeetDeletion } from './deletions.ts';
import type { FoundRow, LocalRows } from './local-rows.ts';
import type { RecordProof } from './record-proof.ts';
import type { RowValues } from './row-values.ts';
import { lockedDeleteSql } from './statements.ts';
import { keyName } from './stored-keys.ts';
import { keyOnly, type Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';

interface TakenKey {
  readonly table: Table;
  readonly values: RowValues;
  /** Of the row's last change: a group has changes of several times. */
  readonly context: ChangeContext;
  /** The row, or the other one under the key, was deleted since, or moved away: the last that did so. */
  readonly removal: ChangeContext | undefined;
}

/**
 * Keys that rows took in this transaction under a deferrable constraint. The provider checked it when its transaction ended, and
 * in replica role the server does not check it at all: so it is looked at here, at the end too. In between two rows may have one
 * key, as when two rows swap theirs.
 */
export class DeferredKeys {
  readonly #onTable: TableStatements;
  readonly #rows: LocalRows;
  readonly #proof: RecordProof;
  readonly #conflicts: ConflictLog;
  readonly #isProviders: (found: FoundRow) => boolean;
  readonly #decide: (found: FoundRow, context: ChangeContext) => Decision;
  readonly #meet: MeetDeletion;
  #taken = new Map<string, TakenKey>();

  constructor(options: {
    onTable: TableStatements;
    rows: LocalRows;
    proof: RecordProof;
    conflicts: ConflictLog;
    /** What becomes of an insert that finds a row under its key. */
    decide: (found: FoundRow, context: ChangeContext) => Decision;
    /** Whether the provider wrote the row. */
    isProviders: (found: FoundRow) => boolean;
    meet: MeetDeletion;
  }) {
    this.#onTable = options.onTable;
    this.#rows = options.rows;
    this.#proof = options.proof;
    this.#conflicts = options.conflicts;
    this.#isProviders = options.isProviders;
    this.#decide = options.decide;
    this.#meet = options.meet;
  }

  /** A local transaction begins. */
  begin(): void {
    this.#taken = new Map();
  }

  /** `row` has taken its key. */
  add(table: Table, row: RowValues, context: ChangeContext): void {
    // Only the key is needed, and a transaction may be long.
    const values = keyOnly(table, row);
    this.#taken.set(keyName(table, row), { table, values, context, removal: undefined });
  }

  /** A row under the key was deleted, or moved away: of two of them the one that was meant. */
  removed(table: Table, old: RowValues, context: ChangeContext): void {
    const name = keyName(table, old);
    const taken = this.#taken.get(name);
    if (taken) this.#taken.set(name, { ...taken, removal: context });
  }

  /** `row` was changed where it is. */
  changed(table: Table, row: RowValues, context: ChangeContext): void {
    if (this.#taken.has(keyName(table, row))) this.add(table, row, context);
  }

  /** OIDs of the tables of which keys are to be looked at. */
  tables(): string[] {
    return [...this.#taken.values()].map(({ table }) => table.local.oid);
  }

  /**
   * Looks at the keys of some tables before the transaction ends. Two rows of the provider that have one key by then are in the middle of a
   * swap: throws BdrError, because neither has lost.
   */
  async settleEarly(isMeant: (table: Table) => boolean): Promise<void> {
    await this.#settle(isMeant, (table) => {
      throw inSwap(table);
    });
  }

  /** Ends the transaction's changes: of two rows that have one key one goes. */
  async settle(): Promise<void> {
    await this.#settle(
      () => true,
      () => undefined,
    );
  }

  /** `onSwap` is told of two rows of the provider under one key. */
  async #settle(isMeant: (table: Table) => boolean, onSwap: (table: Table) => void): Promise<void> {
    for (const [name, { table, values, context, removal }] of this.#taken) {
      if (!isMeant(table)) continue;
      this.#taken.delete(name);
      const rows = await this.#rows.findAll(table, values, context.commitTime);
      const own = rows.filter(({ row }) => row.kind === 'own');
      if (own.length === 0) {
        // What was removed was the row that had taken the key: the other has met neither.
        if (removal) await this.#removeOthers(table, values, rows, removal);
        continue;
      }
      if (own.length > 1) onSwap(table);
      for (const other of rows.filter((found) => !own.includes(found))) {
        if (this.#isProviders(other)) onSwap(table);
        await this.#collide(table, values, own, other, context);
      }
    }
  }

  /** The provider has no row under the key any more; one of its own here is one that it has. */
  async #removeOthers(
    table: Table,
    key: RowValues,
    rows: readonly FoundRow[],
    context: ChangeContext,
  ): Promise<void> {
    for (const found of rows) {
      if (!this.#isProviders(found)) await this.#meet(table, key, found, context);
    }
  }

  /** A row that this transaction moved or inserted there has found another one that stayed. */
  async #collide(
    table: Table,
    values: RowValues,
    own: readonly FoundRow[],
    found: FoundRow,
    context: ChangeContext,
  ): Promise<void> {
    const other = await this.#proof.settled('insert', table, values, found, context);
    const decision = this.#decide(other, context);
    const tombstone = undefined;
    const met = { kind: 'insert', table, values, found: other, tombstone, context } as const;
    await this.#conflicts.during(met, decision, async () => {
      const loses = decision.action === 'skip';
      for (const loser of loses ? own : [other]) {
        await this.#onTable.run(table, lockedDeleteSql(table), [loser.ctid]);
      }
      return loses ? 'skip' : 'update';
    });
  }
}

function inSwap({ local }: Table): BdrError {
  const name = displayName(local.name);
  return new BdrError('apply_failed', {
    message: `two rows of table ${name} have one key while a command of their transaction changes the table`,
    detail:
      'Its deferrable key is in the middle of a swap, and what follows would find the rows by other names.',
    hint: 'In the transaction, change the table before or behind the swap.',
  });
}
