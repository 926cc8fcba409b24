import type { Logger } from '../base/logger.ts';
import { messageOf } from '../base/errors.ts';
import { purgeConflicts } from '../catalog/conflict-history.ts';
import type { Conninfo } from '../postgres/conninfo.ts';
import type { Session } from '../postgres/session.ts';
import { SettingsWatch } from '../postgres/settings-watch.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import { describeError } from './describe-error.ts';
import { readHistorySettings, SharedHistoryOptions } from './history-settings.ts';

const PURGE_INTERVAL_MS = 5000;
/** So many conflicts are forgotten in one transaction. */
const BATCH = 1000;
/** So long at once: what is left then is for the next look. */
const MOST_PURGING_MS = 100;

/**
 * Sees to the conflict history of a node: reads the settings that say what is kept, and how long, when they may have changed; and
 * forgets what is older, a little at a time, in the session of the node's service. No apply transaction ever waits for that, and it
 * waits for nobody: rows or tables that somebody holds are left for later.
 */
export class HistoryKeeper {
  /** What links and the own stream go by. */
  readonly options = new SharedHistoryOptions();
  readonly #log: Logger;
  readonly #settings: SettingsWatch;
  #retentionMs = Infinity;
  #purgeAt = -Infinity;
  /** While there is more: nothing older is there, so that what was removed is not passed over again and again. */
  #purgedUpTo: string | null = null;
  /** The last thing that went wrong; said once. */
  #said = '';

  constructor(local: Conninfo, log: Logger) {
    this.#log = log;
    this.#settings = new SettingsWatch(local);
  }

  /** Call it about once a second. Throws only when the session, or the whole service, is at its end. */
  async look(session: Session, signal: AbortSignal): Promise<void> {
    try {
      await this.#settings.ifChanged(session, signal, (fresh) => this.#readSettings(fresh));
      await this.#purge(session);
    } catch (error) {
      if (session.lost.aborted || signal.aborted) throw error;
      // Replication goes on without it.
      if (this.#said !== messageOf(error)) {
        this.#log.warn(describeError(error), 'the conflict history is not seen to');
      }
      this.#said = messageOf(error);
    }
  }

  async #readSettings(fresh: Session): Promise<void> {
    const settings = await readHistorySettings(fresh);
    for (const { name, message } of settings.invalid) {
      this.#log.warn({ setting: name, message }, 'a setting is not valid: nothing is left out');
    }
    this.options.set(settings);
    this.#retentionMs = settings.retentionMs;
    this.#purgeAt = -Infinity;
  }

  async #purge(session: Session): Promise<void> {
    const begun = performance.now();
    if (this.#retentionMs === Infinity || begun < this.#purgeAt) return;
    do {
      const purged = await this.#purgeSome(session);
      if (purged < BATCH) {
        this.#purgeAt = begun + PURGE_INTERVAL_MS;
        this.#purgedUpTo = null;
        return;
      }
    } while (performance.now() < begun + MOST_PURGING_MS);
  }

  async #purgeSome(session: Session): Promise<number> {
    try {
      const { count, upTo } = await purgeConflicts(session, {
        retentionMs: this.#retentionMs,
        from: this.#purgedUpTo,
        most: BATCH,
      });
      this.#purgedUpTo = upTo;
      return count;
    } catch (error) {
      // Somebody rewrites the table, or empties it.
      if (!hasSqlstate(error, SQLSTATE.lockNotAvailable)) throw error;
      return 0;
    }
  }
}
