import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { ColumnKind, readTuple } from './tuple.ts';
import type { Tuple } from './tuple.ts';

/** Stands for a TOASTed value that was not sent. */
export const UNCHANGED: unique symbol = Symbol('unchanged');

/** A column's value as an object, for tests and simulation: a string is sent as text, bytes as binary. */
export type TupleValue = null | typeof UNCHANGED | string | Uint8Array;

/** A tuple of these values, as if it had arrived. */
export function tupleOf(values: readonly TupleValue[]): Tuple {
  const writer = new ByteWriter().uint16(values.length);
  for (const value of values) {
    if (value === null) writer.uint8(ColumnKind.null);
    else if (value === UNCHANGED) writer.uint8(ColumnKind.unchanged);
    else {
      const isText = typeof value === 'string';
      const bytes = isText ? Buffer.from(value, 'utf8') : value;
      writer.uint8(isText ? ColumnKind.text : ColumnKind.binary);
      writer.int32(bytes.length).bytes(bytes);
    }
  }
  return readTuple(new ByteReader(writer.toBuffer()));
}

/** All values of a tuple; binary ones as views of its buffer. */
export function valuesOf(tuple: Tuple): TupleValue[] {
  return Array.from({ length: tuple.columnCount }, (_, i) => {
    if (tuple.kind(i) === ColumnKind.unchanged) return UNCHANGED;
    return tuple.kind(i) === ColumnKind.binary ? tuple.bytes(i) : tuple.text(i);
  });
}
