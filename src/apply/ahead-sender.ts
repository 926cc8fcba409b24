import { backoffMs } from '../base/backoff.ts';
import { pgTimeToUnixMs } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';
import type { BatchAnswer } from '../postgres/batch.ts';
import { rollBack } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import type { Ahead } from './ahead.ts';
import type { ApplyOptions } from './apply-options.ts';
import { isLockConflict, LOCK_BACKOFF } from './lock-conflict.ts';
import type { Statement } from './prepared.ts';
import type { TableMap } from './table-map.ts';
import { dueTime, type TransactionPart } from './transaction-part.ts';
import type { ChangeWriter } from './writer.ts';

/** Local transactions that were sent as one batch: each of some of the provider's. */
interface SentBatch {
  readonly transactions: readonly (readonly TransactionPart[])[];
  /** How many of the statements there are up to the end of each transaction. */
  readonly ends: readonly number[];
  readonly answer: Promise<BatchAnswer>;
}

/** What came of transactions that were sent ahead, and whether the server has stopped in the one behind the last committed. */
interface AheadResult {
  readonly committed: number;
  readonly isStopped: boolean;
}

/** So many local transactions are sent ahead of the first answer, at most. */
const MOST_AHEAD = 256;
/** From so many statements on a batch is sent. */
export const ENOUGH_FOR_BATCH = 128;

/**
 * Sends small transactions in one piece with their commits, without waiting for answers. Where the server stops in that, whoever
 * asked goes on step by step (docs/decisions/0018-sent-ahead.md).
 */
export class AheadSender {
  /** Puts together what is sent. */
  readonly statements: Ahead;
  readonly #session: Session;
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
    this.#tables = tables;
    this.#writer = writer;
    this.statements = statements;
    this.#options = options;
  }

  /** So many transactions are to be sent next: fewer, the more often the server stops in them. */
  get most(): number {
    return this.#most;
  }

  /** Sends transactions as one local transaction; says whether that is committed. */
  async sendAsOne(parts: readonly TransactionPart[]): Promise<boolean> {
    return (await this.#send([parts])).committed === 1;
  }

  /** Sends transactions, each by itself. Returns how many are committed, from the first on. */
  async sendEach(parts: readonly TransactionPart[]): Promise<number> {
    const { committed, isStopped } = await this.#send(parts.map((part) => [part]));
    this.#most = isStopped
      ? Math.max(Math.floor(this.#most / 2), 1)
      : Math.min(this.#most * 2, MOST_AHEAD);
    return committed;
  }

  /**
   * Sends local transactions, each of some of the provider's, with all that belongs to them, and the next batch before the answer
   * to the one before it. The transaction behind the committed ones needs to be done step by step, or has an error, which is met
   * again then.
   */
  async #send(transactions: readonly (readonly TransactionPart[])[]): Promise<AheadResult> {
    const [first] = transactions;
    if (!first?.[0] || this.#writer.mustBeAlone) return { committed: 0, isStopped: false };
    this.#options.onBegin(first[0].context);
    this.#writer.begin();
    let committed = 0;
    let sent: SentBatch | undefined;
    for (let from = 0; ;) {
      const next = await this.#sendBatch(transactions.slice(from), sent);
      if (sent) {
        const { done, error } = await sent.answer;
        committed += this.#countDone(sent, done);
        if (error) {
          // The server has passed over this one.
          await next?.answer;
          await this.#stopped(error);
          return { committed, isStopped: true };
        }
      }
      if (!next) return { committed, isStopped: false };
      sent = next;
      from += next.transactions.length;
    }
  }

  /** Sends some of the transactions, from the first on; undefined when the first cannot be sent ahead. */
  async #sendBatch(
    transactions: readonly (readonly TransactionPart[])[],
    before: SentBatch | undefined,
  ): Promise<SentBatch | undefined> {
    const position = before?.transactions.at(-1)?.at(-1)?.endLsn;
    const statements: Statement[] =
      position === undefined ? [] : [this.statements.follows(position)];
    const ends: number[] = [];
    try {
      for (const parts of transactions) {
        const due = dueTime(parts, this.#options.applyDelayMs);
        // To be waited for.
        if (pgTimeToUnixMs(due) > Date.now() + 1) break;
        const script = await this.statements.transaction(parts, due);
        if (!script) break;
        statements.push(...script);
        ends.push(statements.length);
        if (statements.length >= ENOUGH_FOR_BATCH) break;
      }
      if (ends.length === 0) return undefined;
      const { answer } = await this.#writer.statements.send(statements);
      return { transactions: transactions.slice(0, ends.length), ends, answer };
    } catch (error) {
      if (this.#session.lost.aborted) throw error;
      // The batch before has failed, or what cannot be prepared is met again step by step.
      return undefined;
    }
  }

  /** Takes note of the transactions of a batch whose statements are done, and returns how many there are. */
  #countDone({ transactions, ends }: SentBatch, done: number): number {
    const committed = ends.filter((end) => end <= done).length;
    for (const parts of transactions.slice(0, committed)) this.#committed(parts);
    return committed;
  }

  /** Tidies up where the server has stopped in what was sent ahead. A lock that was not had is waited for holding nothing. */
  async #stopped(error: Error): Promise<void> {
    if (this.#session.lost.aborted) throw error;
    await rollBack(this.#session);
    this.statements.stopped(error);
    if (isLockConflict(error)) {
      this.#options.onRollback();
      await pause(backoffMs(1, LOCK_BACKOFF, this.#options.random), this.#options.signal);
    } else if (!hasSqlstate(error, SQLSTATE.lookAgain)) this.#tables.forget();
  }

  #committed(parts: readonly TransactionPart[]): void {
    for (const { changes } of parts) {
      for (const change of changes) {
        if (change.kind !== 'message' && change.kind !== 'truncate') this.#writer.count(change);
      }
    }
    this.#writer.committed();
    this.#options.onCommit(parts);
    this.#options.onProgress();
  }
}
