import type { Lsn } from '../base/lsn.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { bytesOf, type Change } from '../pgoutput/transaction.ts';
import type { ChangeContext } from './change-context.ts';
import { isOwn } from './table.ts';

/**
 * A remote transaction, or a piece of one that is too large to wait for its end: pieces are applied as they come, in one local
 * transaction.
 */
export interface TransactionPart {
  readonly context: ChangeContext;
  /** The transaction begins with this part. */
  readonly isFirst: boolean;
  /** The provider's position after its commit record, in the part that ends the transaction. */
  readonly endLsn: Lsn | undefined;
  readonly changes: readonly Change[];
  /** About how much memory it holds: the bytes on the wire, and the objects around them. */
  readonly bytes: number;
  /** Something in it must stand in a local transaction of its own, in order: TRUNCATE, or a change of the group's own tables. */
  readonly isAlone: boolean;
}

/** Whether a part is a whole transaction. */
export function isWhole(part: TransactionPart): boolean {
  return part.isFirst && part.endLsn !== undefined;
}

/** The greatest commit time: the group's (DESIGN 4.6). */
export function latest(parts: readonly TransactionPart[]): PgTime {
  return parts.reduce<PgTime>(
    (time, { context }) => (context.commitTime > time ? context.commitTime : time),
    LONG_AGO,
  );
}

/** The server's clock must have passed this moment before the transactions begin (DESIGN 4.7). */
export function dueTime(parts: readonly TransactionPart[], applyDelayMs: number): PgTime {
  return (latest(parts) + applyDelayMs * 1000) as PgTime;
}

/** A piece is cut off here: enough for the sets to pay, and few enough that the pieces under way fit into memory. */
const MOST_CHANGES = 10_000;
const MOST_BYTES = 4 * 1024 * 1024;
/** What a change costs besides its bytes, roughly. */
const CHANGE_BYTES = 200;

/** Collects the changes of one transaction into parts. */
export class PartBuilder {
  readonly #context: ChangeContext;
  #isFirst = true;
  #changes: Change[] = [];
  #bytes = 0;
  #isAlone = false;

  constructor(context: ChangeContext) {
    this.#context = context;
  }

  /** Takes a change; returns a part when it is large enough to go on its way. */
  add(change: Change): TransactionPart | undefined {
    this.#changes.push(change);
    this.#bytes += bytesOf(change) + CHANGE_BYTES;
    if (change.kind === 'truncate' || (change.kind !== 'message' && isOwn(change.relation))) {
      this.#isAlone = true;
    }
    if (this.#changes.length < MOST_CHANGES && this.#bytes < MOST_BYTES) return undefined;
    return this.#part(undefined);
  }

  end(endLsn: Lsn): TransactionPart {
    return this.#part(endLsn);
  }

  /** What has been taken and is not on its way yet, where the transaction has not ended. */
  rest(): TransactionPart | undefined {
    return this.#changes.length > 0 ? this.#part(undefined) : undefined;
  }

  #part(endLsn: Lsn | undefined): TransactionPart {
    const part: TransactionPart = {
      context: this.#context,
      isFirst: this.#isFirst,
      endLsn,
      changes: this.#changes,
      bytes: this.#bytes,
      isAlone: this.#isAlone,
    };
    this.#isFirst = false;
    this.#changes = [];
    this.#bytes = 0;
    return part;
  }
}
