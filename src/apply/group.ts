import type { PgTime } from '../base/pg-time.ts';
import { isWhole, type TransactionPart } from './transaction-part.ts';

/** A group holds the locks of its rows until it commits, and all of it is done again after a lock conflict. */
const MOST_CHANGES = 10_000;
const MOST_BYTES = 4 * 1024 * 1024;

/**
 * How many of the parts that have arrived, from the first on, go into the next local transaction: one, or as many whole
 * transactions as may share a commit (DESIGN 4.6).
 *
 * A group has one commit time, the greatest of its transactions. That may change no comparison that is still to come, so a
 * transaction is folded only if its commit time is at or below `limit`: up to there nothing of another node, this one included,
 * is still on its way. With two nodes too: a local delete that the own stream has not shown yet would meet the group's stamp.
 */
export function groupSize(parts: Iterable<TransactionPart>, limit: PgTime): number {
  let changes = 0;
  let bytes = 0;
  let size = 0;
  for (const part of parts) {
    changes += part.changes.length;
    bytes += part.bytes;
    const fits = changes <= MOST_CHANGES && bytes <= MOST_BYTES;
    if (!fits || !isWhole(part) || part.isAlone || part.context.commitTime > limit) break;
    size += 1;
  }
  return Math.max(size, 1);
}

/** So many transactions are applied one behind the other before it is asked again whether some may share a commit. */
const MOST_LONE = 256;

/** The parts from the first on that are whole transactions and need not be alone: they may be sent one behind the other. */
export function loneRun(parts: Iterable<TransactionPart>): TransactionPart[] {
  const run: TransactionPart[] = [];
  for (const part of parts) {
    if (run.length === MOST_LONE || !isWhole(part) || part.isAlone) break;
    run.push(part);
  }
  return run;
}
