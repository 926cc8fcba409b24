import { LONG_AGO, type PgTime } from './pg-time.ts';

/**
 * A moment that threads share: one writes it, any may read it at any time. It is kept as the bits of a double, which hold every
 * PgTime and both infinities, and moved as one piece: no reader meets half of a new value.
 */
export class SharedTime {
  /** To be sent to another thread, which makes a SharedTime of its own from it. */
  readonly shared: SharedArrayBuffer;
  readonly #cell: BigInt64Array;
  readonly #value = new Float64Array(1);
  readonly #bits = new BigInt64Array(this.#value.buffer);

  /** LONG_AGO, unless it is made from what another thread shares. */
  constructor(shared?: SharedArrayBuffer) {
    this.shared = shared ?? new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT);
    this.#cell = new BigInt64Array(this.shared);
    if (!shared) this.set(LONG_AGO);
  }

  get(): PgTime {
    this.#bits[0] = Atomics.load(this.#cell, 0);
    return this.#value[0] as PgTime;
  }

  set(time: PgTime): void {
    this.#value[0] = time;
    Atomics.store(this.#cell, 0, this.#bits[0] as bigint);
  }
}
