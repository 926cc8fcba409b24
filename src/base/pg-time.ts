/**
 * A moment as PostgreSQL keeps it: microseconds since 2000-01-01 00:00 UTC. A double is exact up to the year 2285.
 * Versions of rows are compared by it, so it must never be rounded to the milliseconds of a JavaScript Date.
 */
export type PgTime = number & { readonly __brand: 'PgTime' };

/** Before every real moment: the version of a row that nobody remembers writing. */
export const LONG_AGO = -Infinity as PgTime;

const EPOCH_MS = Date.UTC(2000, 0, 1);

/** The last one that was written: all that belongs to one transaction has one time, and often what follows it too. */
let last = { time: LONG_AGO, text: '-infinity' };

/** Writes a literal that `timestamptz` reads back exactly, with all six digits. */
export function formatPgTime(time: PgTime): string {
  if (time !== last.time) last = { time, text: written(time) };
  return last.text;
}

function written(time: PgTime): string {
  if (time === LONG_AGO) return '-infinity';
  const milliseconds = Math.floor(time / 1000);
  const micros = time - milliseconds * 1000;
  const text = new Date(EPOCH_MS + milliseconds).toISOString();
  return `${text.slice(0, -1)}${String(micros).padStart(3, '0')}+00`;
}

/** The same moment in milliseconds since 1970, for people and for timers; the last three digits are lost. */
export function pgTimeToUnixMs(time: PgTime): number {
  return EPOCH_MS + time / 1000;
}

/**
 * An SQL expression that turns a `timestamptz` expression into a PgTime, sent as a bigint.
 * `expression` is SQL text of ours, never input.
 */
export function pgTimeSql(expression: string): string {
  return `(extract(epoch from (${expression}) - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint`;
}
