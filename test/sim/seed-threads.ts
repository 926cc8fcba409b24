import type { RunResult } from '../support/sim/simulation.ts';
import type { Batch, SessionOptions } from './session.ts';
import { Thread } from './thread.ts';

/** So many runs a thread makes before it is asked again: some tenths of a second's worth. */
const BATCH = 8;

/**
 * Runs one seed after the other in so many threads, and tells of each run; none is left out below one that was told. Ends when
 * `isOver` says so, after `most` runs, or with the first failure.
 */
export async function runSeeds(
  first: number,
  most: number,
  threads: number,
  options: SessionOptions,
  told: (result: RunResult) => void,
  isOver: () => boolean,
): Promise<void> {
  let next = first;
  let hasFailed = false;
  const work = async () => {
    await using thread = new Thread<Batch, readonly RunResult[]>('seed-worker.js');
    while (!hasFailed && next < first + most && !isOver()) {
      const count = Math.min(BATCH, first + most - next);
      const seeds = Array.from({ length: count }, (_, index) => next + index);
      next += count;
      for (const result of await thread.run({ seeds, options })) {
        if (hasFailed) break;
        if (result.failure) hasFailed = true;
        told(result);
      }
    }
  };
  await Promise.all(Array.from({ length: threads }, work));
}
