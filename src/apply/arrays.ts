import { ByteWriter } from '../base/bytes.ts';
import { copyBytes, viewOf, Views } from '../base/copy-bytes.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { Tuple } from '../pgoutput/tuple.ts';

const SMALLINT_OID = 21;
const TEXT_OID = 25;
const TIMESTAMPTZ_OID = 1184;
/** Dimensions, flags, element type; then of the one dimension: length, lower bound. Four bytes each. */
const HEADER_BYTES = 20;

/**
 * One column of many rows as a binary `text[]`, the parameter of a set statement. On the wire a value has its length before it,
 * as an array's element has, so both are copied together and nothing is decoded. Values must have come as text; one that is null
 * or was not sent is null. Rows of one buffer should stand side by side.
 */
export function columnArray(rows: readonly Tuple[], column: number): Buffer {
  let bytes = HEADER_BYTES;
  let hasNull = 0;
  for (const row of rows) {
    const length = row.length(column);
    if (length < 0) hasNull = 1;
    bytes += 4 + Math.max(length, 0);
  }
  const array = arrayOf(TEXT_OID, rows.length, hasNull, bytes);
  const target = viewOf(array);
  const views = new Views();
  let at = HEADER_BYTES;
  for (const row of rows) {
    const from = row.offset(column);
    if (from < 0) {
      target.setInt32(at, -1);
      at += 4;
    } else {
      const end = from + row.length(column);
      at = copyBytes(views.of(row.buffer), from - 4, end, target, at);
    }
  }
  return array;
}

/** Values as a binary `text[]`. */
export function valueArray(values: readonly (string | null)[]): Buffer {
  let bytes = HEADER_BYTES;
  let hasNull = 0;
  for (const value of values) {
    if (value === null) hasNull = 1;
    bytes += 4 + (value === null ? 0 : Buffer.byteLength(value));
  }
  const array = arrayOf(TEXT_OID, values.length, hasNull, bytes);
  let at = HEADER_BYTES;
  for (const value of values) {
    const length = value === null ? -1 : array.write(value, at + 4);
    at = array.writeInt32BE(length, at) + Math.max(length, 0);
  }
  return array;
}

/** Numbers as a binary `smallint[]`. */
export function smallintArray(numbers: readonly number[]): Buffer {
  const array = arrayOf(SMALLINT_OID, numbers.length, 0, HEADER_BYTES + numbers.length * 6);
  let at = HEADER_BYTES;
  for (const number of numbers) {
    at = array.writeInt32BE(2, at);
    at = array.writeInt16BE(number, at);
  }
  return array;
}

/** Moments as a binary `timestamptz[]`. */
export function timeArray(times: readonly PgTime[]): Buffer {
  const array = new ByteWriter(HEADER_BYTES + times.length * 12);
  array.bytes(arrayOf(TIMESTAMPTZ_OID, times.length, 0, HEADER_BYTES));
  for (const time of times) array.int32(8).pgTime(time);
  return array.toBuffer();
}

function arrayOf(type: number, length: number, hasNull: number, bytes: number): Buffer {
  const array = Buffer.allocUnsafe(bytes);
  array.writeInt32BE(1, 0);
  array.writeInt32BE(hasNull, 4);
  array.writeInt32BE(type, 8);
  array.writeInt32BE(length, 12);
  array.writeInt32BE(1, 16);
  return array;
}
