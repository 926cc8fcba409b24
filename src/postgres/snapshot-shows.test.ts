import { describe, expect, test } from 'vitest';
import { snapshotShows } from './snapshot-shows.ts';

const EPOCH = 0x1_0000_0000;

describe('snapshotShows', () => {
  test.each([
    ['before everything that ran', 99, true],
    ['running', 100, false],
    ['ended while an older one ran', 101, true],
    ['running too', 105, false],
    ['just below the end', 109, true],
    ['at the end', 110, false],
    ['after it', 111, false],
  ])('a transaction %s', (_, xid, shown) => {
    expect(snapshotShows('100:110:100,105', xid)).toBe(shown);
  });

  test('with nothing running', () => {
    expect(snapshotShows('100:100:', 99)).toBe(true);
    expect(snapshotShows('100:100:', 100)).toBe(false);
  });

  test('across the wrap of the 32-bit ids', () => {
    const snapshot = `${3 * EPOCH - 10}:${3 * EPOCH + 10}:${3 * EPOCH - 10},${3 * EPOCH + 3}`;
    expect(snapshotShows(snapshot, EPOCH - 11)).toBe(true);
    expect(snapshotShows(snapshot, EPOCH - 10)).toBe(false);
    expect(snapshotShows(snapshot, EPOCH - 9)).toBe(true);
    expect(snapshotShows(snapshot, 3)).toBe(false);
    expect(snapshotShows(snapshot, 4)).toBe(true);
    expect(snapshotShows(snapshot, 10)).toBe(false);
  });

  test('a transaction of the next epoch is later, one of the epoch before is earlier', () => {
    const late = `${2 * EPOCH - 100}:${2 * EPOCH - 50}:`;
    expect(snapshotShows(late, 5)).toBe(false);
    const early = `${2 * EPOCH + 50}:${2 * EPOCH + 100}:`;
    expect(snapshotShows(early, EPOCH - 5)).toBe(true);
  });
});
