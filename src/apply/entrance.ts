import { BdrError } from '../base/errors.ts';
import type { PgTime } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';
import { enterApplyGate, type GateAnswer } from '../catalog/apply-gate.ts';
import type { Session } from '../postgres/session.ts';
import type { ApplyOptions } from './apply-options.ts';
import { isLockConflict } from './lock-conflict.ts';
import type { TableMap } from './table-map.ts';

/** Between two tries at a gate that is closed, and up to twice as long. */
const GATE_CLOSED_MS = 5;

/** Apply was paused by bdr_apply_pause(): the link is to be let go until it is resumed, so that the provider need not wait for it. */
export class ApplyPaused extends Error {
  constructor() {
    super('apply is paused');
    this.name = 'ApplyPaused';
  }
}

/** Begins the local transactions of a link. */
export class Entrance {
  readonly #session: Session;
  readonly #tables: TableMap;
  readonly #options: ApplyOptions;
  readonly #mustBeAlone: () => boolean;

  /** `mustBeAlone`: no other link may be applying meanwhile. */
  constructor(
    session: Session,
    tables: TableMap,
    options: ApplyOptions,
    mustBeAlone: () => boolean,
  ) {
    this.#session = session;
    this.#tables = tables;
    this.#options = options;
    this.#mustBeAlone = mustBeAlone;
  }

  /**
   * Begins the local transaction when it may begin: apply is not paused, and the server's own clock has passed the provider's
   * commit time, so that a local write that follows gets a greater version than what it overwrites (DESIGN 4.7).
   */
  async enter(due: PgTime): Promise<void> {
    const { applyDelayMs, maxClockSkewMs, onProgress, random, signal } = this.#options;
    for (;;) {
      signal.throwIfAborted();
      const gate = await this.#tryGate(due);
      if (gate === 'closed') {
        onProgress();
        await pause(GATE_CLOSED_MS * (1 + random()), signal);
        continue;
      }
      if (!gate) {
        throw new BdrError('invalid_membership', { message: 'BDR was removed from this node' });
      }
      const { earlyMs } = gate;
      if (!gate.paused && earlyMs === 0) {
        this.#tables.defined(gate.definitions);
        return;
      }
      await this.#session.script('ROLLBACK');
      if (gate.paused) throw new ApplyPaused();
      if (earlyMs > applyDelayMs + maxClockSkewMs) {
        throw new BdrError('clock_skew', {
          message: `the provider's clock is ${Math.round(earlyMs / 1000)} s ahead of this server's`,
          hint: 'Synchronise the clocks (NTP). The link goes on by itself once they are closer, or raise bdr.max_clock_skew.',
        });
      }
      onProgress();
      await pause(Math.min(earlyMs, 1000), signal);
    }
  }

  /**
   * The gate is closed while another link waits to be alone, and is. That says nothing about tables, and there is nothing to take back:
   * it is tried again soon.
   */
  async #tryGate(due: PgTime): Promise<GateAnswer | undefined | 'closed'> {
    try {
      return await enterApplyGate(this.#session, due, this.#mustBeAlone());
    } catch (error) {
      if (this.#session.lost.aborted || !isLockConflict(error)) throw error;
      await this.#session.script('ROLLBACK');
      return 'closed';
    }
  }
}
