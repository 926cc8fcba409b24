import { describeTable } from '../postgres/describe-table.ts';
import type { Session } from '../postgres/session.ts';
import { keyParams } from './local-rows.ts';
import type { RowValues } from './row-values.ts';
import { rowWith, type Table, type TableColumn } from './table.ts';
import type { TableMap } from './table-map.ts';
import { Tombstones } from './tombstones.ts';

/**
 * Keys as the tables of bdr keep them (bdr.tombstone, bdr.lost_value): the values as text, in the order of the columns' names, which
 * all nodes agree on.
 */
function storedOrder({ key }: Table): TableColumn[] {
  return [...key.columns].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** What tells a row's key from all others, within one local transaction. */
export function keyName(table: Table, row: RowValues): string {
  return JSON.stringify([table.local.oid, storedKey(table, row)]);
}

/** The key of a row. */
export function storedKey(table: Table, values: RowValues): (string | null)[] {
  const params = keyParams(table, values);
  return storedOrder(table).map(
    (column) => params[table.key.columns.indexOf(column)]?.toString() ?? null,
  );
}

/**
 * A row of which only the key has values, from such a key as a JSON array. Undefined where the table had another key then: there is
 * nothing to compare with.
 */
export function valuesOfStored(table: Table, key: string): RowValues | undefined {
  const columns = storedOrder(table);
  const stored = JSON.parse(key) as (string | null)[];
  if (stored.length !== columns.length) return undefined;
  return rowWith(table, columns, (index) => stored[index]);
}

/**
 * The table, by its OID, that such a key is of: described anew each time, to be held before it is used. Undefined for one that is gone
 * by now, or has no key any more.
 */
export async function seekKeyedTable(
  session: Session,
  tables: TableMap,
  oid: string,
): Promise<Table | undefined> {
  const relation = await describeTable(session, oid);
  const table = relation && (await tables.seek(relation));
  return table && Tombstones.byKey(table) ? table : undefined;
}
