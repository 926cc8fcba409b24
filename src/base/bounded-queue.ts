import { Wakeup } from './wait.ts';

/** Every wait ends by a fact or a signal; this bounds only how long a missed one would go unnoticed. */
const LONG_WAIT_MS = 60_000;

/**
 * A queue between one writer and one reader. The writer waits while what is queued weighs too much; the reader looks at what is
 * there and takes as much of it as it can use. When the writer has closed it, the reader first gets what is left.
 */
export class BoundedQueue<Item> {
  #mostWeight: number;
  readonly #weigh: (item: Item) => number;
  readonly #filled = new Wakeup();
  readonly #emptied = new Wakeup();
  #items: Item[] = [];
  /** Where the oldest item stands: moving all others for each one that is taken would cost more than the work on it. */
  #head = 0;
  #weight = 0;
  #pushed = 0;
  #closed: { readonly error: unknown } | undefined;

  constructor(mostWeight: number, weigh: (item: Item) => number) {
    this.#mostWeight = mostWeight;
    this.#weigh = weigh;
  }

  /** The oldest item. */
  get first(): Item | undefined {
    return this.#items[this.#head];
  }

  /** What is queued now, the oldest first. */
  *items(): Generator<Item, void, void> {
    for (let at = this.#head; at < this.#items.length; at++) yield this.#items[at] as Item;
  }

  get length(): number {
    return this.#items.length - this.#head;
  }

  /** How many items were ever queued. */
  get pushed(): number {
    return this.#pushed;
  }

  get isFull(): boolean {
    return this.#weight >= this.#mostWeight;
  }

  /** From now on so much may be queued. */
  widen(mostWeight: number): void {
    this.#mostWeight = mostWeight;
    this.#emptied.raise();
  }

  push(item: Item): void {
    this.#items.push(item);
    this.#pushed += 1;
    this.#weight += this.#weigh(item);
    this.#filled.raise();
  }

  /** Nothing more comes; `error` is thrown to the reader once all is taken. */
  close(error: unknown): void {
    this.#closed ??= { error };
    this.#filled.raise();
  }

  /** The oldest `count` items, which stay. */
  peek(count: number): Item[] {
    return this.#items.slice(this.#head, this.#head + count);
  }

  /** Removes and returns the oldest `count` items. */
  take(count: number): Item[] {
    const taken = this.peek(count);
    this.#head += taken.length;
    if (this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    for (const item of taken) this.#weight -= this.#weigh(item);
    this.#emptied.raise();
    return taken;
  }

  /**
   * Resolves when there is an item to take, or after `mostMs`: to whether there is one. Throws what the queue was closed with, or
   * the signal's reason.
   */
  async filled(signal: AbortSignal, mostMs = Infinity): Promise<boolean> {
    const end = performance.now() + mostMs;
    while (this.#head === this.#items.length) {
      signal.throwIfAborted();
      if (this.#closed) throw this.#closed.error;
      const leftMs = end - performance.now();
      if (leftMs <= 0) return false;
      await this.#filled.wait(Math.min(leftMs, LONG_WAIT_MS), signal);
    }
    return true;
  }

  /** Resolves when there is room for more. Throws the signal's reason. */
  async room(signal: AbortSignal): Promise<void> {
    while (this.isFull) {
      signal.throwIfAborted();
      await this.#emptied.wait(LONG_WAIT_MS, signal);
    }
  }
}
