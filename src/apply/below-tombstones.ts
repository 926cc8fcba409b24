import type { Lsn } from '../base/lsn.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import { areCertainlyConcurrent } from '../conflict/concurrency.ts';
import { compareVersions, type Version } from '../conflict/version.ts';
import { sameNode } from '../model/node.ts';
import type { Param, Session } from '../postgres/session.ts';
import { readDoomed, removeKept, type DoomedRow } from './kept-removal.ts';
import { keyColumns, keyParams, type LocalRows } from './local-rows.ts';
import { noteLostValue } from './lost-values.ts';
import { PendingConflicts, type HistoryOptions } from './pending-conflicts.ts';
import type { PreparedStatements } from './prepared.ts';
import type { RowValues } from './row-values.ts';
import {
  foundAmongSql,
  hasTruncatedRestSql,
  lockedDeleteSql,
  truncatedRestSql,
} from './statements.ts';
import { isOwn, policyOf, type Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';
import { originsBelow, type OriginMap } from './writers.ts';

/** Keys of one table, in order. */
export interface SoughtKeys {
  /** Column by column, as a text[] each. */
  readonly columns: readonly Param[];
  /** One of them, from 0, as values of a row of which only those of the key count. */
  readonly at: (index: number) => RowValues | undefined;
}

/** Keys of which each is given as the values of a row. */
export function soughtKeys(table: Table, keys: readonly RowValues[]): SoughtKeys {
  return {
    columns: keyColumns(
      table,
      keys.map((key) => keyParams(table, key)),
    ),
    at: (index) => keys[index],
  };
}

/** Removes rows that a deletion should have met, inside the caller's transaction, and keeps them in the history. */
export class BelowTombstones {
  readonly #session: Session;
  readonly #statements: PreparedStatements;
  readonly #onTable: TableStatements;
  readonly #rows: LocalRows;
  readonly #origins: () => OriginMap;
  readonly #pending: PendingConflicts;
  readonly #history: HistoryOptions;

  constructor(options: {
    session: Session;
    statements: PreparedStatements;
    onTable: TableStatements;
    rows: LocalRows;
    origins: () => OriginMap;
    history: HistoryOptions;
  }) {
    this.#session = options.session;
    this.#statements = options.statements;
    this.#onTable = options.onTable;
    this.#rows = options.rows;
    this.#origins = options.origins;
    this.#pending = new PendingConflicts(options.session, () => options.origins().local.id);
    this.#history = options.history;
  }

  /**
   * Looks for rows of many keys at once, by anybody or by another node than this. `tombstoneOf` tells what the row of a key that
   * has one is held against, by the key's place in `keys`: undefined for nothing.
   */
  async removeAmong(
    table: Table,
    keys: SoughtKeys,
    by: 'anybody' | 'others',
    tombstoneOf: (index: number) => Version | undefined | Promise<Version | undefined>,
  ): Promise<void> {
    const sql = foundAmongSql(table, by);
    const found = await this.#onTable.rows<{ n: string }>(table, sql, keys.columns);
    // What an attempt before this one has left was undone with it.
    this.#pending.clear();
    for (const { n } of found) {
      const index = Number(n) - 1;
      const key = keys.at(index);
      const tombstone = await tombstoneOf(index);
      if (key && tombstone) await this.#remove(table, key, tombstone);
    }
    await this.#pending.write();
  }

  /** Removes the row of a key where it is smaller than its tombstone and was not written by the same node after it. */
  async #remove(table: Table, key: RowValues, tombstone: Version): Promise<void> {
    for (const found of await this.#rows.findAll(table, key, tombstone.time)) {
      const { row } = found;
      if (row.kind !== 'versioned') continue;
      const { version } = row;
      if (sameNode(version.writer.id, tombstone.writer.id)) continue;
      if (compareVersions(version, tombstone) > 0) {
        // It came before the deletion was known here, and what was deleted may be what it left long values of.
        const { id } = version.writer;
        await noteLostValue(this.#statements, table, key, id, this.#origins());
        continue;
      }
      const { isKept, withRows } = this.#history;
      const reading = { onTable: this.#onTable, table, withRows };
      for (const doomed of isKept ? await readDoomed(reading, [found]) : []) {
        await this.#record(table, doomed, tombstone);
      }
      await this.#onTable.run(table, lockedDeleteSql(table), [found.ctid]);
    }
  }

  /** Removes what other nodes wrote before this node truncated the table, at `time`, and what came in only afterwards. */
  async removeTruncated(table: Table, time: PgTime): Promise<void> {
    const origins = this.#origins();
    const tombstone = { time, writer: origins.local };
    const params = [formatPgTime(time), `{${originsBelow(origins, origins.local).join(',')}}`];
    const [rest] = await this.#onTable.rowsOnce<{ any: string }>(
      table,
      hasTruncatedRestSql(table),
      params,
    );
    if (rest?.any !== 't') return;
    this.#pending.clear();
    const { isKept, withRows } = this.#history;
    await this.#onTable.changing(table, () =>
      removeKept({
        session: this.#session,
        onTable: this.#onTable,
        rows: this.#rows,
        table,
        text: truncatedRestSql(table),
        params,
        time,
        withRows,
        keep: isKept ? async (doomed) => this.#record(table, doomed, tombstone) : undefined,
      }),
    );
    await this.#pending.write();
  }

  async #record(table: Table, { found, row, key }: DoomedRow, tombstone: Version): Promise<void> {
    if (isOwn(table.relation) || found.row.kind !== 'versioned') return;
    const { version } = found.row;
    const { local } = this.#origins();
    const isLocal = sameNode(version.writer.id, local.id);
    const [change, met] = isLocal ? [tombstone, version] : [version, tombstone];
    await this.#pending.add({
      table: table.local.name,
      key,
      type: 'update_delete',
      resolution: isLocal ? 'last_update_wins_keep_remote' : 'last_update_wins_keep_local',
      policy: policyOf(table),
      rule: 'below_tombstone',
      action: 'delete',
      certainlyConcurrent: areCertainlyConcurrent(change, met, local.id),
      local: {
        row: isLocal ? row : null,
        xmin: isLocal ? found.xmin : null,
        version: met,
      },
      remote: {
        row: isLocal ? null : row,
        node: change.writer.id,
        // What was applied long since is known by its time alone.
        xid: 0,
        commitTime: change.time,
        commitLsn: 0 as Lsn,
      },
    });
  }
}
