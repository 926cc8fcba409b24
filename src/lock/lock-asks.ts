import type { PgTime } from '../base/pg-time.ts';
import type { LiveTransactions } from '../catalog/global-locks.ts';
import {
  covers,
  type AskedCommand,
  type CommandAsk,
  type GlobalLockRow,
  type LockAsk,
  type LockMode,
} from '../model/global-lock.ts';

/** A transaction that waits says so every second; who has not for so long waits no more. */
const SILENCE_MS = 5000;

/** What transactions of this node's users ask for, as they say it in the node's own log. */
export class LockAsks {
  readonly #heard = new Map<number, HeardAsk>();

  /** Takes the content of a signed message; anything but an ask is passed over. */
  hear(content: Buffer): void {
    const ask = parseLockAsk(content);
    if (!ask) return;
    const at = performance.now();
    const known = this.#heard.get(ask.ask);
    if (known?.told.holder.transaction === ask.holder.transaction) known.at = at;
    else this.#heard.set(ask.ask, { ask: 'command' in ask ? undefined : ask, told: ask, at });
  }

  /** Forgets those whose transactions have ended. */
  forgetEnded({ serverStart, transactions }: LiveTransactions): void {
    for (const [number, { told, at }] of this.#heard) {
      const { holder } = told;
      const isAlive = holder.serverStart === serverStart && transactions.has(holder.transaction);
      if (!isAlive || performance.now() - at > SILENCE_MS) this.#heard.delete(number);
    }
  }

  /** Whether a transaction still waits for an answer to its ask. */
  has(ask: number): boolean {
    return this.#heard.has(ask);
  }

  /** Commands of which it is not known yet what they need. */
  commands(): CommandAsk[] {
    return [...this.#heard.values()].flatMap(({ ask, told }) =>
      ask === undefined && 'command' in told ? [told] : [],
    );
  }

  /** The command that an ask is for; undefined for none. */
  commandOf(ask: number): CommandAsk | undefined {
    const told = this.#heard.get(ask)?.told;
    return told && 'command' in told ? told : undefined;
  }

  /** What a command needs has been found out: from now on its transaction waits for that. */
  settle(ask: LockAsk): void {
    const heard = this.#heard.get(ask.ask);
    if (heard) heard.ask = ask;
  }

  /** Who waits for the lock, the earliest first. */
  waiting(): LockAsk[] {
    return [...this.#heard.values()]
      .flatMap(({ ask }) => ask ?? [])
      .toSorted((a, b) => a.askedAt - b.askedAt);
  }
}

interface HeardAsk {
  readonly told: LockAsk | CommandAsk;
  /** What it waits for; undefined until that is known. */
  ask: LockAsk | undefined;
  /** When it was said last, by performance.now(). */
  at: number;
}

/** Whether an ask is granted by what its transaction holds. */
export function isGrantedBy(own: GlobalLockRow | undefined, ask: LockAsk): boolean {
  return isHeldBy(own, ask) && covers(own, ask);
}

/** Whether an ask's transaction holds the lock already. */
export function isHeldBy(
  own: GlobalLockRow | undefined,
  { holder }: LockAsk | CommandAsk,
): own is GlobalLockRow {
  return own?.state === 'acquired' && own.holder?.transaction === holder.transaction;
}

/** Reads an ask as bdr.internal_ask_for_lock() writes it; undefined for anything else. */
export function parseLockAsk(content: Buffer): LockAsk | CommandAsk | undefined {
  const { lock } = JSON.parse(content.toString('utf8')) as { lock?: SentAsk };
  if (lock === undefined) return undefined;
  const waiting = {
    ask: lock.ask,
    askedAt: lock.at as PgTime,
    holder: {
      pid: lock.pid,
      transaction: lock.transaction,
      serverStart: lock.start as PgTime,
    },
    mayBeMajority: lock.majority,
  };
  if (lock.command) return { ...waiting, command: lock.command };
  return {
    ...waiting,
    mode: lock.mode ?? 'write_lock',
    tables: lock.tables && lock.tables.map(([schema, name]) => ({ schema, name })),
  };
}

/** Signed by the node itself, so it is what that function makes. */
interface SentAsk {
  readonly ask: number;
  /** Null with a command. */
  readonly mode: LockMode | null;
  readonly tables: readonly (readonly [string, string])[] | null;
  readonly majority: boolean;
  readonly command: AskedCommand | null;
  readonly at: number;
  readonly pid: number;
  readonly transaction: string;
  readonly start: number;
}
