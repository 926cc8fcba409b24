import type { ChangeContext } from './change-context.ts';
import { keyParams } from './local-rows.ts';
import type { RowValues } from './row-values.ts';
import { keyOnly, type Table } from './table.ts';
import { keyArrays, type KeyArrays } from './tombstones.ts';

/** A row of which only the key has values, and the transaction that wrote or deleted it. */
export interface NotedKey {
  readonly key: RowValues;
  readonly context: ChangeContext;
}

const KINDS = ['inserted', 'deleted', 'missed', 'gone'] as const;
type Kind = (typeof KINDS)[number];

/**
 * Keys of the rows that an apply transaction inserted, of those that it deleted, of those that it was to delete and did not
 * find, and of those that came and went within it: what has to do with deletions is done for all of them at once.
 */
export class KeyJournal {
  readonly #keys: Record<Kind, Map<Table, NotedKey[]>> = {
    inserted: new Map(),
    deleted: new Map(),
    missed: new Map(),
    gone: new Map(),
  };
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(kind: Kind, table: Table, values: RowValues, context: ChangeContext): void {
    const keys = this.#keys[kind];
    const ofTable = keys.get(table);
    const noted: NotedKey = { key: keyOnly(table, values), context };
    if (ofTable) ofTable.push(noted);
    else keys.set(table, [noted]);
    this.#size += 1;
  }

  all(kind: Kind): ReadonlyMap<Table, readonly NotedKey[]> {
    return this.#keys[kind];
  }

  clear(): void {
    for (const kind of KINDS) this.#keys[kind].clear();
    this.#size = 0;
  }
}

export function keysOf(table: Table, keys: readonly NotedKey[]): KeyArrays {
  return keyArrays(
    table,
    keys.map(({ key, context }) => ({ time: context.commitTime, key: keyParams(table, key) })),
  );
}
