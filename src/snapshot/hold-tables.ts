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
 * which plans nothing, and whole; the versions of its rows with the owner's rights. Only a large one, or one whose owner could not
 * read it, is worth a lock that keeps indexes and statistics as they are: it is read by queries if none of that runs code, and if
 * the lock is to be had soon, which VACUUM may prevent.
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
  if (names.length > 0) {
    const list = names.map((name) => `ONLY ${quoteQualified(name)}`).join(', ');
    await guard.script(`LOCK TABLE ${list} IN ACCESS SHARE MODE`);
  }
  const [then, now] = [await findTables(source, names), await findTables(guard, names)];
  for (const name of names) {
    if (then.get(displayName(name))?.oid === now.get(displayName(name))?.oid) continue;
    throw new BdrError('schema_copy_failed', {
      message: `table ${displayName(name)} was replaced on the source while it was to be copied`,
      hint: 'The agent tries again.',
    });
  }
  const isTrusted = ({ name }: ListedTable) => now.get(displayName(name))?.isOwnersTrusted === true;
  const kept = new Set<string>();
  for (const table of tables) {
    const name = displayName(table.name);
    if (isTrusted(table) || (!isCut(table) && now.get(name)?.isReadable)) continue;
    if (await keep(guard, table.name)) kept.add(name);
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
      isReadWhole: !isTrusted(table) && !(kept.has(name) && harmless.has(name)),
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

interface FoundTable {
  readonly oid: string;
  /** The owner is a superuser. */
  readonly isOwnersTrusted: boolean;
  /** The owner may read all rows. */
  readonly isReadable: boolean;
}

async function findTables(
  session: Session,
  names: readonly QualifiedName[],
): Promise<Map<string, FoundTable>> {
  const rows = await session.query<{
    schema: string;
    name: string;
    oid: string;
    trusted: string;
    readable: string;
  }>(
    /* sql */ `
      SELECT n.nspname AS schema, c.relname AS name, c.oid, r.rolsuper AS trusted,
             has_schema_privilege(c.relowner, n.oid, 'USAGE') AND has_table_privilege(c.relowner, c.oid, 'SELECT')
             AND NOT (c.relrowsecurity AND c.relforcerowsecurity) AS readable
      FROM json_to_recordset($1::json) AS asked (schema text, name text)
      JOIN pg_namespace AS n ON n.nspname = asked.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = asked.name AND c.relkind = 'r'
      JOIN pg_roles AS r ON r.oid = c.relowner
    `,
    [JSON.stringify(names)],
  );
  return new Map(
    rows.map((row) => [
      displayName(row),
      { oid: row.oid, isOwnersTrusted: row.trusted === 't', isReadable: row.readable === 't' },
    ]),
  );
}
