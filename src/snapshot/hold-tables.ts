import { BdrError } from '../base/errors.ts';
import { displayName, quoteQualified, type QualifiedName } from '../base/names.ts';
import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import { readUserCode } from '../postgres/user-code.ts';
import { isCut } from './copy-pieces.ts';
import type { CopyTable, ListedTable } from './copy-table.ts';

const LOCK_TIMEOUT = '2s';

/**
 * Locks tables of the source until the transaction that this begins in `guard` ends, and tells how each may be read.
 *
 * A superuser's query of an ordinary role's table may run that role's code, if only to be planned: so such tables are read by COPY,
 * which plans nothing, and whole. Only a large one is worth a lock that keeps indexes and statistics as they are: its pieces are
 * read by queries if none of that runs code, and if the lock is to be had soon, which VACUUM may prevent.
 *
 * `source` sees the copy's snapshot. A table that is another one by now, or a view of somebody's in its place, is an error.
 */
export async function holdTables(
  guard: Session,
  source: Session,
  tables: readonly ListedTable[],
): Promise<CopyTable[]> {
  const names = tables.map(({ name }) => name);
  await guard.script('BEGIN');
  for (const name of names) {
    await guard.script(`LOCK TABLE ONLY ${quoteQualified(name)} IN ACCESS SHARE MODE`);
  }
  const [then, now] = [await readOids(source, names), await readOids(guard, names)];
  for (const name of names) {
    if (then.get(displayName(name)) === now.get(displayName(name))) continue;
    throw new BdrError('schema_copy_failed', {
      message: `table ${displayName(name)} was replaced on the source while it was to be copied`,
      hint: 'The agent tries again.',
    });
  }
  const trusted = new Set(
    (await readUserCode(guard, names))
      .filter(({ isOwnersTrusted }) => isOwnersTrusted)
      .map(({ table }) => displayName(table)),
  );
  const kept = new Set<string>();
  for (const table of tables) {
    const name = displayName(table.name);
    if (!trusted.has(name) && isCut(table) && (await keep(guard, table.name))) kept.add(name);
  }
  // Only now, what is kept stays so.
  const harmless = new Set(
    (await readUserCode(guard, names))
      .filter(({ places }) => places.length === 0)
      .map(({ table }) => displayName(table)),
  );
  return tables.map((table) => {
    const name = displayName(table.name);
    return {
      ...table,
      isReadWhole: !trusted.has(name) && !(kept.has(name) && harmless.has(name)),
    };
  });
}

/** Indexes, statistics and all other definitions of a table; its rows may be written. False where somebody else does the like. */
async function keep(guard: Session, table: QualifiedName): Promise<boolean> {
  await guard.script(`SAVEPOINT keep; SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`);
  try {
    await guard.script(`LOCK TABLE ONLY ${quoteQualified(table)} IN SHARE UPDATE EXCLUSIVE MODE`);
    await guard.script('SET LOCAL lock_timeout = 0');
    return true;
  } catch (error) {
    if (!hasSqlstate(error, SQLSTATE.lockNotAvailable)) throw error;
    await guard.script('ROLLBACK TO keep');
    return false;
  }
}

async function readOids(
  session: Session,
  names: readonly QualifiedName[],
): Promise<Map<string, string>> {
  const rows = await session.query<{ schema: string; name: string; oid: string }>(
    /* sql */ `
      SELECT n.nspname AS schema, c.relname AS name, c.oid
      FROM json_to_recordset($1::json) AS asked (schema text, name text)
      JOIN pg_namespace AS n ON n.nspname = asked.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = asked.name AND c.relkind = 'r'
    `,
    [JSON.stringify(names)],
  );
  return new Map(rows.map((row) => [displayName(row), row.oid]));
}
