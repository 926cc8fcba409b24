import { parentPort } from 'node:worker_threads';
import { runSeed, type Batch } from './session.ts';

// A thread that runs the seeds it is given: see seed-threads.ts.

parentPort?.on('message', ({ seeds, options }: Batch) => {
  parentPort?.postMessage(seeds.map((seed) => runSeed(seed, options)));
});
