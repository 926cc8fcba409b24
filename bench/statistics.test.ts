import fc from 'fast-check';
import { expect, test } from 'vitest';
import { median, percentile, summarize } from './statistics.ts';

test('the median is the one in the middle, or the mean of the two there', () => {
  expect(median([10, 2, 9])).toBe(9);
  expect(median([10, 2, 9, 4])).toBe(6.5);
  expect(median([7])).toBe(7);
});

test('a percentile is a sample, and no more than its share lie above it', () => {
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
  expect(percentile(hundred, 50)).toBe(50);
  expect(percentile(hundred, 99)).toBe(99);
  expect(percentile([3, 1, 2], 99)).toBe(3);
  expect(percentile([3, 1, 2], 0)).toBe(1);
  const samples = fc.array(fc.double({ noNaN: true }), { minLength: 1 });
  fc.assert(
    fc.property(samples, fc.integer({ min: 0, max: 100 }), (values, percent) => {
      const found = percentile(values, percent);
      expect(values).toContain(found);
      const above = values.filter((value) => value > found).length;
      expect(above * 100).toBeLessThanOrEqual((100 - percent) * values.length);
    }),
  );
});

test('a summary has the extremes, and the samples in their order', () => {
  expect(summarize([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3, samples: [3, 1, 2] });
});

test('nothing can be said of no samples', () => {
  expect(() => median([])).toThrow('no samples');
  expect(() => percentile([], 50)).toThrow('no samples');
});
