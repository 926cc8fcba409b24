import type { Param } from '../postgres/session.ts';
import { keyParams } from './local-rows.ts';
import { isComplete, UNSENT, type RowValues } from './row-values.ts';
import { readColumnsSql } from './statements.ts';
import type { Table } from './table.ts';

/** Reads columns of a row from the provider, as text by column name; undefined when it has no such row (any more). */
export type ReadFromProvider = (
  sql: string,
  key: readonly Param[],
) => Promise<Record<string, string | null> | undefined>;

/**
 * The row with the TOASTed values that the stream left out, read from the provider as they are by now (DESIGN 4.2, rule 9).
 * Undefined when the provider has no such row any more: the change that removed it is on its way.
 */
export async function completed(
  table: Table,
  values: RowValues,
  read: ReadFromProvider,
): Promise<RowValues | undefined> {
  if (isComplete(values)) return values;
  const columns = table.columns.filter(
    ({ local, position }) => local !== undefined && values[position] === UNSENT,
  );
  // What was left out belongs to columns that do not exist here.
  if (columns.length === 0) return values;
  const found = await read(readColumnsSql(table, columns), keyParams(table, values));
  if (!found) return undefined;
  const row = [...values];
  for (const { name, position } of columns) row[position] = found[name] ?? null;
  return row;
}
