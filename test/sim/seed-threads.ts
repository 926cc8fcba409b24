import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { RunResult } from '../support/sim/simulation.ts';
import type { Batch, SessionOptions } from './session.ts';

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
    await using thread = new SeedThread();
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

class SeedThread implements AsyncDisposable {
  readonly #worker = new Worker(new URL('seed-worker.js', import.meta.url));

  async run(batch: Batch): Promise<readonly RunResult[]> {
    // Fails with what the thread fails with.
    const answer = once(this.#worker, 'message') as Promise<[readonly RunResult[]]>;
    this.#worker.postMessage(batch);
    const [results] = await answer;
    return results;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}
