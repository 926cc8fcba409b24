import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import { textArray } from '../base/text-array.ts';
import type { Step } from '../catalog/ahead.ts';
import {
  addTableTombstoneSql,
  addTombstonesSql,
  anyTombstoneSql,
  contestedSql,
  findTombstoneSql,
  ownership,
  refuseContestedStep,
  tombstoneVersions,
  type FoundTombstone,
  type TombstoneTable,
} from '../catalog/tombstones.ts';
import { compareVersions, type Version } from '../conflict/version.ts';
import type { NodeId } from '../model/node.ts';
import type { Tuple } from '../pgoutput/tuple.ts';
import type { Param } from '../postgres/session.ts';
import { columnArray, timeArray } from './arrays.ts';
import { keyColumns } from './local-rows.ts';
import type { PreparedStatements } from './prepared.ts';
import type { Table } from './table.ts';
import { writerWithId, type OriginMap } from './writers.ts';

/** Keys of one table, column by column in the order of `table.key.columns`, with the time of each. */
export interface KeyArrays {
  /** timestamptz[]: as text, or in binary, where an element is a PgTime as int8. */
  readonly times: Param;
  /** For each column of the key a text[]: as text, or in binary. */
  readonly columns: readonly Param[];
}

/**
 * What this node remembers of deletions (DESIGN 4.4), inside the caller's transaction.
 *
 * Whoever inserts a row asks `contested` about it in a *later* statement, with a newer snapshot: a deletion that committed while
 * the insert waited is seen then. What commits after that is the deleter's to care for (src/apply/deletions.ts, own-writer.ts).
 */
export class Tombstones {
  readonly #statements: PreparedStatements;
  readonly #origins: () => OriginMap;

  constructor(statements: PreparedStatements, origins: () => OriginMap) {
    this.#statements = statements;
    this.#origins = origins;
  }

  /** Whether deletions of the table's rows are remembered by key. */
  static byKey({ key }: Table): boolean {
    return key.kind === 'unique' && key.columns.every(({ local }) => local !== undefined);
  }

  /** Remembers deletions of `writer`; a tombstone becomes the greater of the old and this. The table must be one `byKey`. */
  async add(table: Table, keys: KeyArrays, writer: NodeId): Promise<void> {
    const of = tombstoneTable(table);
    await this.#statements.run(addTombstonesSql(of), given(of, keys, writer));
  }

  /** As `add`, as a step of a procedure. */
  static addingStep(table: Table, keys: KeyArrays, writer: NodeId): Step {
    const of = tombstoneTable(table);
    return { sql: `${addTombstonesSql(of)};`, params: given(of, keys, writer) };
  }

  /** A step that fails where `contested` would return anything; also for a table whose rows have no key. */
  static refusingStep(table: Table, keys: KeyArrays, writer: NodeId): Step {
    const of = tombstoneTable(table);
    return { sql: refuseContestedStep(of), params: given(of, keys, writer) };
  }

  /** Remembers that `writer` truncated the table. */
  async addTable(table: Table, time: PgTime, writer: NodeId): Promise<void> {
    const params = [...ownership(tombstoneTable(table), writer), formatPgTime(time)];
    await this.#statements.run(addTableTombstoneSql, params);
  }

  /** Whether anything of the table is remembered. */
  async any(table: Table): Promise<boolean> {
    const [row] = await this.#statements.rows<{ any: string }>(anyTombstoneSql, [table.local.oid]);
    return row?.any === 't';
  }

  /**
   * Which keys may lose to a tombstone of another writer than `writer`, whose rows of these times they are: positions in the
   * arrays, from 0. Cheap where nothing of the table is remembered: then they are not even made. What is returned is to be looked
   * at with `find`.
   */
  async contested(table: Table, made: () => KeyArrays, writer: NodeId): Promise<number[]> {
    if (!(await this.any(table))) return [];
    const of = tombstoneTable(table);
    const keys = made();
    const rows = await this.#statements.rows<{ n: string }>(contestedSql(of), [
      ...ownership(of, writer),
      keys.times,
      ...keys.columns,
    ]);
    return rows.map(({ n }) => Number(n) - 1);
  }

  /** The tombstone that a missing row meets, of its key or of its table: the greatest. `key`: its values as text. */
  async find(table: Table, key: readonly Param[]): Promise<Version | undefined> {
    const of = tombstoneTable(table);
    const rows = await this.#statements.rows<FoundTombstone>(findTombstoneSql(of), [
      of.oid,
      ...(of.columns.length === 0 ? [] : key),
    ]);
    return tombstoneVersions(rows)
      .map(({ time, node }): Version => ({ time, writer: writerWithId(this.#origins(), node) }))
      .sort(compareVersions)
      .at(-1);
  }
}

/** Keys as they are collected one by one: for each a time and the values of its columns, as text. */
export function keyArrays(
  table: Table,
  keys: readonly { readonly time: PgTime; readonly key: readonly Param[] }[],
): KeyArrays {
  return {
    times: textArray(keys.map(({ time }) => formatPgTime(time))),
    columns: keyColumns(
      table,
      keys.map(({ key }) => key),
    ),
  };
}

/** The keys of rows as they came on the wire, each with a time. */
export function keyArraysOf(
  table: Table,
  rows: readonly Tuple[],
  times: readonly PgTime[],
): KeyArrays {
  return {
    times: timeArray(times),
    columns: table.key.columns.map(({ position }) => columnArray(rows, position)),
  };
}

function given(table: TombstoneTable, keys: KeyArrays, writer: NodeId): Param[] {
  return [...ownership(table, writer), keys.times, ...keys.columns];
}

/** As statements on bdr.tombstone want it. */
export function tombstoneTable(table: Table): TombstoneTable {
  const columns = Tombstones.byKey(table)
    ? table.key.columns.flatMap(({ local }) => local ?? [])
    : [];
  return { oid: table.local.oid, columns };
}
