import { parentPort } from 'node:worker_threads';
import { exhaust } from '../support/sim/exhaustive.ts';
import type { ScopeTask, TriedScope } from './scope-threads.ts';

// A thread that tries the scopes it is given: see scope-threads.ts.

/** No scope has been found to have so many; one that has is told of. */
const MOST_STATES = 2_000_000;

parentPort?.on('message', ({ name, scope, mutant }: ScopeTask) => {
  const { states, failure, isCut } = exhaust(scope, MOST_STATES, mutant);
  const tried: TriedScope = { name, states, failure, isCut };
  parentPort?.postMessage(tried);
});
