import type { Session } from '../postgres/session.ts';
import { sqlstateOf } from '../postgres/sqlstate.ts';
import { keyParams } from './local-rows.ts';
import type { RowValues } from './row-values.ts';
import type { Table } from './table.ts';

const SAVEPOINT = 'bdr_possible';

/** A text is no value of a type: class 22 of SQLSTATEs, "data exception". */
export function isOfValue(error: unknown): boolean {
  return sqlstateOf(error)?.startsWith('22') ?? false;
}

/**
 * Those of which the table can have the key; the others are of a time before a command gave the key's columns another type. Nothing can
 * come under these: before the command was run, all that peers had sent was applied. Inside the caller's transaction, key by key: it is for
 * when one is known to be among them.
 */
export async function withPossibleKeys<Item>(
  session: Session,
  table: Table,
  items: readonly Item[],
  keyOf: (item: Item) => RowValues,
): Promise<Item[]> {
  const casts = table.key.columns.map(({ local }, n) => `$${n + 1}::text::${local?.type}`);
  const possible: Item[] = [];
  for (const item of items) {
    await session.script(`SAVEPOINT ${SAVEPOINT}`);
    try {
      await session.query(`SELECT ${casts.join(', ')}`, keyParams(table, keyOf(item)));
      possible.push(item);
    } catch (error) {
      if (!isOfValue(error)) throw error;
      await session.script(`ROLLBACK TO SAVEPOINT ${SAVEPOINT}`);
    }
    await session.script(`RELEASE SAVEPOINT ${SAVEPOINT}`);
  }
  return possible;
}
