import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';
import type { LinkContext } from './link-context.ts';

/** What tells whether there is anything to wait for. */
export type GroupLimits = Pick<LinkContext, 'groupLimit' | 'ownLimit' | 'ownHeard' | 'onOwnBehind'>;

/** For other links. */
const PATIENCE_MS = 100;
/** For the own stream, as long as its heartbeats do not tell that somebody is writing for long: so many of them. */
const HEARTBEAT_PATIENCE_MS = 1000;
const MOST_BEATS = 4;
const POLL_MS = 5;
/** Who has waited in vain does not wait again for so many times that long. */
const IMPATIENCE = 5;

/**
 * A link with a backlog waits a little for the own stream, which the node's next heartbeat moves on, and for links that are further
 * behind: what they bring up lets it group (DESIGN 4.6). Who is last waits for no link, so that backlogs do not hold each other; and
 * who has waited in vain goes on one by one for a while, because what holds the others may be a long transaction.
 */
export class GroupPatience {
  readonly #limits: GroupLimits;
  readonly #watermark: () => PgTime;
  /** Others were waited for in vain: not again before. */
  #impatientUntil = -Infinity;
  /** There the own stream's watermark was waited for in vain: not again before it moves. */
  #heldAt: PgTime | undefined;

  /** `watermark`: the link's own. */
  constructor(limits: GroupLimits, watermark: () => PgTime) {
    this.#limits = limits;
    this.#watermark = watermark;
  }

  /**
   * Returns when a transaction of this commit time may share a local one with others, or is not to be waited for. Throws when `signal`
   * is aborted.
   */
  async wait(commitTime: PgTime, signal: AbortSignal): Promise<void> {
    if (performance.now() < this.#impatientUntil) return;
    const { ownLimit, ownHeard, groupLimit, onOwnBehind } = this.#limits;
    const begun = performance.now();
    let heard: PgTime = LONG_AGO;
    let beats = 0;
    while (commitTime > groupLimit()) {
      const own = ownLimit();
      const isOwnBehind = own < commitTime;
      let mostMs = PATIENCE_MS;
      if (isOwnBehind) {
        if (own === this.#heldAt) return;
        onOwnBehind();
        if (ownHeard() > Math.max(heard, commitTime)) beats += 1;
        heard = ownHeard();
        mostMs = beats < MOST_BEATS ? HEARTBEAT_PATIENCE_MS : -Infinity;
      } else if (groupLimit() >= this.#watermark()) return;
      const waitedMs = performance.now() - begun;
      if (waitedMs > mostMs) {
        if (isOwnBehind) this.#heldAt = own;
        this.#impatientUntil = begun + (1 + IMPATIENCE) * waitedMs;
        return;
      }
      await pause(POLL_MS, signal);
      signal.throwIfAborted();
    }
  }
}
