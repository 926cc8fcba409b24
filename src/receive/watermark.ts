import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import type { NodeId } from '../model/node.ts';
import { Seen } from '../model/seen.ts';

/** Of Heartbeat.untold. */
export const NOTHING_UNTOLD = Infinity as PgTime;

/** A heartbeat as its node sent it (DESIGN 4.5). */
export interface Heartbeat {
  /** The node's clock, read before anything else. */
  readonly clock: PgTime;
  /** The heartbeat's own transaction id, taken after the clock. */
  readonly xid: number;
  /** The oldest transaction id that runs and may have taken a time up to `clock`, found out after the id. */
  readonly xmin: number;
  /** For each other node: up to which commit time the sender had applied it. Keys are nodeKey(). */
  readonly applied: ReadonlyMap<string, PgTime>;
  /** The least version of the rows whose loss in a unique index the sender has still to tell: infinity without any. */
  readonly untold: PgTime;
}

/**
 * A node tells of rows that have lost in a unique index (a kill) long after they were written, but never of one below whose key it
 * has a greater row by then. So up to this time no row of `others` is greater than one of the same key of whose loss the sender tells
 * behind this heartbeat: it had applied all of them, and told of all that it had lost before.
 */
export function settledUpTo({ applied, untold }: Heartbeat, others: readonly NodeId[]): PgTime {
  return Math.min(new Seen(applied).upToOfAll(others), untold) as PgTime;
}

/**
 * The commit time up to which everything of one link has been handled here.
 *
 * PostgreSQL takes a transaction's commit time before it writes the commit record, so times do not rise along the stream, and
 * the last time seen proves nothing. What took a time before a heartbeat's clock had its id before that heartbeat's; once a later
 * heartbeat says that nobody with an id so low may have taken such a time and still runs, all of it lies before that one in the stream. Call `handled` only when
 * everything before the heartbeat is committed here: counting it when it is received diverges.
 *
 * Not the clock itself: who takes his id after the heartbeat may still take the microsecond that it has read (found by the
 * simulation).
 */
export class Watermark {
  #time: PgTime = LONG_AGO;
  /** Heartbeats that wait for an older transaction to end, oldest first. */
  #waiting: { clock: PgTime; xid: number }[] = [];
  readonly #limit: number;

  /** `limit`: how many heartbeats are remembered while a long transaction runs; beyond it, every second one is forgotten. */
  constructor(limit = 1024) {
    this.#limit = limit;
  }

  get time(): PgTime {
    return this.#time;
  }

  handled(heartbeat: Heartbeat): void {
    this.#waiting.push({ clock: heartbeat.clock, xid: heartbeat.xid });
    const passed = this.#waiting.filter(({ xid }) => xid <= heartbeat.xmin);
    for (const { clock } of passed) {
      if (clock - 1 > this.#time) this.#time = (clock - 1) as PgTime;
    }
    this.#waiting = this.#waiting.filter(({ xid }) => xid > heartbeat.xmin);
    if (this.#waiting.length > this.#limit) {
      this.#waiting = this.#waiting.filter((_, index) => index % 2 === 0);
    }
  }
}

/** Reads the content of a message of prefix `bdr`; undefined when it is no heartbeat, or not well formed. */
export function parseHeartbeat(content: Buffer): Heartbeat | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(content.toString('utf8'));
  } catch {
    // Any role may emit a message under any prefix: what is no heartbeat is none of ours.
    return undefined;
  }
  const heartbeat = field(parsed, 'heartbeat');
  const clock = field(heartbeat, 'clock');
  const xid = field(heartbeat, 'xid');
  const xmin = field(heartbeat, 'xmin');
  if (!isWhole(clock) || !isWhole(xid) || !isWhole(xmin)) return undefined;
  const applied = field(heartbeat, 'applied');
  const entries = typeof applied === 'object' && applied !== null ? Object.entries(applied) : [];
  const untold = field(heartbeat, 'untold');
  return {
    clock: clock as PgTime,
    xid,
    xmin,
    untold: untold === null ? NOTHING_UNTOLD : isWhole(untold) ? (untold as PgTime) : LONG_AGO,
    applied: new Map(entries.filter((entry): entry is [string, PgTime] => isWhole(entry[1]))),
  };
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

/** JSON knows numbers that are none of ours: 1e999 reads as infinity, a watermark that nothing would ever pass. */
function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value);
}
