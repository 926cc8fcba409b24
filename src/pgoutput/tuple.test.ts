import { constants } from 'node:buffer';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ByteReader, ProtocolError } from '../base/bytes.ts';
import { ColumnKind, readTuple } from './tuple.ts';
import { UNCHANGED, tupleOf, valuesOf } from './tuple-value.ts';
import type { TupleValue } from './tuple-value.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

test('a tuple shows kind, place and bytes of each column', () => {
  const buffer = hex('ee 0004 6e 75 74 00000002 c3a9 62 00000000 ee');
  const reader = new ByteReader(buffer, 1);
  const tuple = readTuple(reader);
  expect(reader.remaining).toBe(1);
  expect([tuple.start, tuple.end, tuple.columnCount]).toEqual([1, buffer.length - 1, 4]);
  const columns = [0, 1, 2, 3];
  expect(columns.map((i) => tuple.kind(i))).toEqual([
    ColumnKind.null,
    ColumnKind.unchanged,
    ColumnKind.text,
    ColumnKind.binary,
  ]);
  expect(columns.map((i) => tuple.offset(i))).toEqual([-1, -1, 10, 17]);
  expect(columns.map((i) => tuple.length(i))).toEqual([-1, -1, 2, 0]);
  expect(columns.map((i) => tuple.text(i))).toEqual([null, null, 'é', '']);
  expect(tuple.bytes(2)).toEqual(hex('c3a9'));
  expect(tuple.bytes(0)).toBeNull();
});

test('the length of a value stands right before it, ready to be copied along', () => {
  const tuple = tupleOf(['abc']);
  const offset = tuple.offset(0);
  expect(tuple.buffer.subarray(offset - 4, offset + tuple.length(0))).toEqual(
    hex('00000003616263'),
  );
});

test('a value that is too long for a string says so, and which column has it', () => {
  const length = constants.MAX_STRING_LENGTH + 1;
  const buffer = Buffer.alloc(7 + length);
  buffer.set(hex('0001 74'));
  buffer.writeInt32BE(length, 3);
  const tuple = readTuple(new ByteReader(buffer));
  expect(() => tuple.text(0)).toThrow(
    expect.objectContaining({
      code: 'apply_failed',
      message: expect.stringMatching(/value of 512 MB in its column 1\b/) as string,
    }),
  );
});

test('bytes that are no UTF-8 are no text, and the character that stands for such is', () => {
  const tuple = readTuple(new ByteReader(hex('0002 74 00000001 e9 74 00000003 efbfbd')));
  expect(() => tuple.text(0)).toThrow(ProtocolError);
  expect(tuple.text(1)).toBe('\ufffd');
});

test('columns can be read in any order', () => {
  const value = fc.oneof(
    fc.constantFrom<TupleValue>(null, UNCHANGED),
    fc.string({ unit: fc.constantFrom('a', '\0', 'é', '€', '😀') }),
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  );
  fc.assert(
    fc.property(
      fc.array(value, { minLength: 1 }),
      fc.array(fc.nat(), { maxLength: 30 }),
      (values, order) => {
        const tuple = tupleOf(values);
        for (const number of order) {
          const column = number % values.length;
          const expected = values[column] as TupleValue;
          const bytes = typeof expected === 'string' ? Buffer.from(expected) : expected;
          expect(tuple.bytes(column)).toEqual(bytes === UNCHANGED ? null : bytes);
        }
        expect(valuesOf(tuple)).toEqual(values);
      },
    ),
  );
});

test('a column that the tuple does not have is a mistake of the caller', () => {
  for (const column of [-1, 1, NaN]) {
    expect(() => tupleOf(['x']).kind(column)).toThrow(RangeError);
  }
  expect(() => tupleOf([]).kind(0)).toThrow(RangeError);
});

test.each([
  ['no column count', '00'],
  ['fewer columns than counted', '0002 6e'],
  ['an unknown kind', '0001 78'],
  ['no length', '0001 74 0000'],
  ['a negative length', '0001 74 ffffffff'],
  ['a length beyond the end', '0001 62 00000003 0102'],
])('a tuple with %s is a protocol error', (_, bytes) => {
  expect(() => readTuple(new ByteReader(hex(bytes)))).toThrow(ProtocolError);
});

test('a tuple does not reach into the message behind it', () => {
  const buffer = hex('0001 74 00000002 6161');
  expect(() => readTuple(new ByteReader(buffer, 0, buffer.length - 1))).toThrow(ProtocolError);
});
