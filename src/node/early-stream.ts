import type { ChangeContext } from '../apply/change-context.ts';
import type { EarlyApply } from '../apply/early-apply.ts';
import { PartBuilder, type TransactionPart } from '../apply/transaction-part.ts';
import { Seen } from '../model/seen.ts';
import { ZERO_LSN } from '../base/lsn.ts';
import type { Logger } from '../base/logger.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { Wakeup } from '../base/wait.ts';
import type { StreamCommitMessage } from '../pgoutput/message.ts';
import type { Change } from '../pgoutput/transaction.ts';
import type { Watcher } from '../receive/receiver.ts';
import type { Heartbeat } from '../receive/watermark.ts';

type Apply = Pick<EarlyApply, 'apply' | 'commit' | 'giveUp' | 'isOpen' | 'look'>;

/** What an early transaction puts in line, in its place among what else arrives. */
export type EarlyArrival =
  | { readonly kind: 'early part'; readonly part: TransactionPart }
  | { readonly kind: 'early abort'; readonly xid: number }
  | { readonly kind: 'early commit'; readonly commit: StreamCommitMessage };

/** So often is looked whether anybody waits for an early transaction. */
export const EARLY_LOOK_MS = 1000;
/**
 * One that brings nothing for so long is given up: an open transaction holds back VACUUM. Not sooner: between two chunks the
 * provider writes logical_decoding_work_mem of changes.
 */
const IDLE_MS = 30_000;
/** After one was given up none begins for so long: what was in its way comes again. */
const GIVEN_UP_MS = 5000;
const LONG_WAIT_MS = 60_000;

/**
 * The one streamed transaction of a link that is applied while it arrives; the others, and those that are given up, are applied
 * after their commit. Two sides: what watches the stream puts parts in line, and what takes from the line applies them.
 */
export class EarlyStream implements Watcher {
  readonly #apply: Apply;
  readonly #put: (arrival: EarlyArrival) => void;
  readonly #mayBegin: () => boolean;
  readonly #log: Logger;
  /** The transaction, from its first chunk until its end or until it is given up. */
  #xid: number | undefined;
  #builder: PartBuilder | undefined;
  /** The clock of the provider's last heartbeat: what is streamed now had mostly not committed when that was sent. */
  #clock: PgTime = LONG_AGO;
  #seen = new Seen();
  #notBefore = -Infinity;
  #partAt = 0;
  #lookedAt = 0;
  readonly #ended = new Wakeup();
  #isApplied = false;

  /** `mayBegin`: whether a transaction that begins now could be applied early at all. */
  constructor(
    apply: Apply,
    put: (arrival: EarlyArrival) => void,
    mayBegin: () => boolean,
    log: Logger,
  ) {
    this.#apply = apply;
    this.#put = put;
    this.#mayBegin = mayBegin;
    this.#log = log;
  }

  // Where the stream is read ---------------------------------------------------------------------------------------------

  /** A heartbeat of the provider has been received. */
  heard({ clock, applied }: Heartbeat): void {
    if (clock > this.#clock) this.#clock = clock;
    this.#seen = new Seen(applied);
  }

  begins(xid: number, isFirst: boolean): boolean {
    const isFree = this.#xid === undefined && this.#clock > LONG_AGO;
    if (isFirst && isFree && performance.now() >= this.#notBefore && this.#mayBegin()) {
      this.#xid = xid;
    }
    if (this.#xid !== xid) return false;
    // Until the commit tells the true time and position.
    const context: ChangeContext = {
      xid,
      commitTime: this.#clock,
      commitLsn: ZERO_LSN,
      seen: this.#seen,
    };
    this.#builder = new PartBuilder(context);
    return true;
  }

  changes(change: Change): void {
    this.#putPart(this.#builder?.add(change));
  }

  ends(): void {
    this.#putPart(this.#builder?.rest());
    this.#builder = undefined;
  }

  takenBack(xid: number): void {
    if (this.#xid === xid) this.#put({ kind: 'early abort', xid });
  }

  /** The transaction has committed. Resolves, when that has come to its turn, to whether it is applied. */
  async committed(commit: StreamCommitMessage, signal: AbortSignal): Promise<boolean> {
    if (this.#xid !== commit.xid) return false;
    this.#put({ kind: 'early commit', commit });
    while (this.#xid === commit.xid) {
      signal.throwIfAborted();
      await this.#ended.wait(LONG_WAIT_MS, signal);
    }
    return this.#isApplied;
  }

  #putPart(part: TransactionPart | undefined): void {
    if (part) this.#put({ kind: 'early part', part });
  }

  // Where what has arrived is applied ------------------------------------------------------------------------------------

  /** A transaction is being applied. */
  get isOpen(): boolean {
    return this.#apply.isOpen;
  }

  /** Handles what stands in line; returns the commit that it has applied. */
  async handle(arrival: EarlyArrival): Promise<StreamCommitMessage | undefined> {
    switch (arrival.kind) {
      case 'early part':
        // What is left of one that was given up.
        if (arrival.part.context.xid !== this.#xid) return undefined;
        this.#partAt = performance.now();
        this.#lookedAt = this.#partAt;
        this.#note(await this.#apply.apply(arrival.part));
        return undefined;
      case 'early abort':
        if (arrival.xid !== this.#xid) return undefined;
        this.#note('it, or a part of it, was rolled back');
        await this.#apply.giveUp();
        return undefined;
      case 'early commit':
        return this.#commit(arrival.commit);
    }
  }

  /** Looks after one from time to time: whether anybody waits for it, and whether it still comes. To be called often. */
  async look(): Promise<void> {
    const now = performance.now();
    if (!this.isOpen || now - this.#lookedAt < EARLY_LOOK_MS) return;
    if (now - this.#partAt >= IDLE_MS) return this.giveUp('it brings nothing any more');
    this.#lookedAt = now;
    this.#note(await this.#apply.look());
  }

  /** Takes back what is applied of it. May be called at any moment: from now on it is not one that is applied early. */
  async giveUp(reason: string): Promise<void> {
    if (!this.isOpen) return;
    this.#note(reason);
    await this.#apply.giveUp();
  }

  async #commit(commit: StreamCommitMessage): Promise<StreamCommitMessage | undefined> {
    const { xid } = commit;
    if (xid !== this.#xid) return undefined;
    if (!this.isOpen) {
      // It has brought nothing.
      this.#end(false);
      return undefined;
    }
    const reason = await this.#apply.commit(commit);
    this.#note(reason);
    if (reason !== undefined) return undefined;
    this.#log.info({ xid }, 'large transaction was applied while it arrived');
    this.#end(true);
    return commit;
  }

  #note(reason: string | undefined): void {
    if (reason === undefined) return;
    const fields = { xid: this.#xid, reason };
    this.#log.info(fields, 'large transaction is not applied before its commit');
    this.#notBefore = performance.now() + GIVEN_UP_MS;
    this.#end(false);
  }

  #end(isApplied: boolean): void {
    this.#xid = undefined;
    this.#builder = undefined;
    this.#isApplied = isApplied;
    this.#ended.raise();
  }
}
