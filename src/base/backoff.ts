/** Limits of the pause between two tries of something that keeps failing. */
export interface BackoffLimits {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * The pause before the next try: doubles with each failure up to the limit, with up to a quarter taken off at random so that
 * links which broke together do not come back together. `failures` counts from 1; `random` gives [0, 1).
 */
export function backoffMs(failures: number, limits: BackoffLimits, random: () => number): number {
  const full = Math.min(limits.mostMs, limits.firstMs * 2 ** Math.min(failures - 1, 30));
  return Math.round(full * (1 - random() / 4));
}
