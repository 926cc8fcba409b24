import type { PgTime } from '../base/pg-time.ts';
import type { ClockStep } from '../catalog/clock-steps.ts';
import type { LastHeartbeat } from '../catalog/own-stream.ts';
import type { Heartbeat } from './watermark.ts';

/**
 * Notices that the clock of a node has stepped back, by its own heartbeats in the order of its log: one that tells less than an
 * earlier one. What users commit from then on, until the clock has passed the greatest time again, is smaller than what they may
 * have overwritten (DESIGN 4.7).
 */
export class ClockWatch {
  #greatest: LastHeartbeat | undefined;
  #step: ClockStep | undefined;
  /** Committed below the greatest time, since it was told. */
  #deletions = 0;

  /** `known`: the greatest of those that were read before. */
  constructor(known: LastHeartbeat | undefined) {
    this.#greatest = known;
  }

  get greatest(): LastHeartbeat | undefined {
    return this.#greatest;
  }

  /** The last step that was noticed, passed or not. */
  get step(): ClockStep | undefined {
    const step = this.#step;
    return step?.before === this.#greatest && step ? { ...step, deletions: this.#deletions } : step;
  }

  heard({ clock, xid, xmin }: Heartbeat): void {
    const greatest = this.#greatest;
    // Read again after a crash: its id says that it was before the one that is known.
    if (greatest && xid <= greatest.xid) return;
    if (!greatest || clock > greatest.clock) {
      this.#step = this.step;
      this.#greatest = { clock, xid, xmin };
      this.#deletions = 0;
    } else if (this.#step?.before !== greatest)
      this.#step = { before: greatest, to: clock, deletions: 0 };
  }

  /** A user's deletion was committed. */
  deleted(time: PgTime): void {
    if (this.#greatest && time < this.#greatest.clock) this.#deletions += 1;
  }
}
