/**
 * What the main thread tells the threads of a node's links about the group comes in editions. Each has a number, and holds for as
 * long as that is the number here, which all threads see at once: who learns that the group may have changed counts it up before
 * it goes on, and from then on nobody goes by an edition that was made without that knowledge, however late the next arrives.
 */
export class Edition {
  /** To be sent to another thread, which makes an Edition of its own from it. */
  readonly shared: SharedArrayBuffer;
  readonly #cell: Int32Array;

  constructor(shared = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)) {
    this.shared = shared;
    this.#cell = new Int32Array(shared);
  }

  /** Read it before the facts of which an edition is made: what comes meanwhile makes that one outdated. */
  get number(): number {
    return Atomics.load(this.#cell, 0);
  }

  /** From now on no edition holds that was begun before. */
  outdate(): void {
    Atomics.add(this.#cell, 0, 1);
  }

  /**
   * For a thread that has read something new since `begun` was the number: outdates what was told before. Returns the number
   * of the edition that says it, which never holds if somebody else has outdated it already.
   */
  replace(begun: number): number {
    const next = (begun + 1) | 0;
    return Atomics.compareExchange(this.#cell, 0, begun, next) === begun ? next : begun;
  }
}
