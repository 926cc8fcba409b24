import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteReader, ByteWriter, ProtocolError } from './bytes.ts';
import { parseLsn } from './lsn.ts';
import { LONG_AGO } from './pg-time.ts';
import type { PgTime } from './pg-time.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

describe('ByteReader', () => {
  test('reads each kind of field in network order', () => {
    const reader = new ByteReader(
      hex('ff ff fffe fffe fffffffd fffffffd ffffffff fffffffc 00000016 b374d848 01 c3a900 0102'),
    );
    expect([reader.uint8(), reader.int8()]).toEqual([255, -1]);
    expect([reader.uint16(), reader.int16()]).toEqual([65534, -2]);
    expect([reader.uint32(), reader.int32()]).toEqual([4294967293, -3]);
    expect(reader.int64()).toBe(-4);
    expect(reader.lsn()).toBe(parseLsn('16/B374D848'));
    expect(reader.bool()).toBe(true);
    expect(reader.cstring()).toBe('é');
    expect(reader.remaining).toBe(2);
    expect(reader.bytes(2)).toEqual(hex('0102'));
    reader.finish();
  });

  test('refuses every read that goes beyond the end of its part of the buffer', () => {
    const reads: [number, (reader: ByteReader) => unknown][] = [
      [1, (r) => r.uint8()],
      [1, (r) => r.int8()],
      [1, (r) => r.bool()],
      [2, (r) => r.uint16()],
      [2, (r) => r.int16()],
      [4, (r) => r.uint32()],
      [4, (r) => r.int32()],
      [8, (r) => r.int64()],
      [8, (r) => r.lsn()],
      [8, (r) => r.pgTime()],
      [3, (r) => r.bytes(3)],
    ];
    for (const [size, read] of reads) {
      const buffer = Buffer.alloc(20);
      expect(() => read(new ByteReader(buffer, 5, 5 + size))).not.toThrow();
      expect(() => read(new ByteReader(buffer, 5, 5 + size - 1))).toThrow(ProtocolError);
    }
  });

  test('does not take the zero byte of the next message as the end of a string', () => {
    expect(() => new ByteReader(hex('616200'), 0, 2).cstring()).toThrow(/string without end/);
  });

  test('refuses a string that is not UTF-8, but not one with a replacement character in it', () => {
    expect(() => new ByteReader(hex('61ff00')).cstring()).toThrow(/not UTF-8/);
    expect(new ByteReader(hex('efbfbd00')).cstring()).toBe('\ufffd');
  });

  test('refuses numbers that a double would round', () => {
    expect(() => new ByteReader(hex('0020000000000000')).int64()).toThrow(/out of range/);
    expect(() => new ByteReader(hex('0020000000000000')).lsn()).toThrow(/out of range/);
    expect(() => new ByteReader(hex('7fffffffffffffff')).pgTime()).toThrow(/out of range/);
  });

  test('reads the timestamp -infinity as long ago', () => {
    expect(new ByteReader(hex('8000000000000000')).pgTime()).toBe(LONG_AGO);
  });

  test('refuses a negative length and bytes that nobody has read', () => {
    expect(() => new ByteReader(Buffer.alloc(4)).bytes(-1)).toThrow(ProtocolError);
    expect(() => new ByteReader(Buffer.alloc(4)).finish()).toThrow(/4 bytes too many/);
  });

  test('counts the offset of an error from the start of the message', () => {
    const reader = new ByteReader(Buffer.alloc(20), 10, 13);
    reader.uint16();
    expect(() => reader.uint32()).toThrow(expect.objectContaining({ offset: 2 }));
  });

  test('refuses a message that lies outside its buffer', () => {
    expect(() => new ByteReader(Buffer.alloc(4), 0, 5)).toThrow(ProtocolError);
    expect(() => new ByteReader(Buffer.alloc(4), 3, 2)).toThrow(ProtocolError);
    expect(() => new ByteReader(Buffer.alloc(4), -1, 2)).toThrow(ProtocolError);
  });
});

describe('ByteWriter', () => {
  test('writes what the reader reads, whatever its first size', () => {
    fc.assert(
      fc.property(
        fc.nat(40),
        fc.maxSafeInteger(),
        fc.oneof(fc.maxSafeInteger(), fc.constant(LONG_AGO)),
        fc.string({ unit: fc.constantFrom('a', '\u007f', 'é', '€', '\ufffd', '😀') }),
        (capacity, integer, time, text) => {
          const writer = new ByteWriter(capacity);
          writer
            .int64(integer)
            .pgTime(time as PgTime)
            .cstring(text);
          const reader = new ByteReader(writer.toBuffer());
          expect(reader.int64()).toBe(integer);
          expect(reader.pgTime()).toBe(time);
          expect(reader.cstring()).toBe(text);
          reader.finish();
        },
      ),
    );
  });

  test('refuses what does not fit', () => {
    expect(() => new ByteWriter().uint8(256)).toThrow(RangeError);
    expect(() => new ByteWriter().int64(2 ** 53)).toThrow(RangeError);
    expect(() => new ByteWriter().cstring('a\0b')).toThrow(RangeError);
  });
});
