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

  /** `known`: the greatest of those that were read before. */
  constructor(known: LastHeartbeat | undefined) {
    this.#greatest = known;
  }

  get greatest(): LastHeartbeat | undefined {
    return this.#greatest;
  }

  /** The last step that was noticed, passed or not. */
  get step(): ClockStep | undefined {
    return this.#step;
  }

  heard({ clock, xid, xmin }: Heartbeat): void {
    const greatest = this.#greatest;
    // Read again after a crash: its id says that it was before the one that is known.
    if (greatest && xid <= greatest.xid) return;
    if (!greatest || clock > greatest.clock) {
      this.#greatest = { clock, xid, xmin };
    } else if (this.#step?.before !== greatest) this.#step = { before: greatest, to: clock };
  }

  /**
   * Where a commit that comes next in the log lies below the greatest time: the id of the heartbeat that told it. If the clock has stepped
   * back, which may not be known yet, such a deletion is to be made again; else it was only a little late.
   */
  lateAfter(time: PgTime): number | undefined {
    return this.#greatest && time < this.#greatest.clock ? this.#greatest.xid : undefined;
  }
}
