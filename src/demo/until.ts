import { BdrError } from '../base/errors.ts';
import { pause } from '../base/wait.ts';

export interface UntilOptions {
  readonly deadlineMs?: number;
  readonly everyMs?: number;
  readonly signal?: AbortSignal | undefined;
  /** Ends the message of the error: what is there instead. */
  readonly found?: () => string;
}

/** Asks for a fact until it is there: anything but undefined or false. Throws when the deadline passes first. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined | false>,
  options: UntilOptions = {},
): Promise<T> {
  const { deadlineMs = 30_000, everyMs = 20, signal, found } = options;
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    signal?.throwIfAborted();
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > deadline) {
      throw new BdrError('wait_too_long', {
        message: `waited ${deadlineMs / 1000} s in vain: ${what}`,
        detail: found?.(),
      });
    }
    await pause(everyMs, signal);
  }
}
