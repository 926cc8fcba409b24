import { expect, test } from 'vitest';
import { formatBytes, formatDuration } from './quantities.ts';

test.each([
  [0, '0 ms'],
  [820.4, '820 ms'],
  [3400, '3.4 s'],
  [59_000, '59 s'],
  [90_000, '1.5 min'],
  [5 * 3_600_000, '5 h'],
  [72 * 3_600_000, '3 d'],
])('writes %d ms as %s', (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [17 * 1024, '17 kB'],
  [2.1 * 1024 ** 3, '2.1 GB'],
  [3 * 1024 ** 4, '3 TB'],
])('writes %d bytes as %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});
