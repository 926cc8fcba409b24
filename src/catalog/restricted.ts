import type { QualifiedName } from '../base/names.ts';
import type { Param, Session } from '../postgres/session.ts';

/**
 * Statements on tables that run code of their owners (docs/decisions/0019-users-code-in-restricted-operations.md), and how it is
 * known that a table is still one that runs none.
 */

/** A text that is another one once any definition in the database has changed. */
export const DEFINITIONS = 'bdr.internal_definitions()';

export async function readDefinitions(session: Session): Promise<string> {
  const [row] = await session.query<{ definitions: string }>(
    `SELECT ${DEFINITIONS} AS definitions`,
  );
  return row?.definitions ?? '';
}

/** What must stay as it is until the end of a transaction. */
export interface Held {
  /** OIDs of tables. */
  readonly tables: readonly string[];
  /** Casts too. */
  readonly casts: boolean;
  /** What is known was read when definitions were these. */
  readonly definitions: string;
}

export function holdParams({ tables, casts, definitions }: Held): Param[] {
  return [`{${tables.join(',')}}`, casts, definitions];
}

/** Inside a transaction. False when definitions have changed: then nothing that is known of tables counts. */
export async function holdDefinitions(session: Session, held: Held): Promise<boolean> {
  const [row] = await session.query<{ same: string }>(
    'SELECT bdr.internal_hold_definitions($1::oid[], $2::boolean, $3) AS same',
    holdParams(held),
  );
  return row?.same === 't';
}

/** Makes what `runRestricted` and `readRestricted` need for roles, given by OID, where it is missing. */
export async function prepareRestricted(session: Session, roles: Iterable<string>): Promise<void> {
  for (const role of new Set(roles)) {
    await session.query('SELECT bdr.internal_restricted_index($1::oid)', [role]);
  }
}

/** A statement whose answer, a text, holds all rows of a query: `rowsOf` reads them. */
export function rowsStatement(query: string): string {
  return `SELECT json_agg(row_to_json(r.*))::text FROM (${query}) AS r`;
}

/** Columns are text or null, where `reviver` makes them so or the query. */
export function rowsOf<Row extends object>(
  answer: string,
  reviver?: (key: string, value: unknown) => unknown,
): Row[] {
  return answer === '' ? [] : (JSON.parse(answer, reviver) as Row[]);
}

/**
 * Runs a statement without parameters with the rights of a role. Returns the text that a SELECT returns, of any other statement
 * how many rows it took.
 */
export async function runRestricted(
  session: Session,
  role: string,
  statement: string,
): Promise<string> {
  const [row] = await session.query<{ answer: string }>(
    'SELECT bdr.internal_run_restricted($1::oid, $2) AS answer',
    [role, statement],
  );
  return row?.answer ?? '';
}

/** As `runRestricted`, with the rights of the owner that a table has on that server. Undefined when it has no such table. */
export async function readRestricted(
  session: Session,
  { schema, name }: QualifiedName,
  statement: string,
): Promise<string | undefined> {
  const [row] = await session.query<{ answer: string | null }>(
    'SELECT bdr.internal_read_restricted($1, $2, $3) AS answer',
    [schema, name, statement],
  );
  return row?.answer ?? undefined;
}
