import type { PgTime } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';

/** So many deletions are worth a wait. */
const MANY = 1000;
/** A heartbeat of a peer that is idle, and its way. */
const PATIENCE_MS = 1500;
/** A peer that is further behind will not have passed them by then. */
const NEAR_US = 5_000_000;
/** So long nothing is waited for where it was in vain, or is in somebody's way. */
const IMPATIENT_MS = 7500;
const POLL_MS = 20;

/**
 * Who has many deletions of users to remember waits a moment for the peers: once all of them have passed a deletion it need not be
 * remembered at all (DESIGN 4.4), and a peer that is not behind has passed it with its next heartbeat. To wait is as if the own
 * stream were slow, which no rule minds; but its watermark stands still meanwhile. So it ends as soon as a link could group what it
 * has if that went on: the link may be the very one that is waited for.
 */
export class PeersPatience {
  readonly #limit: () => PgTime;
  readonly #signal: AbortSignal;
  #impatientUntil = -Infinity;

  /** `limit`: up to this commit time everything of every peer is applied. */
  constructor(limit: () => PgTime, signal: AbortSignal) {
    this.#limit = limit;
    this.#signal = signal;
  }

  /** Somebody is held up by the own stream. */
  hurry(): void {
    this.#impatientUntil = performance.now() + IMPATIENT_MS;
  }

  /**
   * Returns the limit, at once or as soon as it is at or above all of these commit times; or when it is not to be waited for any
   * longer. Throws when the signal is aborted.
   */
  async wait(times: readonly PgTime[]): Promise<PgTime> {
    const last = times.reduce((a, b) => Math.max(a, b), -Infinity);
    const begun = performance.now();
    for (;;) {
      const limit = this.#limit();
      if (times.length < MANY || last <= limit || last > limit + NEAR_US) return limit;
      const now = performance.now();
      if (now - begun >= PATIENCE_MS) this.hurry();
      if (now < this.#impatientUntil) return limit;
      await pause(POLL_MS, this.#signal);
      this.#signal.throwIfAborted();
    }
  }
}
