import { BdrError } from '../base/errors.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { Wakeup } from '../base/wait.ts';
import { encodeStatusUpdate } from '../pgoutput/frame.ts';
import { logPositions } from '../postgres/origins.ts';
import type { ReplicationSession } from '../postgres/replication-session.ts';
import type { Session } from '../postgres/session.ts';
import type { AckLedger } from '../receive/ack-ledger.ts';
import type { LinkState } from './link-state.ts';

/** How often positions are looked at while something waits to become durable. */
const FLUSH_POLL_MS = 50;
/** Well below any sensible wal_sender_timeout. */
const STATUS_INTERVAL_MS = 5_000;
/** A change that takes longer than this to apply is waiting for something, or the server works on it. */
const STUCK_MS = 30_000;
/** A statement that runs for so long waits for no lock: it would have been refused one by then. */
const LONG_STATEMENT_MS = 1000;
/** A provider that says nothing for so long, though it was asked, is taken for gone. */
export const SILENCE_LIMIT_MS = 30_000;

/**
 * Tells the provider what is received and what is durable, while the link lives, and whether it is still there: throws BdrError
 * when it has fallen silent. `wakeup` is raised when there is something new to tell.
 */
export async function sendFeedback(link: {
  readonly stream: ReplicationSession;
  readonly bookkeeping: Session;
  readonly ledger: AckLedger;
  readonly state: LinkState;
  readonly wakeup: Wakeup;
  readonly provider: string;
  readonly signal: AbortSignal;
  /** The session that applies. */
  readonly applyPid?: number;
}): Promise<void> {
  const { stream, bookkeeping, ledger, state, wakeup, provider, signal, applyPid } = link;
  let acknowledged: Lsn | undefined;
  let sentAt = 0;
  while (!signal.aborted) {
    await wakeup.wait(ledger.hasUnflushed ? FLUSH_POLL_MS : STATUS_INTERVAL_MS, signal);
    if (signal.aborted) return;
    if (ledger.hasUnflushed) {
      // Taken before the question: what is committed while the answer is under way may lie behind it.
      const upTo = ledger.applied;
      ledger.observed(upTo, await logPositions(bookkeeping));
    }
    const now = performance.now();
    // A link that is stuck keeps quiet, so that the provider ends it in time, and its own shutdown does not wait for it for ever. Not one
    // whose server works on a long statement: ended each time before that is done, it would never come to what follows.
    const isLate = state.isApplying && now - state.progressAt > STUCK_MS;
    if (isLate && !(applyPid && (await worksOnStatement(bookkeeping, applyPid)))) continue;
    const isWaiting = state.waitingSince !== undefined && !state.isApplying;
    const silentMs = isWaiting ? now - (state.waitingSince ?? now) : 0;
    if (silentMs > SILENCE_LIMIT_MS) {
      throw new BdrError('connection_failed', {
        message: `nothing was heard from node ${provider} for ${Math.round(silentMs / 1000)} s`,
        hint: 'The network may be cut without either side having been told. The link connects again.',
      });
    }
    if (ledger.durable === acknowledged && now - sentAt < STATUS_INTERVAL_MS / 2) continue;
    acknowledged = ledger.durable;
    sentAt = now;
    stream.send(
      encodeStatusUpdate({
        writtenLsn: state.received ?? acknowledged,
        flushedLsn: acknowledged,
        appliedLsn: acknowledged,
        sendTime: 0 as PgTime,
        // An answer is due even when nothing happens over there: silence then means that the network is gone.
        replyRequested: silentMs >= STATUS_INTERVAL_MS,
      }),
    );
  }
}

async function worksOnStatement(session: Session, pid: number): Promise<boolean> {
  const [row] = await session.query<{ works: string }>(
    /* sql */ `
      SELECT state = 'active'
         AND wait_event_type IS DISTINCT FROM 'Lock'
         AND clock_timestamp() - query_start > make_interval(secs => $2) AS works
      FROM pg_stat_activity
      WHERE pid = $1
    `,
    [pid, LONG_STATEMENT_MS / 1000],
  );
  return row?.works === 't';
}
