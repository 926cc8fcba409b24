import { quoteQualified } from '../base/names.ts';
import type { Session } from './session.ts';

/** An index, as far as the server has built it. */
export interface BuiltIndex {
  /** Quoted, in full. */
  readonly name: string;
  /** What CREATE INDEX CONCURRENTLY leaves behind when it fails is not. */
  readonly isValid: boolean;
}

/** The index of that name on a table, given by OID. */
export async function findIndex(
  session: Session,
  table: string,
  name: string,
): Promise<BuiltIndex | undefined> {
  const [row] = await session.query<{ schema: string; name: string; valid: string }>(
    /* sql */ `
      SELECT n.nspname AS schema, c.relname AS name, i.indisvalid AS valid
      FROM pg_index AS i
      JOIN pg_class AS c ON c.oid = i.indexrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE i.indrelid = $1 AND c.relname = $2
    `,
    [table, name],
  );
  return row && { name: quoteQualified(row), isValid: row.valid === 't' };
}
