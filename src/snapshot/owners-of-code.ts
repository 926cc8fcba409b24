import { displayName, type QualifiedName } from '../base/names.ts';
import type { Session } from '../postgres/session.ts';
import { readUserCode } from '../postgres/user-code.ts';

/**
 * The tables that run code when a row is read or written, and are owned by ordinary roles: by displayName() the OID of the owner,
 * with whose rights that has to be done.
 */
export async function ownersOfCode(
  session: Session,
  tables: readonly QualifiedName[],
): Promise<Map<string, string>> {
  const code = await readUserCode(session, tables);
  return new Map(
    code
      .filter(({ isOwnersTrusted, places }) => !isOwnersTrusted && places.length > 0)
      .map(({ table, owner }) => [displayName(table), owner]),
  );
}
