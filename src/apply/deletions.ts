import { quoteQualified } from '../base/names.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { holdOtherApply } from '../catalog/apply-gate.ts';
import type { Decision } from '../conflict/decide.ts';
import type { Version } from '../conflict/version.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';
import type { ChangeContext } from './change-context.ts';
import type { ConflictLog } from './conflict-log.ts';
import { KeyJournal, keysOf, type NotedKey } from './key-journal.ts';
import { keyParams, type FoundRow, type LocalRows } from './local-rows.ts';
import { UNSENT, type RowValues } from './row-values.ts';
import { lockedDeleteSql } from './statements.ts';
import { keyOnly, type Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';
import { Tombstones } from './tombstones.ts';

/** Has a deletion of the key meet the row that is there, or none. */
export type MeetDeletion = (
  table: Table,
  key: RowValues,
  found: FoundRow | undefined,
  context: ChangeContext,
) => Promise<unknown>;

/**
 * What the rows that an apply transaction inserts and deletes have to do with deletions (DESIGN 4.2, rules 4 and 6): an insert may lose
 * to one that is remembered, a delete is remembered itself, and one that finds nothing looks again. Keys are noted on the way, and seen to
 * together.
 */
export class Deletions {
  readonly #session: Session;
  readonly #onTable: TableStatements;
  readonly #rows: LocalRows;
  readonly #tombstones: Tombstones;
  readonly #conflicts: ConflictLog;
  readonly #provider: NodeId;
  readonly #decide: (tombstone: Version | undefined, context: ChangeContext) => Decision;
  readonly #meet: MeetDeletion;
  readonly #journal = new KeyJournal();
  /** Of tables whose rows have no key: the TRUNCATE that they must be newer than, in this transaction. */
  readonly #truncated = new Map<Table, Version | undefined>();
  /** The group limit when the local transaction began. */
  #limit = LONG_AGO;
  #mustBeAlone = false;

  constructor(options: {
    session: Session;
    onTable: TableStatements;
    rows: LocalRows;
    tombstones: Tombstones;
    conflicts: ConflictLog;
    provider: NodeId;
    /** What becomes of an insert that finds no row under its key. */
    decide: (tombstone: Version | undefined, context: ChangeContext) => Decision;
    meet: MeetDeletion;
  }) {
    this.#session = options.session;
    this.#onTable = options.onTable;
    this.#rows = options.rows;
    this.#tombstones = options.tombstones;
    this.#conflicts = options.conflicts;
    this.#provider = options.provider;
    this.#decide = options.decide;
    this.#meet = options.meet;
  }

  /** A local transaction begins, the second try of one too. `limit`: LinkContext.groupLimit. */
  begin(limit: PgTime): void {
    this.#limit = limit;
    this.#journal.clear();
    this.#truncated.clear();
  }

  committed(): void {
    this.#mustBeAlone = false;
  }

  /** The transaction could not wait for the others while it held what it had written: it is to begin by waiting for them. */
  get mustBeAlone(): boolean {
    return this.#mustBeAlone;
  }

  /** So many inserts and deletes `settle` is still to see to. */
  get noted(): number {
    return this.#journal.size;
  }

  /** Takes note of a row that the transaction has inserted. */
  inserted(table: Table, row: RowValues, context: ChangeContext): void {
    if (Tombstones.byKey(table)) this.#journal.add('inserted', table, row, context);
  }

  /**
   * Takes note of a delete: of a row that was there, of one that was not, or of one that is `gone`: it came and went within the
   * transaction.
   */
  deleted(
    table: Table,
    key: RowValues,
    context: ChangeContext,
    kind: 'deleted' | 'missed' | 'gone' = 'deleted',
  ): void {
    if (Tombstones.byKey(table)) this.#journal.add(kind, table, key, context);
  }

  /** Does what the transaction's inserts and deletes still ask for, for all of them at once. */
  async settle(): Promise<void> {
    // All tables are asked about at once.
    const asked = [...this.#journal.all('inserted')].map(async ([table, keys]) => ({
      table,
      keys,
      contested: await this.#tombstones.contested(table, () => keysOf(table, keys), this.#provider),
    }));
    for (const { table, keys, contested } of await Promise.all(asked)) {
      for (const index of contested) {
        const noted = keys[index];
        if (noted) await this.takeBack(table, noted);
      }
    }
    await this.#lookAgain();
    const deleted = [...this.#journal.all('deleted')];
    await Promise.all(deleted.map(([table, keys]) => this.#remember(table, keys)));
    this.#journal.clear();
  }

  /** Removes a row that this transaction inserted, if it loses to a tombstone (rule 4). */
  async takeBack(table: Table, { key, context }: NotedKey): Promise<void> {
    const tombstone = await this.tombstoneOf(table, key);
    const decision = this.#decide(tombstone, context);
    if (decision.action !== 'skip') return;
    for (const found of await this.#rows.findAll(table, key, context.commitTime)) {
      if (found.row.kind !== 'own') continue;
      if (decision.conflict) {
        const values = await this.#rows.filled(table, found, keyOnly(table, key, UNSENT));
        await this.#skip(table, values, tombstone, context, decision);
      }
      await this.#onTable.run(table, lockedDeleteSql(table), [found.ctid]);
    }
  }

  /** What is remembered of a key that has no row, and of its table: the greatest. */
  tombstoneOf(table: Table, key: RowValues): Promise<Version | undefined> {
    return this.#tombstones.find(table, keyParams(table, key));
  }

  /** Whether an insert that finds no row loses to a tombstone; where that is a conflict, it goes into the history. */
  async takesInsert(
    table: Table,
    values: RowValues,
    tombstone: Version | undefined,
    context: ChangeContext,
  ): Promise<boolean> {
    const decision = this.#decide(tombstone, context);
    if (decision.action !== 'skip') return false;
    await this.#skip(table, values, tombstone, context, decision);
    return true;
  }

  async #skip(
    table: Table,
    values: RowValues,
    tombstone: Version | undefined,
    context: ChangeContext,
    decision: Decision,
  ): Promise<void> {
    const met = { kind: 'insert', table, values, found: undefined, tombstone, context } as const;
    await this.#conflicts.during(met, decision, () => Promise.resolve('skip'));
  }

  /**
   * The TRUNCATE that a row without a key must be newer than. It could not be found again: so a TRUNCATE is held back first, and what it
   * left is read then.
   */
  async truncationOf(table: Table): Promise<Version | undefined> {
    if (!this.#truncated.has(table)) {
      // Sent together; the second has its snapshot when the first is through.
      const [, tombstone] = await Promise.all([
        this.#session.script(
          `LOCK TABLE ONLY ${quoteQualified(table.local.name)} IN ROW EXCLUSIVE MODE`,
        ),
        this.#tombstones.find(table, []),
      ]);
      this.#truncated.set(table, tombstone);
    }
    return this.#truncated.get(table);
  }

  /** Whether a row without a key loses to a TRUNCATE. */
  async isTruncated(table: Table, context: ChangeContext): Promise<boolean> {
    return this.#decide(await this.truncationOf(table), context).action === 'skip';
  }

  /**
   * Whether nobody can send anything older than a deletion: then there is nobody to wait for, and nothing to remember. That must
   * have been so before the row was looked for: what is older may have come in between.
   */
  isLast({ commitTime }: ChangeContext): boolean {
    return commitTime <= this.#limit;
  }

  async #remember(table: Table, keys: readonly NotedKey[]): Promise<void> {
    // With a conflict policy it counts later whether a row is still gone by this very deletion.
    const open = table.policy ? keys : keys.filter(({ context }) => !this.isLast(context));
    if (open.length > 0) {
      await this.#tombstones.add(table, keysOf(table, open), this.#provider);
    }
  }

  /**
   * Rule 6: where a row to delete is missing, another link's transaction may hold it uncommitted, with a version that loses: so it
   * is waited for, and looked again. A user's transaction is not waited for: the node's own stream tells of it
   * (src/apply/own-writer.ts).
   */
  async #lookAgain(): Promise<void> {
    const missing = (['missed', 'gone'] as const).flatMap((kind) =>
      [...this.#journal.all(kind)].flatMap(([table, keys]) =>
        keys.map((noted) => ({ kind, table, ...noted })),
      ),
    );
    if (missing.some(({ context }) => !this.isLast(context))) {
      this.#mustBeAlone = true;
      await holdOtherApply(this.#session);
    }
    for (const { kind, table, key, context } of missing) {
      this.#journal.add('deleted', table, key, context);
      const found = await this.#rows.find(table, key, context.commitTime);
      // This transaction has inserted it anew.
      if (found?.row.kind === 'own') continue;
      // What came and went within the transaction leaves nothing to wonder about.
      if (!found && kind === 'gone') continue;
      await this.#meet(table, key, found, context);
    }
  }
}
