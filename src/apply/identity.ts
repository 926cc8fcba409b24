import { quoteQualified } from '../base/names.ts';
import type { Session } from '../postgres/session.ts';
import type { Table } from './table.ts';

/**
 * Does work that updates or deletes rows of a table. The server refuses that for a published table without replica identity, also to apply,
 * whose changes no peer is to get: such a table is given one meanwhile, in the same transaction.
 */
export async function withReplicaIdentity<Result>(
  session: Session,
  { local }: Table,
  work: () => Promise<Result>,
): Promise<Result> {
  if (local.missingIdentity === undefined) return work();
  const alter = `ALTER TABLE ONLY ${quoteQualified(local.name)} REPLICA IDENTITY`;
  await session.script(`${alter} FULL`);
  const result = await work();
  await session.script(`${alter} ${local.missingIdentity}`);
  return result;
}
