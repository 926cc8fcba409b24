import type { HistoryOptions } from '../apply/pending-conflicts.ts';
import { messageOf } from '../base/errors.ts';
import type { Session } from '../postgres/session.ts';
import { readMilliseconds, readSwitch } from '../postgres/settings.ts';
import { sqlstateOf } from '../postgres/sqlstate.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** Nothing here is older: no time lies so far back that the server can name it. */
const FOR_EVER_MS = 1000 * 365 * DAY_MS;

/** A setting whose value means nothing. */
export interface InvalidSetting {
  readonly name: string;
  readonly message: string;
}

export interface HistorySettings extends HistoryOptions {
  /** Conflicts that are older are forgotten; infinity to keep them for ever. */
  readonly retentionMs: number;
  /** In their place stands what loses nothing: conflicts are kept, with their rows, for ever. */
  readonly invalid: readonly InvalidSetting[];
}

/** Reads what is to be kept of conflicts, as a new session sees it. */
export async function readHistorySettings(session: Session): Promise<HistorySettings> {
  const invalid: InvalidSetting[] = [];
  const orElse = async <T>(name: string, safe: T, read: (name: string) => Promise<T>) => {
    try {
      return await read(name);
    } catch (error) {
      if (session.lost.aborted || sqlstateOf(error) === undefined) throw error;
      invalid.push({ name, message: messageOf(error) });
      return safe;
    }
  };
  const isOn = (name: string) => readSwitch(session, name, 'on');
  const isKept = await orElse('bdr.log_conflicts_to_table', true, isOn);
  const withRows = await orElse('bdr.conflict_logging_include_tuples', true, isOn);
  const ms = await orElse('bdr.conflict_history_retention', Infinity, (name) =>
    readMilliseconds(session, name, '30 days', DAY_MS),
  );
  const retentionMs = ms > 0 && ms < FOR_EVER_MS ? ms : Infinity;
  return { isKept, withRows, retentionMs, invalid };
}

const KEPT = 1;
const WITH_ROWS = 2;

/** What is kept of conflicts, as a node's threads share it: one reads the settings, the others go by them from then on. */
export class SharedHistoryOptions implements HistoryOptions {
  /** To be sent to another thread, which makes its own from it. */
  readonly shared: SharedArrayBuffer;
  readonly #cell: Int32Array;

  /** All is kept, unless it is made from what another thread shares. */
  constructor(shared?: SharedArrayBuffer) {
    this.shared = shared ?? new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    this.#cell = new Int32Array(this.shared);
    if (!shared) this.set({ isKept: true, withRows: true });
  }

  get isKept(): boolean {
    return (Atomics.load(this.#cell, 0) & KEPT) !== 0;
  }

  get withRows(): boolean {
    return (Atomics.load(this.#cell, 0) & WITH_ROWS) !== 0;
  }

  set({ isKept, withRows }: HistoryOptions): void {
    Atomics.store(this.#cell, 0, (isKept ? KEPT : 0) | (withRows ? WITH_ROWS : 0));
  }
}
