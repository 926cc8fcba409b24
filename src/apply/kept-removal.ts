import type { PgTime } from '../base/pg-time.ts';
import { textArray } from '../base/text-array.ts';
import type { Param, Session } from '../postgres/session.ts';
import { withReplicaIdentity } from './identity.ts';
import type { FoundRow, LocalRows } from './local-rows.ts';
import { lockedDeletesSql, lockedJsonSql } from './statements.ts';
import type { Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';

/** So many rows are looked for at once: each look goes through the whole table. */
export const MOST_LOOKED_FOR = 10_000;

/** So many of them are read at once. */
const MOST_READ = 100;

/** A row that is about to be removed. */
export interface DoomedRow {
  readonly found: FoundRow;
  /** As JSON text, where it is asked for. */
  readonly row: string | null;
  /** The same of its key; null where the table's rows have none. */
  readonly key: string | null;
}

/**
 * Removes many rows of a table, of which each is first given to `keep`, inside the caller's transaction. `text` locks them, with a select list
 * of rowFacts() and a limit of MOST_LOOKED_FOR; it is asked until it finds no more.
 */
export async function removeKept(options: {
  readonly session: Session;
  readonly onTable: TableStatements;
  readonly rows: LocalRows;
  readonly table: Table;
  readonly text: string;
  readonly params: readonly Param[];
  /** Of the deletion that they lose to. */
  readonly time: PgTime;
  readonly withRows: boolean;
  readonly keep: (row: DoomedRow) => Promise<void>;
}): Promise<void> {
  const { session, onTable, rows, table, text, params, time, keep } = options;
  let isMore: boolean;
  do {
    const all = await rows.foundBy(table, text, params, time);
    if (all.length === 0) return;
    for (let from = 0; from < all.length; from += MOST_READ) {
      for (const doomed of await readDoomed(options, all.slice(from, from + MOST_READ))) {
        await keep(doomed);
      }
    }
    const ctids = textArray(all.map(({ ctid }) => ctid));
    let removed = 0;
    await withReplicaIdentity(session, table, async () => {
      removed = await onTable.run(table, lockedDeletesSql(table), [ctids]);
    });
    // A trigger of the user's may keep some, or all.
    isMore = all.length === MOST_LOOKED_FOR && removed > 0;
  } while (isMore);
}

/** Rows that are locked, as they are to be kept. */
export async function readDoomed(
  {
    onTable,
    table,
    withRows,
  }: {
    readonly onTable: TableStatements;
    readonly table: Table;
    readonly withRows: boolean;
  },
  all: readonly FoundRow[],
): Promise<DoomedRow[]> {
  const read = await onTable.rows<{ ctid: string; row: string | null; key: string | null }>(
    table,
    lockedJsonSql(table, withRows),
    [textArray(all.map(({ ctid }) => ctid))],
  );
  const byCtid = new Map(read.map((one) => [one.ctid, one]));
  return all.map((found) => {
    const { row = null, key = null } = byCtid.get(found.ctid) ?? {};
    return { found, row, key };
  });
}
