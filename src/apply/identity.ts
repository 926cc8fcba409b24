import { quoteQualified } from '../base/names.ts';
import type { Session } from '../postgres/session.ts';
import type { Table } from './table.ts';

/**
 * Does work that deletes from a table. The server refuses that for a published table without replica identity, also to apply,
 * whose deletes no peer is to get: such a table is given one meanwhile, in the same transaction.
 */
export async function withReplicaIdentity(
  session: Session,
  table: Table,
  work: () => Promise<unknown>,
): Promise<void> {
  if (table.key.kind !== 'none') {
    await work();
    return;
  }
  const alter = `ALTER TABLE ONLY ${quoteQualified(table.local.name)} REPLICA IDENTITY`;
  await session.script(`${alter} FULL`);
  await work();
  await session.script(
    `${alter} ${table.relation.replicaIdentity === 'nothing' ? 'NOTHING' : 'DEFAULT'}`,
  );
}
