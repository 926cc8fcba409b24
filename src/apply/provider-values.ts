import { BdrError } from '../base/errors.ts';
import { displayName, type QualifiedName } from '../base/names.ts';
import { pause } from '../base/wait.ts';
import { readRestricted, rowsOf, rowsStatement } from '../catalog/restricted.ts';
import type { Param, Session } from '../postgres/session.ts';
import { isSeen } from '../postgres/snapshot-shows.ts';
import { SQLSTATE } from '../postgres/sqlstate.ts';
import { inlined } from './inlined.ts';
import { keyParams } from './local-rows.ts';
import { isComplete, UNSENT, type RowValues } from './row-values.ts';
import { readColumnsSql } from './statements.ts';
import type { Table } from './table.ts';

/** Reads rows from the provider by a query of src/apply/statements.ts: columns as text by name. */
export type ReadFromProvider = (
  table: QualifiedName,
  sql: string,
  params: readonly Param[],
) => Promise<readonly Record<string, string | null>[]>;

/**
 * Reads them in a session of the provider. The table may run code of its owner there when it is looked at, whatever it is here: so
 * it is read with the owner's rights.
 */
export async function readFromProvider(
  session: Session,
  table: QualifiedName,
  sql: string,
  params: readonly Param[],
): Promise<readonly Record<string, string | null>[]> {
  const answer = await readRestricted(session, table, rowsStatement(inlined(sql, params)));
  if (answer === undefined) {
    throw new BdrError('apply_failed', {
      message: `table ${displayName(table)} does not exist on the provider any more`,
      detail: 'Its stream has left out long values that did not change, and they are read there.',
      hint: 'Make it again there, or skip the transaction.',
      sqlstate: SQLSTATE.undefinedTable,
    });
  }
  return rowsOf<Record<string, string | null>>(answer);
}

const SEEN_POLL_MS = 20;
/** A commit of the provider that is not seen there for so long waits for somebody. */
export const MOST_UNSEEN_MS = 1000;

/**
 * Returns whether a session of the provider sees what a transaction did that its stream has brought, once it does or `mostMs` have
 * passed: a commit is on the log before it can be seen, and under synchronous_standby_names long before.
 */
export async function untilSeen(
  session: Session,
  xid: number,
  mostMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const end = performance.now() + mostMs;
  while (!(await isSeen(session, xid))) {
    if (performance.now() >= end) return false;
    await pause(SEEN_POLL_MS, signal);
    signal.throwIfAborted();
  }
  return true;
}

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
  const [found] = await read(
    { schema: table.relation.schema, name: table.relation.name },
    readColumnsSql(table, columns),
    keyParams(table, values),
  );
  if (!found) return undefined;
  const row = [...values];
  for (const { name, position } of columns) row[position] = found[name] ?? null;
  return row;
}
