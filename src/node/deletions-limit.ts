import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { findAbsentHolder, partNode } from '../catalog/deletions-limit.ts';
import type { Conninfo } from '../postgres/conninfo.ts';
import type { Session } from '../postgres/session.ts';
import { readCount } from '../postgres/settings.ts';
import { SettingsWatch } from '../postgres/settings-watch.ts';

const SETTING = 'bdr.max_deletions_for_absent';
/** Whoever is back sooner is not parted, however much was deleted meanwhile. */
const AWAY_SECONDS = 60;

/**
 * Parts a peer that is away, once so many deletions are remembered because of it as `bdr.max_deletions_for_absent` allows (DESIGN
 * 4.4 bounds them only while all peers are connected). Off unless that is set: a node that is parted must be joined anew, and what it
 * alone has is nowhere else.
 */
export class DeletionsLimit {
  readonly #log: Logger;
  readonly #settings: SettingsWatch;
  #most = 0;

  constructor(local: Conninfo, log: Logger) {
    this.#log = log;
    this.#settings = new SettingsWatch(local);
  }

  /** Call it now and then, in the session of the node's service. */
  async look(session: Session, signal: AbortSignal): Promise<void> {
    await this.#settings.ifChanged(session, signal, (fresh) => this.#read(fresh, signal));
    if (this.#most === 0) return;
    const absent = await findAbsentHolder(session, this.#most, AWAY_SECONDS);
    if (!absent) return;
    await partNode(session, absent.name);
    this.#log.error(
      { peer: absent.name, upTo: absent.upTo, [SETTING]: this.#most },
      'a peer that is away was parted: more deletions were remembered because of it than are allowed',
    );
  }

  /** A value that is no number sets no limit. */
  async #read(fresh: Session, signal: AbortSignal): Promise<void> {
    try {
      this.#most = Math.max(0, await readCount(fresh, SETTING, 0));
    } catch (error) {
      if (fresh.lost.aborted || signal.aborted) throw error;
      this.#most = 0;
      this.#log.warn(
        { setting: SETTING, message: messageOf(error) },
        'a setting is not valid: no limit is set',
      );
    }
  }
}
