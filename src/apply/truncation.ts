import { quoteQualified } from '../base/names.ts';
import { formatPgTime, LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { textArray } from '../base/text-array.ts';
import type { Conflict } from '../conflict/decide.ts';
import type { Writer } from '../conflict/version.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import type { Param, Session } from '../postgres/session.ts';
import type { ChangeContext } from './change-context.ts';
import type { ConflictLog } from './conflict-log.ts';
import { copiedRowsAbove } from './copied-rows.ts';
import { removeKept } from './kept-removal.ts';
import type { LocalRows } from './local-rows.ts';
import { noteLostValue, noteRowsOfOthers } from './lost-values.ts';
import type { PreparedStatements } from './prepared.ts';
import type { RecordProof } from './record-proof.ts';
import { newestSql, truncateSql, unseenTruncatedSql } from './statements.ts';
import type { Table } from './table.ts';
import type { TableMap } from './table-map.ts';
import type { TableStatements } from './table-statements.ts';
import type { Tombstones } from './tombstones.ts';
import { originsBelow, type OriginMap } from './writers.ts';

/** So many of the newest rows are kept where it is not known which ones the TRUNCATE's writer had. */
export const MOST_NEWEST = 10_000;

const TRUNCATED: Conflict = {
  type: 'update_delete',
  resolution: 'last_update_wins_keep_remote',
  rule: 'truncated',
};

/** Carries out a provider's TRUNCATE of a table (DESIGN 4.2, rule 8), inside the caller's transaction. */
export class Truncation {
  readonly #session: Session;
  readonly #tables: TableMap;
  readonly #statements: PreparedStatements;
  readonly #onTable: TableStatements;
  readonly #rows: LocalRows;
  readonly #conflicts: ConflictLog;
  readonly #proof: RecordProof;
  readonly #tombstones: Tombstones;
  readonly #origins: () => OriginMap;
  readonly #provider: Writer;
  readonly #providerOrigin: number;

  constructor(options: {
    session: Session;
    tables: TableMap;
    statements: PreparedStatements;
    onTable: TableStatements;
    rows: LocalRows;
    conflicts: ConflictLog;
    proof: RecordProof;
    tombstones: Tombstones;
    origins: () => OriginMap;
    provider: Writer;
    providerOrigin: number;
  }) {
    this.#session = options.session;
    this.#tables = options.tables;
    this.#statements = options.statements;
    this.#onTable = options.onTable;
    this.#rows = options.rows;
    this.#conflicts = options.conflicts;
    this.#proof = options.proof;
    this.#tombstones = options.tombstones;
    this.#origins = options.origins;
    this.#provider = options.provider;
    this.#providerOrigin = options.providerOrigin;
  }

  /** Removes the rows that lose to it; writers are held back while it looks. */
  async carryOut(relation: Relation, context: ChangeContext): Promise<void> {
    const { local } = (await this.#tables.seek(relation)) ?? (await this.#tables.find(relation));
    await this.#session.script(
      `LOCK TABLE ONLY ${quoteQualified(local.name)} IN SHARE ROW EXCLUSIVE MODE`,
    );
    const table = await this.#tables.find(relation);
    await this.#proof.refuseTruncate(table, context);
    const origins = this.#origins();
    const version = { time: context.commitTime, writer: this.#provider };
    const copied = await copiedRowsAbove(this.#session, table, origins, version);
    const older = [
      formatPgTime(context.commitTime),
      `{${originsBelow(origins, this.#provider).join(',')}}`,
    ];
    const params: Param[] = [...older, this.#providerOrigin];
    if (table.key.kind === 'unique') {
      params.push(`{${[...origins.copies].join(',')}}`, textArray(copied.map(({ json }) => json)));
    }
    await this.#onTable.changing(table, async () => {
      if (this.#conflicts.isKept(table)) await this.#removeUnseen(table, older, context);
      await this.#onTable.runOnce(table, truncateSql(table), params);
    });
    for (const { key, version: copy } of copied) {
      await noteLostValue(this.#statements, table, key, copy.writer.id, origins);
    }
    const { id } = this.#provider;
    await noteRowsOfOthers(this.#onTable, this.#statements, table, origins, id);
    await this.#tombstones.addTable(table, context.commitTime, id);
  }

  /**
   * Rows of this node's own users that the TRUNCATE's writer may not have had go into the history. On this node alone: here each of
   * them still is, or was written over by somebody who had it, or by something that is in the history itself.
   */
  async #removeUnseen(
    table: Table,
    older: readonly Param[],
    context: ChangeContext,
  ): Promise<void> {
    const seenUpTo = await this.#seenUpTo(table, context);
    await removeKept({
      session: this.#session,
      onTable: this.#onTable,
      rows: this.#rows,
      table,
      text: unseenTruncatedSql(table),
      params: [...older, formatPgTime(seenUpTo)],
      time: context.commitTime,
      withRows: this.#conflicts.keepsRows,
      keep: async (doomed) => this.#conflicts.removed(table, doomed, TRUNCATED, context),
    });
  }

  /**
   * Up to when the TRUNCATE's writer had what this node's users wrote. Nothing is known of that before the link's first heartbeat, and
   * while the provider cannot read from here: then he counts as not having had the newest rows, so that the whole table does not go into
   * the history.
   */
  async #seenUpTo(table: Table, { seen }: ChangeContext): Promise<PgTime> {
    const upTo = seen.upTo(this.#origins().local.id);
    if (upTo !== LONG_AGO) return upTo;
    const text = newestSql(table, MOST_NEWEST);
    const [row] = await this.#onTable.rowsOnce<{ time: string }>(table, text, []);
    return row ? (Number(row.time) as PgTime) : LONG_AGO;
  }
}
