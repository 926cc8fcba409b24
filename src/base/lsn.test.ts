import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatLsn, lsnFromHalves, parseLsn, ZERO_LSN } from './lsn.ts';

test('every position up to 2^53 is written and read back', () => {
  fc.assert(
    fc.property(fc.nat(0x1f_ffff), fc.integer({ min: 0, max: 0xffff_ffff }), (high, low) => {
      const lsn = lsnFromHalves(high, low);
      expect(parseLsn(formatLsn(lsn))).toBe(lsn);
      expect(formatLsn(lsn)).toBe(
        `${high.toString(16).toUpperCase()}/${low.toString(16).toUpperCase()}`,
      );
    }),
  );
});

test('positions are ordered as numbers', () => {
  expect(parseLsn('1/0')).toBeGreaterThan(parseLsn('0/FFFFFFFF'));
  expect(parseLsn('0/0')).toBe(ZERO_LSN);
  expect(parseLsn('16/b374d848')).toBe(parseLsn('16/B374D848'));
});

test.each(['', '1', '1/', '/1', '1/123456789', 'x/1', '1/1 ', '-1/1', '1/1/1'])(
  '%j is no position',
  (text) => {
    expect(() => parseLsn(text)).toThrow(SyntaxError);
  },
);

test('a position that a double cannot hold is refused', () => {
  expect(() => parseLsn('FFFFFFFF/FFFFFFFF')).toThrow(RangeError);
  expect(() => lsnFromHalves(0x20_0000, 0)).toThrow(RangeError);
});
