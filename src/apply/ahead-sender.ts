import { backoffMs } from '../base/backoff.ts';
import type { Lsn } from '../base/lsn.ts';
import { pgTimeToUnixMs } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';
import type { Step } from '../catalog/ahead.ts';
import { followCommitted } from '../catalog/committed-positions.ts';
import type { BatchAnswer } from '../postgres/batch.ts';
import { keepYoung, resetOrigin } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import type { Ahead } from './ahead.ts';
import type { ApplyOptions } from './apply-options.ts';
import { isLockConflict, LOCK_BACKOFF } from './lock-conflict.ts';
import { Procedures } from './procedures.ts';
import type { TableMap } from './table-map.ts';
import { dueTime, type TransactionPart } from './transaction-part.ts';
import type { ChangeWriter } from './writer.ts';

/** Local transactions that were sent as one call: each of some of the provider's. */
interface SentCall {
  readonly transactions: readonly (readonly TransactionPart[])[];
  readonly answer: Promise<BatchAnswer>;
}

/** How many transactions that were sent ahead are committed, from the first on, and whether the server has stopped in the next. */
interface AheadResult {
  readonly committed: number;
  readonly isStopped: boolean;
}

/** So many local transactions are sent ahead of the first answer, at most. */
const MOST_AHEAD = 256;
/** From so many steps, or so many bytes of changes, on they are sent. */
const ENOUGH_STEPS = 256;
const ENOUGH_BYTES = 512 * 1024;

/**
 * Sends small transactions in one piece with their commits, without waiting for answers. Where the server stops in that, whoever
 * asked goes on step by step (docs/decisions/0018-sent-ahead.md).
 */
export class AheadSender {
  /** Puts together what is sent. */
  readonly statements: Ahead;
  readonly #session: Session;
  readonly #procedures: Procedures;
  readonly #tables: TableMap;
  readonly #writer: ChangeWriter;
  readonly #options: ApplyOptions;
  #most = MOST_AHEAD;

  constructor(
    session: Session,
    tables: TableMap,
    writer: ChangeWriter,
    statements: Ahead,
    options: ApplyOptions,
  ) {
    this.#session = session;
    this.#procedures = new Procedures(session);
    this.#tables = tables;
    this.#writer = writer;
    this.statements = statements;
    this.#options = options;
  }

  /** So many transactions are to be sent next: fewer, the more often the server stops in them. */
  get most(): number {
    return this.#most;
  }

  /** Sends transactions as one local transaction. */
  sendAsOne(parts: readonly TransactionPart[]): Promise<AheadResult> {
    return this.#send([parts]);
  }

  /** Sends transactions, each by itself. */
  async sendEach(parts: readonly TransactionPart[]): Promise<AheadResult> {
    const result = await this.#send(parts.map((part) => [part]));
    this.#most = result.isStopped
      ? Math.max(Math.floor(this.#most / 2), 1)
      : Math.min(this.#most * 2, MOST_AHEAD);
    return result;
  }

  /**
   * Sends local transactions, each of some of the provider's, with all that belongs to them, and the next call before the answer
   * to the one before it. The transaction behind the committed ones needs to be done step by step, or has an error, which is met
   * again then.
   */
  async #send(transactions: readonly (readonly TransactionPart[])[]): Promise<AheadResult> {
    const [first] = transactions;
    if (!first?.[0] || this.#writer.deletions.mustBeAlone)
      return { committed: 0, isStopped: false };
    this.#options.onBegin(first[0].context);
    this.#writer.begin();
    let committed = 0;
    let sent: SentCall | undefined;
    for (let from = 0; ;) {
      const next = await this.#call(transactions.slice(from), sent);
      if (sent) {
        const { error } = await sent.answer;
        if (error) {
          // The server has done nothing of this one.
          await next?.answer;
          committed += await this.#stopped(sent, error);
          return { committed, isStopped: true };
        }
        for (const parts of sent.transactions) this.#committed(parts);
        committed += sent.transactions.length;
      }
      if (!next) {
        if (committed > 0) await keepYoung(this.#session);
        return { committed, isStopped: false };
      }
      sent = next;
      from += next.transactions.length;
    }
  }

  /** Sends some of the transactions, from the first on; undefined when the first cannot be sent ahead. */
  async #call(
    transactions: readonly (readonly TransactionPart[])[],
    before: SentCall | undefined,
  ): Promise<SentCall | undefined> {
    const steps: Step[] = [];
    let count = 0;
    let bytes = 0;
    try {
      for (const parts of transactions) {
        const due = dueTime(parts, this.#options.applyDelayMs);
        // To be waited for.
        if (pgTimeToUnixMs(due) > Date.now() + 1) break;
        const taken = await this.statements.transaction(parts, due);
        if (!taken) break;
        steps.push(...taken);
        count += 1;
        for (const part of parts) bytes += part.bytes;
        if (steps.length >= ENOUGH_STEPS || bytes >= ENOUGH_BYTES) break;
      }
      if (count === 0) return undefined;
      const { answer } = await this.#procedures.call(steps, before && endOf(before));
      return { transactions: transactions.slice(0, count), answer };
    } catch (error) {
      if (this.#session.lost.aborted) throw error;
      // What cannot be made is met again step by step.
      return undefined;
    }
  }

  /**
   * Tidies up where the server has stopped in what was sent ahead, and returns how many transactions of the call are committed. A
   * lock that was not had is waited for holding nothing.
   */
  async #stopped(sent: SentCall, error: Error): Promise<number> {
    if (this.#session.lost.aborted) throw error;
    await followCommitted(this.#session);
    const position = (await resetOrigin(this.#session)) ?? 0;
    const done = sent.transactions.filter(
      (parts) => (parts.at(-1)?.endLsn ?? Infinity) <= position,
    );
    for (const parts of done) this.#committed(parts);
    this.statements.stopped(error);
    if (isLockConflict(error)) {
      this.#options.onRollback();
      await pause(backoffMs(1, LOCK_BACKOFF, this.#options.random), this.#options.signal);
    } else this.#tables.doubt(error);
    return done.length;
  }

  #committed(parts: readonly TransactionPart[]): void {
    for (const { changes } of parts) {
      for (const change of changes) this.#writer.count(change);
    }
    this.#writer.committed();
    this.#options.onCommit(parts);
    this.#options.onProgress();
  }
}

/** The provider's position behind the last transaction of a call. */
function endOf({ transactions }: SentCall): Lsn | undefined {
  return transactions.at(-1)?.at(-1)?.endLsn;
}
