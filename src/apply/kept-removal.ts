import { textArray } from '../base/text-array.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { Param, Session } from '../postgres/session.ts';
import type { FoundRow, LocalRows } from './local-rows.ts';
import { lockedDeletesSql, lockedJsonSql } from './statements.ts';
import type { Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';

/** So many blocks of the table are looked into at once: a block has some hundred rows at most. */
const MOST_BLOCKS = 128;

/** So many rows are read at once: they may be large. */
const MOST_READ = 8;

/** A row that is about to be removed. */
export interface DoomedRow {
  readonly found: FoundRow;
  /** As JSON text, where it is asked for. */
  readonly row: string | null;
  /** The same of its key; null where the table's rows have none. */
  readonly key: string | null;
}

/** What reads them. */
interface Reading {
  readonly onTable: TableStatements;
  readonly table: Table;
  readonly withRows: boolean;
}

/**
 * Removes many rows of a table, of which each is first given to `keep`, inside the caller's transaction. `text` locks them: a statement with a
 * select list of rowFacts(), whose last two parameters are the ctids between which it looks. It is asked for one part of the table after the
 * other.
 */
export async function removeKept(
  options: Reading & {
    readonly session: Session;
    readonly rows: LocalRows;
    readonly text: string;
    readonly params: readonly Param[];
    /** Of the deletion that they lose to. */
    readonly time: PgTime;
    /** Where nothing is kept the rows are not even read. */
    readonly keep: ((row: DoomedRow) => Promise<void>) | undefined;
  },
): Promise<void> {
  const { session, onTable, rows, table, text, params, time, keep } = options;
  const [size] = await session.query<{ blocks: string }>(
    `SELECT pg_relation_size($1::oid::regclass) / current_setting('block_size')::bigint AS blocks`,
    [table.local.oid],
  );
  const blocks = Number(size?.blocks);
  for (let block = 0; block < blocks; block += MOST_BLOCKS) {
    const range = [`(${block},0)`, `(${block + MOST_BLOCKS},0)`];
    const all = await rows.foundBy(table, text, [...params, ...range], time);
    if (all.length === 0) continue;
    for (let from = 0; keep && from < all.length; from += MOST_READ) {
      const doomed = await readDoomed(options, all.slice(from, from + MOST_READ));
      for (const one of doomed) await keep(one);
    }
    const ctids = textArray(all.map(({ ctid }) => ctid));
    await onTable.run(table, lockedDeletesSql(table), [ctids]);
  }
}

/** Rows that are locked, as they are to be kept. */
export async function readDoomed(
  { onTable, table, withRows }: Reading,
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
