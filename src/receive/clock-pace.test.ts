import { describe, expect, test } from 'vitest';
import type { PgTime } from '../base/pg-time.ts';
import { lowestBetween, setBackFrom, type ClockLook } from './clock-pace.ts';

/** In milliseconds; the answer takes two. */
const look = (clock: number, at: number): ClockLook => ({
  clock: (845_000_000_000_000 + clock * 1000) as PgTime,
  startedMs: at,
  endedMs: at + 2,
});

describe('a clock was set back', () => {
  test.each([
    ['below what it had shown', 1000, 900, 100],
    ['by less than has passed', 1000, 1400, 1000],
    ['by a fifth of what has passed', 1000, 1780, 1000],
  ])('%s', (_, first, second, passed) => {
    // The answer to the first took two milliseconds.
    expect(setBackFrom(look(first, 5000), look(second, 5000 + passed))).toBe(
      look(first + passed - 2, 0).clock,
    );
  });
});

test('what a clock can have shown at the least lies as far back as the time that has passed', () => {
  const lowest = lowestBetween(look(1000, 5000), look(900, 5100));
  // 102 ms, by a clock that may run a tenth faster.
  expect(Math.round((look(900, 0).clock - lowest) / 100)).toBe(1132);
});

describe('a clock was not set back that', () => {
  test.each([
    ['keeps pace', 1000, 2000, 1000],
    ['was set forward', 1000, 90_000, 1000],
    ['runs slower for a while', 1000, 1920, 1000],
    ['was read at the end of one answer and at the beginning of the next', 1002, 1100, 100],
  ])('%s', (_, first, second, passed) => {
    expect(setBackFrom(look(first, 5000), look(second, 5000 + passed))).toBeUndefined();
  });
});
