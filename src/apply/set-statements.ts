import { quoteIdent, quoteQualified } from '../base/names.ts';
import { ORIGIN, OWN, versionTest, type Unrecorded } from './row-tests.ts';
import { arbiter, equalsSql } from './statements.ts';
import type { Table, TableColumn } from './table.ts';

/**
 * SQL that writes many rows of one user table at once, as text: pure (DESIGN 3.2). Each column comes as one `text[]`, the arrays
 * side by side as the rows `s`, and each value is cast to its column's type.
 *
 * An UPDATE or DELETE answers with one row: how many rows it took and, if they are fewer than `expected`, which: `n` counts from 1.
 */
export interface SetStatement {
  readonly sql: string;
  /** The columns whose arrays are the first parameters, in order. */
  readonly columns: readonly TableColumn[];
}

/** Parameters after the arrays: `expected`, the provider's origin number, the greatest commit time to overwrite. */
export function setUpdateSql(
  table: Table,
  columns: readonly TableColumn[],
  unrecorded: Unrecorded = 'taken',
): SetStatement {
  const all = [...columns, ...table.key.columns];
  const test = versionTest(all.length + 2, unrecorded);
  return { sql: setUpdate(table, columns, all, test), columns: all };
}

/**
 * As `setUpdateSql`, for updates that leave out TOASTed values: only the provider's own rows hold what was left out, and rows
 * that this same transaction wrote. Parameters after the arrays: `expected`, the provider's origin number.
 */
export function setOwnUpdateSql(table: Table, columns: readonly TableColumn[]): SetStatement {
  const all = [...columns, ...table.key.columns];
  const test = `(${ORIGIN} = $${all.length + 2}::oid OR ${OWN})`;
  return { sql: setUpdate(table, columns, all, test), columns: all };
}

/** Parameters after the arrays: `expected`, the provider's origin number, the greatest commit time to overwrite. */
export function setDeleteSql(table: Table, unrecorded: Unrecorded = 'taken'): SetStatement {
  const columns = table.key.columns;
  const taken =
    `DELETE FROM ONLY ${quoteQualified(table.local.name)} AS t USING ${rows(columns)}` +
    ` WHERE ${sameKey(table, 0)} AND ${versionTest(columns.length + 2, unrecorded)} RETURNING s.n`;
  return { sql: counted(taken, columns.length + 1), columns };
}

/** Inserts the rows whose way is free; without a key, any row in the way is an error. It answers with the number of rows alone. */
export function setInsertSql(table: Table, columns: readonly TableColumn[]): SetStatement {
  const names = columns.map((column) => quoteIdent(column.name)).join(', ');
  const values = columns.map((column, index) => value(column, index)).join(', ');
  const sql =
    `INSERT INTO ${quoteQualified(table.local.name)} (${names}) OVERRIDING SYSTEM VALUE` +
    ` SELECT ${values} FROM ${rows(columns)}${onConflict(table)}`;
  return { sql, columns };
}

/** Inserts rows in COPY's text format; any row in the way is an error. */
export function copySql(table: Table, columns: readonly TableColumn[]): string {
  const names = columns.map((column) => quoteIdent(column.name)).join(', ');
  return `COPY ${quoteQualified(table.local.name)} (${names}) FROM STDIN`;
}

/** Which of the keys have no row that this transaction wrote: those that a `setInsertSql` before it did not insert. */
export function notInsertedSql(table: Table): SetStatement {
  const columns = table.key.columns;
  const sql =
    `SELECT s.n FROM ${rows(columns)} WHERE NOT EXISTS (` +
    `SELECT FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE ${sameKey(table, 0)} AND ${OWN})`;
  return { sql, columns };
}

/** Where the server refuses ON CONFLICT, and without a key, a row in the way is an error. */
function onConflict(table: Table): string {
  if (table.key.kind !== 'unique' || table.local.refusesOnConflict) return '';
  return ` ON CONFLICT ${arbiter(table)}DO NOTHING`;
}

function setUpdate(
  table: Table,
  columns: readonly TableColumn[],
  all: readonly TableColumn[],
  test: string,
): string {
  const sets = columns.map(
    (column, index) => `${quoteIdent(column.name)} = ${value(column, index)}`,
  );
  const taken =
    `UPDATE ONLY ${quoteQualified(table.local.name)} AS t SET ${sets.join(', ')} FROM ${rows(all)}` +
    ` WHERE ${sameKey(table, columns.length)} AND ${test} RETURNING s.n`;
  return counted(taken, all.length + 1);
}

/** Only a short count is worth a list. */
function counted(taken: string, expected: number): string {
  return (
    `WITH taken AS (${taken})` +
    ` SELECT count(*) AS count, CASE WHEN count(*) < $${expected}::integer THEN array_agg(n) END AS list FROM taken`
  );
}

function rows(columns: readonly TableColumn[]): string {
  const arrays = columns.map((_, index) => `$${index + 1}::text[]`).join(', ');
  const names = columns.map((_, index) => `c${index}`).join(', ');
  return `unnest(${arrays}) WITH ORDINALITY AS s (${names}, n)`;
}

/** The key's arrays begin at column `first` of `s`. */
function sameKey(table: Table, first: number): string {
  return table.key.columns
    .map(
      (column, index) =>
        `${equalsSql(`t.${quoteIdent(column.name)}`, column.local)} ${value(column, first + index)}`,
    )
    .join(' AND ');
}

function value(column: TableColumn, index: number): string {
  return column.local ? `s.c${index}::${column.local.type}` : `s.c${index}`;
}
