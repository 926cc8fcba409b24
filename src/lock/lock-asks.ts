import type { PgTime } from '../base/pg-time.ts';
import type { LiveTransactions } from '../catalog/global-locks.ts';
import { covers, type GlobalLockRow, type LockAsk, type LockMode } from '../model/global-lock.ts';

/** A transaction that waits says so every second; who has not for so long waits no more. */
const SILENCE_MS = 5000;

/** What transactions of this node's users ask for, as they say it in the node's own log. */
export class LockAsks {
  readonly #heard = new Map<number, { readonly ask: LockAsk; readonly at: number }>();

  /** Takes the content of a signed message; anything but an ask is passed over. */
  hear(content: Buffer): void {
    const ask = parseLockAsk(content);
    if (ask) this.#heard.set(ask.ask, { ask, at: performance.now() });
  }

  /** Forgets those whose transactions have ended; returns the others, the earliest first. */
  waiting({ serverStart, transactions }: LiveTransactions): LockAsk[] {
    for (const [number, { ask, at }] of this.#heard) {
      const { holder } = ask;
      const isAlive = holder.serverStart === serverStart && transactions.has(holder.transaction);
      if (!isAlive || performance.now() - at > SILENCE_MS) this.#heard.delete(number);
    }
    return [...this.#heard.values()]
      .map(({ ask }) => ask)
      .toSorted((a, b) => a.askedAt - b.askedAt);
  }
}

/** Whether an ask is granted by what its transaction holds. */
export function isGrantedBy(own: GlobalLockRow | undefined, ask: LockAsk): boolean {
  return (
    own?.state === 'acquired' &&
    own.holder?.transaction === ask.holder.transaction &&
    covers(own, ask)
  );
}

/** Reads an ask as bdr.internal_ask_for_lock() writes it; undefined for anything else. */
export function parseLockAsk(content: Buffer): LockAsk | undefined {
  const { lock } = JSON.parse(content.toString('utf8')) as { lock?: SentAsk };
  if (lock === undefined) return undefined;
  return {
    ask: lock.ask,
    mode: lock.mode,
    tables: lock.tables && lock.tables.map(([schema, name]) => ({ schema, name })),
    mayBeMajority: lock.majority,
    askedAt: lock.at as PgTime,
    holder: {
      pid: lock.pid,
      transaction: lock.transaction,
      serverStart: lock.start as PgTime,
    },
  };
}

/** Signed by the node itself, so it is what that function makes. */
interface SentAsk {
  readonly ask: number;
  readonly mode: LockMode;
  readonly tables: readonly (readonly [string, string])[] | null;
  readonly majority: boolean;
  readonly at: number;
  readonly pid: number;
  readonly transaction: string;
  readonly start: number;
}
