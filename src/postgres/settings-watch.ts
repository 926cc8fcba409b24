import type { Conninfo } from './conninfo.ts';
import { Session } from './session.ts';
import { readSettingsMark } from './settings.ts';

/** Reads settings as a new session sees them, whenever they may have changed. */
export class SettingsWatch {
  readonly #conninfo: Conninfo;
  /** They were read when this was their mark. */
  #mark: string | undefined;

  constructor(conninfo: Conninfo) {
    this.#conninfo = conninfo;
  }

  /**
   * Calls `read` with a session that was opened for it, the first time and where `session` sees that settings may have changed since. If
   * that throws, so does this, and they are read again the next time.
   */
  async ifChanged(
    session: Session,
    signal: AbortSignal,
    read: (fresh: Session) => Promise<void>,
  ): Promise<void> {
    const mark = await readSettingsMark(session);
    if (mark === this.#mark) return;
    await using fresh = await Session.connect(this.#conninfo, {
      applicationName: 'bdr:settings',
      signal,
    });
    await read(fresh);
    this.#mark = mark;
  }
}
