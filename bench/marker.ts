import { until } from '../src/demo/until.ts';
import type { BenchDatabase } from './database.ts';

// A workload ends with one more transaction. Apply is in commit order, so where its row is seen, all before it is applied; both
// systems are asked by the same statement.

export const MARKER_TABLE = 'bench_marker';

/** Of the longest run: ten million rows. */
const LONGEST_MS = 30 * 60_000;
/** Each look takes a share of the processors that are measured. */
const POLL_MS = 20;

let last = 0;

/** Commits a row that was never there before; returns its id. */
export async function writeMarker(database: BenchDatabase): Promise<number> {
  last += 1;
  await database.ask('mark', `INSERT INTO public.${MARKER_TABLE} (id) VALUES ($1)`, [last]);
  return last;
}

/** Looks for a marker; returns the server's clock, in milliseconds since 1970, if it is there. */
export async function seeMarker(
  database: BenchDatabase,
  marker: number,
): Promise<number | undefined> {
  const row = await database.ask<{ ms: string }>(
    'see',
    /* sql */ `
      SELECT extract(epoch FROM clock_timestamp()) * 1000 AS ms FROM public.${MARKER_TABLE} WHERE id = $1
    `,
    [marker],
  );
  return row && Number(row.ms);
}

/** Waits until a marker is there. */
export async function awaitMarker(
  database: BenchDatabase,
  marker: number,
  system: {
    /** Throws when waiting is in vain. */
    check(): void;
    /** What is said of it when waiting was. */
    logTail(): string;
  },
): Promise<number> {
  return until(
    `marker ${marker} is in database ${database.name}`,
    async () => {
      system.check();
      return seeMarker(database, marker);
    },
    { deadlineMs: LONGEST_MS, everyMs: POLL_MS, found: () => system.logTail() },
  );
}
