import { BdrError, messageOf } from '../base/errors.ts';
import { displayName } from '../base/names.ts';
import { readRestricted, rowsOf, rowsStatement } from '../catalog/restricted.ts';
import type { Session } from '../postgres/session.ts';
import { sqlstateOf } from '../postgres/sqlstate.ts';
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
      return rowsOf<Row>((await readRestricted(owners, table.name, rowsStatement(sql))) ?? '');
    } catch (error) {
      if (owners.lost.aborted) throw error;
      throw new BdrError('schema_copy_failed', {
        message: `rows of table ${displayName(table.name)} could not be looked at on the source with the rights of the table's owner: ${messageOf(error)}`,
        hint: 'Grant the owner there what he lacks, take FORCE ROW LEVEL SECURITY away meanwhile, or change the code that the table calls; the agent tries again.',
        sqlstate: sqlstateOf(error),
        cause: error,
      });
    } finally {
      // Not committed: what this has made for itself, the snapshot would not show the next time.
      if (!owners.lost.aborted) await owners.script('ROLLBACK');
    }
  };
}
