import { ZERO_LSN, type Lsn } from '../base/lsn.ts';

/**
 * What a link may acknowledge. Received, applied and durable are three things: apply commits without waiting for its disk, so a
 * position is acknowledged only once the local WAL has been flushed past the commit that carried it. Acknowledging earlier would
 * let the provider forget a transaction that a crash here can still undo.
 */
export class AckLedger {
  #applied = ZERO_LSN;
  #durable: Lsn;
  /** Positions waiting for the local disk, oldest first: durable once the local WAL is flushed to `local`. */
  readonly #waiting: { remote: Lsn; local: Lsn }[] = [];

  /** `durable`: the origin's position read after a start, which is on disk by then. */
  constructor(durable: Lsn) {
    this.#durable = durable;
    this.#applied = durable;
  }

  /** The last position whose transaction is committed here. */
  get applied(): Lsn {
    return this.#applied;
  }

  /** The position to acknowledge. */
  get durable(): Lsn {
    return this.#durable;
  }

  get hasUnflushed(): boolean {
    return this.#applied > this.#durable;
  }

  /** A transaction was committed here; `remote` is its end on the provider. */
  committed(remote: Lsn): void {
    this.#applied = remote;
  }

  /**
   * Takes the server's own positions, read by any session. `upTo` is what `applied` was before they were asked for, so that
   * `insert` lies behind every commit up to there; a commit told while the answer was under way is none of them. `flush` is
   * what is on disk.
   */
  observed(upTo: Lsn, local: { readonly insert: Lsn; readonly flush: Lsn }): void {
    const last = this.#waiting.at(-1);
    if (upTo > (last?.remote ?? this.#durable)) {
      this.#waiting.push({ remote: upTo, local: local.insert });
    }
    while (this.#waiting.length > 0 && (this.#waiting[0] as { local: Lsn }).local <= local.flush) {
      this.#durable = (this.#waiting.shift() as { remote: Lsn }).remote;
    }
  }
}
