import type { PgTime } from '../base/pg-time.ts';
import { SharedTime } from '../base/shared-time.ts';
import { markRecords, readRecordLimit } from '../catalog/commit-records.ts';
import type { Session } from '../postgres/session.ts';

const LOOK_INTERVAL_MS = 60_000;
/** A record may be false that is younger than a change which is older than this. */
const OLD_CHANGE_US = 10 * 60 * 1_000_000;

/**
 * Keeps known how far back the commit records of a node's server go (DESIGN 4.1), in the session of the node's service. Records are
 * removed after hundreds of millions of transactions, or a day's worth at the least: what was read a minute ago is good enough to
 * tell which changes have to look.
 */
export class RecordKeeper {
  /** Changes up to then do not take it for granted what records say. All of them, until it is read. */
  readonly limit = new SharedTime();
  #lookedAt = -Infinity;

  constructor() {
    this.limit.set(Infinity as PgTime);
  }

  /** Call it about once a second. */
  async look(session: Session): Promise<void> {
    if (performance.now() - this.#lookedAt < LOOK_INTERVAL_MS) return;
    await markRecords(session);
    const { lostUpTo, now } = await readRecordLimit(session);
    this.limit.set(Math.max(lostUpTo, now - OLD_CHANGE_US) as PgTime);
    this.#lookedAt = performance.now();
  }
}
