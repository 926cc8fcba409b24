import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import type { Session } from './session.ts';

/**
 * Whether a snapshot, in the text form of pg_snapshot `xmin:xmax:xip,…`, shows a transaction as committed, given that it has
 * committed. `xid` is the 32-bit id that the stream carries; the snapshot's ids are 64-bit.
 */
export function snapshotShows(snapshot: string, xid: number): boolean {
  const [xminText, xmaxText, inProgress = ''] = snapshot.split(':');
  const xmax = BigInt(xmaxText ?? '0');
  const xmin = BigInt(xminText ?? '0');
  // The same 32 bits belong to the epoch in which they lie nearest below or around the snapshot.
  const epoch = xmax >> 32n;
  let full = (epoch << 32n) | BigInt(xid);
  if (full > xmax + 0x8000_0000n) full -= 1n << 32n;
  else if (full + 0x8000_0000n < xmax) full += 1n << 32n;
  if (full < xmin) return true;
  if (full >= xmax) return false;
  return !inProgress.split(',').includes(String(full));
}

/** The first transaction id that may be running still, and the first that a new snapshot of the session knows nothing of. */
export async function readSnapshot(session: Session): Promise<{ xmin: bigint; xmax: bigint }> {
  const [row] = await session.query<{ xmin: string; xmax: string }>(/* sql */ `
    SELECT pg_snapshot_xmin(s) AS xmin, pg_snapshot_xmax(s) AS xmax FROM pg_current_snapshot() AS s
  `);
  return { xmin: BigInt(row?.xmin ?? '0'), xmax: BigInt(row?.xmax ?? '0') };
}

/** Whether a session sees what a transaction did; its id as the stream carries it. It must have committed. */
export async function isSeen(session: Session, xid: number): Promise<boolean> {
  const [row] = await session.query<{ snapshot: string }>(
    'SELECT pg_current_snapshot()::text AS snapshot',
  );
  return snapshotShows(row?.snapshot ?? '', xid);
}

/**
 * Whether a commit of a time up to `upTo` is on the log and not seen yet: it waits for a standby, or is about to be seen. A transaction
 * holds the lock on its id until it is seen, and its commit time can be read from its record on.
 */
export async function hasUnseenCommit(session: Session, upTo: PgTime): Promise<boolean> {
  const [row] = await session.query<{ any: string }>(
    /* sql */ `
      SELECT EXISTS (
          SELECT FROM pg_locks
          WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
            AND pg_xact_commit_timestamp(transactionid) <= $1::timestamptz
      ) AS any
    `,
    [formatPgTime(upTo)],
  );
  return row?.any === 't';
}
