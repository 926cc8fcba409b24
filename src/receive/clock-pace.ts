import type { PgTime } from '../base/pg-time.ts';

/** One look at a server's clock, with the time of this process around it: that one never goes back. */
export interface ClockLook {
  readonly clock: PgTime;
  readonly startedMs: number;
  readonly endedMs: number;
}

/** Clocks that are set right little by little run up to a tenth slower meanwhile (chrony: 8.3 %). */
const SLOWEST = 0.9;
/** And those that are behind, faster. */
const FASTEST = 1.1;
/** So little says nothing. */
const LEAST_MICROS = 1000;

/**
 * What a server's clock had come to when it was set back between two looks, undefined where it was not: less time has passed on it
 * than certainly has here. So a step is noticed that is shorter than the time between the two; one of less than a tenth of that is not.
 */
export function setBackFrom(before: ClockLook, after: ClockLook): PgTime | undefined {
  const passedMicros = Math.floor((after.startedMs - before.endedMs) * 1000);
  if (after.clock - before.clock >= passedMicros * SLOWEST - LEAST_MICROS) return undefined;
  return (before.clock + Math.max(passedMicros, 0)) as PgTime;
}

/** The least that a server's clock can have shown between two looks, if it was set back between them. */
export function lowestBetween(before: ClockLook, after: ClockLook): PgTime {
  const passedMicros = Math.ceil((after.endedMs - before.startedMs) * 1000);
  return (after.clock - Math.ceil(passedMicros * FASTEST) - LEAST_MICROS) as PgTime;
}
