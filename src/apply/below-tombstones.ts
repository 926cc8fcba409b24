import type { Lsn } from '../base/lsn.ts';
import { recordConflict } from '../catalog/conflict-history.ts';
import { compareVersions, type Version } from '../conflict/version.ts';
import { sameNode } from '../model/node.ts';
import type { Param, Session } from '../postgres/session.ts';
import type { FoundRow, LocalRows } from './local-rows.ts';
import { noteLostValue } from './lost-values.ts';
import type { PreparedStatements } from './prepared.ts';
import type { RowValues } from './row-values.ts';
import { foundAmongSql, lockedDeleteSql } from './statements.ts';
import { isOwn, type Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';
import type { OriginMap } from './writers.ts';

/** Keys of one table, in order. */
export interface SoughtKeys {
  /** Column by column, as a text[] each. */
  readonly columns: readonly Param[];
  /** One of them, from 0, as values of a row of which only those of the key count. */
  readonly at: (index: number) => RowValues | undefined;
}

/** Removes rows that a deletion should have met, inside the caller's transaction, and keeps them in the history. */
export class BelowTombstones {
  readonly #session: Session;
  readonly #statements: PreparedStatements;
  readonly #onTable: TableStatements;
  readonly #rows: LocalRows;
  readonly #origins: () => OriginMap;

  constructor(options: {
    session: Session;
    statements: PreparedStatements;
    onTable: TableStatements;
    rows: LocalRows;
    origins: () => OriginMap;
  }) {
    this.#session = options.session;
    this.#statements = options.statements;
    this.#onTable = options.onTable;
    this.#rows = options.rows;
    this.#origins = options.origins;
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
    for (const { n } of found) {
      const index = Number(n) - 1;
      const key = keys.at(index);
      const tombstone = await tombstoneOf(index);
      if (key && tombstone) await this.#remove(table, key, tombstone);
    }
  }

  /** Removes the row of a key where it is smaller than its tombstone and was not written by the same node after it. */
  async #remove(table: Table, key: RowValues, tombstone: Version): Promise<void> {
    for (const found of await this.#rows.findAll(table, key, tombstone.time)) {
      const { row } = found;
      if (row.kind !== 'versioned') continue;
      const { version } = row;
      if (sameNode(version.writer.id, tombstone.writer.id)) continue;
      if (compareVersions(version, tombstone) > 0) {
        await this.#noteLost(table, key, version);
        continue;
      }
      await this.#record(table, found, version, tombstone);
      await this.#onTable.run(table, lockedDeleteSql(table), [found.ctid]);
    }
  }

  /** The row came before the deletion was known here, and what was deleted may be what it left long values of. */
  async #noteLost(table: Table, key: RowValues, { writer }: Version): Promise<void> {
    if (sameNode(writer.id, this.#origins().local.id)) return;
    await noteLostValue(this.#statements, table, key, writer.id);
  }

  async #record(
    table: Table,
    found: FoundRow,
    version: Version,
    tombstone: Version,
  ): Promise<void> {
    if (isOwn(table.relation)) return;
    const { local } = this.#origins();
    const isLocal = sameNode(version.writer.id, local.id);
    const json = await this.#rows.json(table, found);
    const remote = isLocal ? tombstone : version;
    await recordConflict(this.#session, local.id, {
      table: table.local.name,
      type: 'update_delete',
      resolution: isLocal ? 'last_update_wins_keep_remote' : 'last_update_wins_keep_local',
      local: {
        row: isLocal ? json : null,
        xmin: isLocal ? found.xmin : null,
        version: isLocal ? version : null,
      },
      remote: {
        row: isLocal ? null : json,
        node: remote.writer.id,
        // What was applied long since is known by its time alone.
        xid: 0,
        commitTime: remote.time,
        commitLsn: 0 as Lsn,
      },
    });
  }
}
