import type { HistoryOptions } from '../apply/pending-conflicts.ts';

const KEPT = 1;
const WITH_ROWS = 2;

/** What is kept of conflicts, as a node's threads share it: one reads the settings, the others go by them from then on. */
export class HistorySettings implements HistoryOptions {
  /** To be sent to another thread, which makes its own HistorySettings from it. */
  readonly shared: SharedArrayBuffer;
  readonly #cell: Int32Array;

  /** All is kept, unless it is made from what another thread shares. */
  constructor(shared?: SharedArrayBuffer) {
    this.shared = shared ?? new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    this.#cell = new Int32Array(this.shared);
    if (!shared) this.set({ isKept: true, withRows: true });
  }

  get isKept(): boolean {
    return (Atomics.load(this.#cell, 0) & KEPT) !== 0;
  }

  get withRows(): boolean {
    return (Atomics.load(this.#cell, 0) & WITH_ROWS) !== 0;
  }

  set({ isKept, withRows }: HistoryOptions): void {
    Atomics.store(this.#cell, 0, (isKept ? KEPT : 0) | (withRows ? WITH_ROWS : 0));
  }
}
