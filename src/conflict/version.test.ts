import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { PgTime } from '../base/pg-time.ts';
import { compareVersions, type Version, type Writer } from './version.ts';

const WRITERS: readonly Writer[] = [
  { id: { sysid: '7', timeline: 1, dboid: 5 }, sequence: 1 },
  { id: { sysid: '7', timeline: 1, dboid: 6 }, sequence: 2 },
  { id: { sysid: '8', timeline: 1, dboid: 5 }, sequence: 2 },
  { id: { sysid: '9', timeline: 2, dboid: 5 }, sequence: null },
  { id: { sysid: '10', timeline: 2, dboid: 5 }, sequence: null },
];

const version: fc.Arbitrary<Version> = fc.record({
  time: fc.integer({ min: 0, max: 3 }).map((time) => time as PgTime),
  writer: fc.constantFrom(...WRITERS),
});

describe('compareVersions', () => {
  test('is a total order', () => {
    fc.assert(
      fc.property(version, version, version, (a, b, c) => {
        expect(Math.sign(compareVersions(a, b))).toBe(0 - Math.sign(compareVersions(b, a)));
        if (compareVersions(a, b) === 0) expect(a).toEqual(b);
        if (compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0) {
          expect(compareVersions(a, c)).toBeLessThanOrEqual(0);
        }
      }),
    );
  });

  test('looks at the time first, then at the group-wide number, then at the identity', () => {
    const at = (time: number, writer: number): Version => ({
      time: time as PgTime,
      writer: WRITERS[writer] as Writer,
    });
    expect(compareVersions(at(2, 0), at(1, 4))).toBeGreaterThan(0);
    expect(compareVersions(at(1, 1), at(1, 0))).toBeGreaterThan(0);
    expect(compareVersions(at(1, 2), at(1, 1))).toBeGreaterThan(0);
    expect(compareVersions(at(1, 0), at(1, 3))).toBeGreaterThan(0);
    expect(compareVersions(at(1, 3), at(1, 4))).toBeGreaterThan(0);
    expect(compareVersions(at(1, 3), at(1, 3))).toBe(0);
  });
});
