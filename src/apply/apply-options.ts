import type { Lsn } from '../base/lsn.ts';
import type { ChangeContext } from './change-context.ts';
import type { TransactionPart } from './transaction-part.ts';

/** What a link's apply is told from outside, and whom it tells. */
export interface ApplyOptions {
  readonly signal: AbortSignal;
  readonly random: () => number;
  /** Transactions are applied no earlier than this long after their commit on the provider. */
  readonly applyDelayMs: number;
  /** A provider's clock may be so far ahead of this server's before the link stops. */
  readonly maxClockSkewMs: number;
  /** Told of the first transaction that goes into a local one, or into several that are sent ahead, before it does. */
  readonly onBegin: (first: ChangeContext) => void;
  /** Told after each local commit, with the provider's transactions that are in it. */
  readonly onCommit: (parts: readonly TransactionPart[]) => void;
  /** Told with each change, and now and then while a transaction waits for its time; not while it waits for a lock. */
  readonly onProgress: () => void;
  readonly onRollback: () => void;
  /** Commit positions of transactions that failed as sets and were too large to keep for a second try; outlives the worker. */
  readonly difficult: Set<Lsn>;
}
