import type { Logger } from '../base/logger.ts';

const MOST_OFTEN_MS = 60_000;

/** Tells of messages that a link has ignored, once a minute at most: who forges them must not fill the log as well. */
export class IgnoredMessages {
  readonly #log: Logger;
  readonly #now: () => number;
  #count = 0;
  #toldAt = -Infinity;

  constructor(log: Logger, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  add(): void {
    this.#count += 1;
    const now = this.#now();
    if (now - this.#toldAt < MOST_OFTEN_MS) return;
    this.#toldAt = now;
    this.#log.warn(
      { ignored: this.#count },
      'messages that the provider has not signed are ignored: some role there writes them with pg_logical_emit_message()',
    );
  }
}
