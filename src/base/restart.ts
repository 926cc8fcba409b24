import { backoffMs, type BackoffLimits } from './backoff.ts';
import { pause } from './wait.ts';

export interface Failure {
  readonly error: unknown;
  /** How many lives have failed in a row, this one included. */
  readonly failures: number;
  readonly retryInMs: number;
}

/**
 * Lives until `live` returns or `signal` is aborted: after a failure it is tried again, with a pause that grows while one life
 * after another fails. A life that lasted longer than the longest pause begins the count anew.
 */
export async function restartOnFailure(
  live: (failures: number) => Promise<void>,
  options: {
    readonly limits: BackoffLimits;
    readonly random: () => number;
    readonly signal: AbortSignal;
    readonly onFailure: (failure: Failure) => void;
  },
): Promise<void> {
  const { limits, random, signal, onFailure } = options;
  for (let failures = 0; !signal.aborted;) {
    const startedAt = performance.now();
    try {
      return await live(failures);
    } catch (error) {
      if (signal.aborted) return;
      failures = performance.now() - startedAt > limits.mostMs ? 1 : failures + 1;
      const retryInMs = backoffMs(failures, limits, random);
      onFailure({ error, failures, retryInMs });
      await pause(retryInMs, signal);
    }
  }
}
