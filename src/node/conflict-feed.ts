import type { ConflictEntry, HistoryHorizon } from '../catalog/read-conflicts.ts';

/** Where conflicts are read from. */
export interface ConflictSource {
  horizon(): Promise<HistoryHorizon>;
  /** Those with numbers above `after`, but for some, in the order of the numbers. */
  read(after: number, except: readonly number[]): Promise<readonly ConflictEntry[]>;
}

/**
 * Hands on each conflict of a history once, as they turn up. Transactions draw numbers before they commit, so a smaller number may
 * turn up after a greater one: numbers that were seen are remembered until every transaction has ended that may hold a smaller one.
 */
export class ConflictFeed {
  /** Nothing new can turn up at or below this number. */
  #after: number;
  readonly #seen = new Set<number>();
  #greatest: number;
  /**
   * To be the next `#after`, once the transactions have ended that were open when the number had been seen: whoever has drawn a
   * smaller one was open by then. They are known a look later.
   */
  #next: { readonly number: number; open: readonly string[] | undefined } | undefined;

  constructor(after: number) {
    this.#after = after;
    this.#greatest = after;
  }

  /** What has turned up since the last look. */
  async look(source: ConflictSource): Promise<readonly ConflictEntry[]> {
    const { last, writers } = await source.horizon();
    // Numbers begin anew: the history was emptied with RESTART IDENTITY, or it is another one.
    if (last < this.#greatest) this.#begin();
    if (this.#next) {
      this.#next.open = this.#next.open?.filter((one) => writers.includes(one)) ?? writers;
    }
    const found = await source.read(this.#after, [...this.#seen]);
    for (const { id } of found) {
      this.#seen.add(id);
      if (id > this.#greatest) this.#greatest = id;
    }
    // What the last of them had drawn was there to be read.
    if (this.#next?.open?.length === 0) {
      this.#after = this.#next.number;
      for (const id of this.#seen) if (id <= this.#after) this.#seen.delete(id);
      this.#next = undefined;
    }
    if (!this.#next && this.#seen.size > 0) {
      this.#next = { number: this.#greatest, open: undefined };
    }
    return found;
  }

  #begin(): void {
    this.#after = 0;
    this.#greatest = 0;
    this.#seen.clear();
    this.#next = undefined;
  }
}
