import type { BenchDatabase } from '../database.ts';

/** Sessions that write at the same time, so that their transactions lie in the log one between the other. */
const WRITERS = 4;

/**
 * Runs `body`, statements of plpgsql, `count` times, each time as a transaction of its own. In it `i` counts from 1 to `count`,
 * and random() gives the same numbers for the same seed.
 */
export async function writeTransactions(
  database: BenchDatabase,
  work: {
    readonly count: number;
    readonly seed: number;
    readonly declare?: string;
    readonly body: string;
  },
): Promise<void> {
  const { count, seed, declare = '', body } = work;
  await Promise.all(
    Array.from({ length: Math.min(WRITERS, count) }, async (_, writer) => {
      // The log is flushed by the marker behind the work, which waits for its commit.
      await using session = await database.connect({ synchronous_commit: 'off' });
      await session.script(/* sql */ `
        DO $do$
        DECLARE
            ${declare}
        BEGIN
            PERFORM setseed(${(((seed * WRITERS + writer) % 1000) / 1000).toFixed(3)});
            FOR i IN ${writer + 1}..${count} BY ${WRITERS} LOOP
                ${body}
                COMMIT;
            END LOOP;
        END
        $do$
      `);
    }),
  );
}
