import { RowRewriter } from '../apply/row-rewriter.ts';
import type { Logger } from '../base/logger.ts';
import { pause } from '../base/wait.ts';
import { endClockStep, readDueSteps, type DueStep } from '../catalog/clock-steps.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import type { Conninfo } from '../postgres/conninfo.ts';
import { Session } from '../postgres/session.ts';
import { APPLY_SETTINGS } from './apply-settings.ts';
import { describeError } from './describe-error.ts';

const LOOK_INTERVAL_MS = 1000;
/** After a failure. */
const RETRY_MS = 5000;

/**
 * Writes again, once the node's clock has passed all that it has told, what users committed while it was behind (DESIGN 4.7), in a
 * session of its own: reading whole tables takes its time.
 */
export class ClockStepRewriter {
  readonly #local: Conninfo;
  readonly #log: Logger;
  #lookAt = -Infinity;
  #stop: AbortController | undefined;
  #running: Promise<void> | undefined;

  constructor(local: Conninfo, log: Logger) {
    this.#local = local;
    this.#log = log;
  }

  /** Call it about once a second. It waits for nothing that takes long. */
  async look(session: Session, signal: AbortSignal): Promise<void> {
    if (this.#running || performance.now() - this.#lookAt < LOOK_INTERVAL_MS) return;
    this.#lookAt = performance.now();
    const due = await readDueSteps(session);
    if (due.length === 0) return;
    const stop = new AbortController();
    this.#stop = stop;
    this.#running = this.#run(due, AbortSignal.any([signal, stop.signal])).finally(() => {
      this.#running = undefined;
    });
  }

  async stop(): Promise<void> {
    this.#stop?.abort();
    await this.#running;
  }

  async #run(due: readonly DueStep[], signal: AbortSignal): Promise<void> {
    try {
      await using session = await Session.connect(this.#local, {
        applicationName: 'bdr:clock',
        signal,
        // A user's triggers have seen these rows. What is written again must be on disk before the step counts as dealt with.
        settings: { ...APPLY_SETTINGS, synchronous_commit: 'local' },
      });
      await markAgentSession(session);
      for (const step of due) {
        const rewritten = await new RowRewriter(session, step, signal).rewriteAll();
        await endClockStep(session, step, rewritten);
        this.#log.info(
          { rows: rewritten },
          'rows that were written while the clock was behind are written again',
        );
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#log.warn(
        describeError(error),
        'rows that were written while the clock was behind are not written again yet',
      );
      await pause(RETRY_MS, signal);
    }
  }
}
