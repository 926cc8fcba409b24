import { readRestricted } from '../catalog/restricted.ts';
import type { Session } from '../postgres/session.ts';
import type { CopyTable } from './copy-table.ts';

/** Runs a query without parameters that reads a table of the source, in the copy's snapshot. Its columns are text. */
export type ReadTable = <Row extends object>(table: CopyTable, sql: string) => Promise<Row[]>;

/**
 * Reads in `session`, which has the snapshot; where to plan a query may run code of the table's owner, with the owner's rights, in a
 * session that is opened when it is needed.
 */
export function tableReader(
  session: Session,
  openForOwners: () => Promise<Session>,
  exportId: string,
): ReadTable {
  let forOwners: Promise<Session> | undefined;
  return async <Row extends object>(table: CopyTable, sql: string) => {
    if (!table.isReadWhole) return session.query<Row>(sql);
    forOwners ??= openForOwners();
    const owners = await forOwners;
    await owners.script(
      `BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '${exportId}'`,
    );
    try {
      const statement = `SELECT json_agg(row_to_json(r.*))::text FROM (${sql}) AS r`;
      const answer = await readRestricted(owners, table.name, statement);
      return JSON.parse(answer || '[]') as Row[];
    } finally {
      // Not committed: what this has made for itself, the snapshot would not show the next time.
      if (!owners.lost.aborted) await owners.script('ROLLBACK');
    }
  };
}
