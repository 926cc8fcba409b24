import fc from 'fast-check';
import { expect, test } from 'vitest';
import { backoffMs } from './backoff.ts';

const LIMITS = { firstMs: 250, mostMs: 30_000 };

test('pauses double up to the limit', () => {
  const pauses = Array.from({ length: 10 }, (_, index) => backoffMs(index + 1, LIMITS, () => 0));
  expect(pauses).toEqual([250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
});

test('at most a quarter is taken off, and no number of failures overflows', () => {
  const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e9 }), random, (failures, chance) => {
      const full = backoffMs(failures, LIMITS, () => 0);
      const pause = backoffMs(failures, LIMITS, () => chance);
      expect(pause).toBeLessThanOrEqual(full);
      expect(pause).toBeGreaterThanOrEqual(Math.floor(full * 0.75));
      expect(full).toBeLessThanOrEqual(LIMITS.mostMs);
    }),
  );
});
