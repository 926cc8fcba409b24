import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import { columnArray, smallintArray, timeArray, valueArray } from './arrays.ts';

/** Reads a binary array of one dimension; manual and source: array_send(). */
function elements(array: Buffer): { hasNull: boolean; type: number; values: (string | null)[] } {
  expect([array.readInt32BE(0), array.readInt32BE(16)], 'dimensions, lower bound').toEqual([1, 1]);
  const values: (string | null)[] = [];
  let at = 20;
  for (let i = 0; i < array.readInt32BE(12); i++) {
    const length = array.readInt32BE(at);
    at += 4;
    values.push(length < 0 ? null : array.toString('utf8', at, at + length));
    at += Math.max(length, 0);
  }
  expect(at).toBe(array.length);
  return { hasNull: array.readInt32BE(4) === 1, type: array.readInt32BE(8), values };
}

test('a column of any rows is the array of its values', () => {
  const value = fc.option(fc.string({ unit: 'grapheme', maxLength: 60 }));
  fc.assert(
    fc.property(fc.array(fc.tuple(value, value, value)), fc.nat(2), (rows, column) => {
      const values = rows.map((row) => row[column] ?? null);
      expect(elements(columnArray(rows.map(tupleOf), column))).toEqual({
        hasNull: values.includes(null),
        type: 25,
        values,
      });
    }),
  );
});

test('values are an array of text', () => {
  const value = fc.option(fc.string({ unit: 'grapheme', maxLength: 60 }));
  fc.assert(
    fc.property(fc.array(value), (values) => {
      const hasNull = values.includes(null);
      expect(elements(valueArray(values))).toEqual({ hasNull, type: 25, values });
    }),
  );
});

test('numbers are an array of two bytes each', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -32768, max: 32767 })), (numbers) => {
      const array = smallintArray(numbers);
      expect([array.readInt32BE(8), array.readInt32BE(12)]).toEqual([21, numbers.length]);
      const read = numbers.map((_, i) => [
        array.readInt32BE(20 + i * 6),
        array.readInt16BE(24 + i * 6),
      ]);
      expect(read).toEqual(numbers.map((number) => [2, number]));
      expect(array.length).toBe(20 + numbers.length * 6);
    }),
  );
});

test('moments are an array of eight bytes each', () => {
  const moment = fc.oneof(fc.maxSafeInteger(), fc.integer(), fc.constant(LONG_AGO));
  fc.assert(
    fc.property(fc.array(moment as fc.Arbitrary<PgTime>), (times) => {
      const array = timeArray(times);
      expect([array.readInt32BE(8), array.readInt32BE(12)]).toEqual([1184, times.length]);
      const read = times.map((_, i) => [
        array.readInt32BE(20 + i * 12),
        array.readBigInt64BE(24 + i * 12),
      ]);
      const least = -(2n ** 63n);
      expect(read).toEqual(times.map((time) => [8, time === LONG_AGO ? least : BigInt(time)]));
      expect(array.length).toBe(20 + times.length * 12);
    }),
  );
});
