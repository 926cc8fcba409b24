import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatPgTime, LONG_AGO, pgTimeToUnixMs, type PgTime } from './pg-time.ts';

test('all six digits are written', () => {
  expect(formatPgTime(0 as PgTime)).toBe('2000-01-01T00:00:00.000000+00');
  expect(formatPgTime(1 as PgTime)).toBe('2000-01-01T00:00:00.000001+00');
  expect(formatPgTime(-1 as PgTime)).toBe('1999-12-31T23:59:59.999999+00');
  expect(formatPgTime(845_000_000_123_456 as PgTime)).toBe('2026-10-11T02:13:20.123456+00');
  expect(formatPgTime(LONG_AGO)).toBe('-infinity');
});

test('the text is the moment, to the microsecond', () => {
  const time = fc.integer({ min: -900_000_000_000_000, max: 8_000_000_000_000_000 });
  fc.assert(
    fc.property(time, (micros) => {
      const text = formatPgTime(micros as PgTime);
      const milliseconds = Date.parse(`${text.slice(0, 23)}Z`) - Date.UTC(2000, 0, 1);
      expect(milliseconds * 1000 + Number(text.slice(23, 26))).toBe(micros);
    }),
  );
});

test('later moments are later texts', () => {
  const time = fc.integer({ min: 0, max: 8_000_000_000_000_000 });
  fc.assert(
    fc.property(time, time, (a, b) => {
      expect(formatPgTime(a as PgTime) < formatPgTime(b as PgTime)).toBe(a < b);
    }),
  );
});

test('milliseconds since 1970 are the same moment', () => {
  expect(pgTimeToUnixMs(0 as PgTime)).toBe(Date.UTC(2000, 0, 1));
  expect(new Date(pgTimeToUnixMs(845_000_000_123_456 as PgTime)).toISOString()).toBe(
    '2026-10-11T02:13:20.123Z',
  );
});
