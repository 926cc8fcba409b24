/**
 * Waits for a time, or less: resolves early when `signal` is aborted. Never rejects, so a loop around it ends by looking at
 * its signal. The timer keeps the process alive.
 */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return untilWoken(ms, signal, () => undefined);
}

/** As `pause`; `arm` gets what ends it early. */
function untilWoken(
  ms: number,
  signal: AbortSignal | undefined,
  arm: (wake: () => void) => void,
): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const wake = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    signal?.addEventListener('abort', wake, { once: true });
    arm(wake);
  });
}

/** A flag that one side raises and the other waits for: several raises before a wait count as one. */
export class Wakeup {
  #raised = false;
  #waiting: (() => void) | undefined;

  raise(): void {
    this.#raised = true;
    this.#waiting?.();
  }

  /** Resolves when raised, after `ms`, or when `signal` is aborted, whichever comes first; takes the flag down, and tells whether it was up. */
  async wait(ms: number, signal?: AbortSignal): Promise<boolean> {
    if (!this.#raised) {
      await untilWoken(ms, signal, (wake) => {
        this.#waiting = wake;
      });
      this.#waiting = undefined;
    }
    const wasRaised = this.#raised;
    this.#raised = false;
    return wasRaised;
  }
}
