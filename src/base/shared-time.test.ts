import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LONG_AGO, type PgTime } from './pg-time.ts';
import { SharedTime } from './shared-time.ts';

test('begins long ago, wherever it is looked at from', () => {
  const time = new SharedTime();
  expect(time.get()).toBe(LONG_AGO);
  expect(new SharedTime(time.shared).get()).toBe(LONG_AGO);
});

test('to share what is set does not set it back', () => {
  const time = new SharedTime();
  time.set(5 as PgTime);
  expect(new SharedTime(time.shared).get()).toBe(5);
  expect(time.get()).toBe(5);
});

test('holds every moment exactly, and both infinities', () => {
  const here = new SharedTime();
  const there = new SharedTime(here.shared);
  fc.assert(
    fc.property(fc.oneof(fc.maxSafeInteger(), fc.constantFrom(Infinity, LONG_AGO)), (time) => {
      here.set(time as PgTime);
      expect(there.get()).toBe(time);
    }),
  );
});
