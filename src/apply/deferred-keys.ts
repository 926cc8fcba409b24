import type { RowValues } from './row-values.ts';
import { keyOnly, type Table } from './table.ts';

/**
 * Keys that rows took in this transaction under a deferrable constraint. The provider checked it when its transaction ended, and
 * in replica role the server does not check it at all: so it is looked at here, at the end too. In between two rows may have one
 * key, as when two rows swap theirs.
 */
export class DeferredKeys {
  #taken: { readonly table: Table; readonly values: RowValues }[] = [];

  /** `values`: the row that took its key. */
  add(table: Table, values: RowValues): void {
    // Only the key is needed, and a transaction may be long.
    this.#taken.push({ table, values: keyOnly(table, values) });
  }

  all(): readonly { readonly table: Table; readonly values: RowValues }[] {
    return this.#taken;
  }

  clear(): void {
    this.#taken = [];
  }
}
