import { whileNode } from '../catalog/apply-gate.ts';
import {
  discardLeaving,
  releaseOrigin,
  rollBack,
  setUpOrigin,
  setUpOriginAlone,
} from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';

/**
 * The origin of a link, which one session at a time can have: the one that applies its transactions. It is lent to another for a
 * commit, which then moves the link's one position, and by which the rows become the provider's.
 */
export class LentOrigin {
  readonly #owner: Session;
  readonly #name: string;

  /** `owner` has the origin `name`, by setUpOrigin(). */
  constructor(owner: Session, name: string) {
    this.#owner = owner;
    this.#name = name;
  }

  /**
   * Runs `commit`, which ends the transaction of `borrower`, while that session has the origin in place of its own, `usual`. Where it
   * fails, the transaction is rolled back. The owner must be outside of any. Throws also where an origin cannot be had back: then
   * another agent has it.
   */
  async during(borrower: Session, usual: string, commit: () => Promise<void>): Promise<void> {
    await releaseOrigin(this.#owner);
    await releaseOrigin(borrower);
    try {
      await setUpOrigin(borrower, this.#name);
      await commit();
    } catch (error) {
      if (!borrower.lost.aborted) await rollBack(borrower);
      throw error;
    } finally {
      if (!borrower.lost.aborted) {
        await releaseOrigin(borrower);
        await discardLeaving(borrower);
        await setUpOriginAlone(borrower, usual);
      }
      await whileNode(this.#owner, () => setUpOriginAlone(this.#owner, this.#name));
    }
  }
}
