import { LateDeletions } from '../apply/late-deletions.ts';
import type { HistoryOptions } from '../apply/pending-conflicts.ts';
import { RowRewriter } from '../apply/row-rewriter.ts';
import type { OriginMap } from '../apply/writers.ts';
import type { Logger } from '../base/logger.ts';
import { pause } from '../base/wait.ts';
import {
  endClockStep,
  endLateRows,
  readDuePeerRows,
  readDueSteps,
  type DueStep,
  type PeerRows,
} from '../catalog/clock-steps.ts';
import { forgetPunctualDeletions } from '../catalog/late-deletions.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import type { Conninfo } from '../postgres/conninfo.ts';
import { Session } from '../postgres/session.ts';
import { APPLY_SETTINGS } from './apply-settings.ts';
import { describeError } from './describe-error.ts';

const LOOK_INTERVAL_MS = 1000;
/** After a failure. */
const RETRY_MS = 5000;

/**
 * Writes again, and deletes again, once the node's clock has passed all that it has told, what users committed while it was behind
 * (DESIGN 4.7), in a session of its own: reading whole tables takes its time. Rows of peers are written again once all of their changes of
 * that time are applied.
 */
export class ClockStepRewriter {
  readonly #local: Conninfo;
  readonly #log: Logger;
  readonly #origins: () => OriginMap;
  readonly #history: HistoryOptions;
  readonly #random: () => number;
  #lookAt = -Infinity;
  #stop: AbortController | undefined;
  #running: Promise<void> | undefined;

  constructor(options: {
    local: Conninfo;
    log: Logger;
    origins: () => OriginMap;
    history: HistoryOptions;
    random: () => number;
  }) {
    this.#local = options.local;
    this.#log = options.log;
    this.#origins = options.origins;
    this.#history = options.history;
    this.#random = options.random;
  }

  /** Call it about once a second. It waits for nothing that takes long. */
  async look(session: Session, signal: AbortSignal): Promise<void> {
    if (this.#running || performance.now() - this.#lookAt < LOOK_INTERVAL_MS) return;
    this.#lookAt = performance.now();
    await forgetPunctualDeletions(session);
    const due = await readDueSteps(session);
    const ofPeers = await readDuePeerRows(session);
    if (due.length + ofPeers.length === 0) return;
    const stop = new AbortController();
    this.#stop = stop;
    this.#running = this.#run(due, ofPeers, AbortSignal.any([signal, stop.signal])).finally(() => {
      this.#running = undefined;
    });
  }

  async stop(): Promise<void> {
    this.#stop?.abort();
    await this.#running;
  }

  async #run(
    due: readonly DueStep[],
    ofPeers: readonly PeerRows[],
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await using session = await this.#connect(signal);
      for (const step of due) await this.#doAgain(session, step, signal);
      for (const rows of ofPeers) await this.#rewriteOfPeers(session, rows, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#log.warn(
        describeError(error),
        'what was written and deleted while the clock was behind is not written and deleted again yet',
      );
      await pause(RETRY_MS, signal);
    }
  }

  async #connect(signal: AbortSignal): Promise<Session> {
    const session = await Session.connect(this.#local, {
      applicationName: 'bdr:clock',
      signal,
      // A user's triggers have seen these rows. What is written again must be on disk before the step counts as dealt with.
      settings: { ...APPLY_SETTINGS, synchronous_commit: 'local' },
    });
    await markAgentSession(session);
    return session;
  }

  async #doAgain(session: Session, step: DueStep, signal: AbortSignal): Promise<void> {
    const rewriter = new RowRewriter(session, signal);
    const [origins, history, random] = [this.#origins, this.#history, this.#random];
    const deletions = { session, step, origins, history, rewriter, signal, random };
    const made = await new LateDeletions(deletions).makeAgain();
    const done = { ...made, rewritten: made.rewritten + (await rewriter.rewriteLate(step)) };
    await endLateRows(session, step, done);
    this.#log.info(
      { ...done },
      'what was written and deleted while the clock was behind is written and deleted again',
    );
  }

  async #rewriteOfPeers(session: Session, rows: PeerRows, signal: AbortSignal): Promise<void> {
    const rewritten = await new RowRewriter(session, signal).rewriteOfPeers(rows);
    await endClockStep(session, rows, rewritten);
    this.#log.info(
      { rewritten },
      'what peers have written in the place of late rows is written again',
    );
  }
}
