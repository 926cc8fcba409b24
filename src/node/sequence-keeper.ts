import { carryOutSequenceKinds } from '../catalog/sequences.ts';
import type { Session } from '../postgres/session.ts';

const INTERVAL_MS = 5000;

/** Sees to it that sequences become what convert_sequence() asked for, where they were not there or were held when that arrived. */
export class SequenceKeeper {
  #lookedAt = -Infinity;

  /** Call it about once a second, in a node that is no longer being filled. */
  async look(session: Session): Promise<void> {
    if (performance.now() - this.#lookedAt < INTERVAL_MS) return;
    this.#lookedAt = performance.now();
    await carryOutSequenceKinds(session);
  }
}
