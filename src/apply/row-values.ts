import { ColumnKind, type Tuple } from '../pgoutput/tuple.ts';
import type { Param } from '../postgres/session.ts';

/** Stands for a TOASTed value that the update left alone and the stream left out. It is never null. */
export const UNSENT: unique symbol = Symbol('unsent');

/** The values of a row as a change brings them, by position in the provider's tuple. */
export type RowValues = readonly (Param | typeof UNSENT)[];

/** `isSought`: positions of the values that are read; the others are as if they had not been sent. */
export function readValues(
  tuple: Tuple,
  isSought: (position: number) => boolean = () => true,
): RowValues {
  return Array.from({ length: tuple.columnCount }, (_, position) => {
    if (!isSought(position)) return UNSENT;
    switch (tuple.kind(position)) {
      case ColumnKind.null:
        return null;
      case ColumnKind.unchanged:
        return UNSENT;
      case ColumnKind.text:
        return tuple.text(position);
      case ColumnKind.binary:
        return tuple.bytes(position);
    }
  });
}

/**
 * The new row with what was not sent taken from the old one, where that is there: a key that is long enough to be TOASTed comes
 * in the old key, and with REPLICA IDENTITY FULL every value comes in the old row. In an old row of which only the key was sent
 * the others are null, which an unsent value never is.
 */
export function filledFrom(old: RowValues, row: RowValues): RowValues {
  if (isComplete(row)) return row;
  return row.map((value, position) => (value === UNSENT ? (old[position] ?? UNSENT) : value));
}

export function isComplete(row: RowValues): boolean {
  return !row.includes(UNSENT);
}

/** Whether two values of one column are the same text, or the same bytes. */
export function sameValue(
  a: RowValues[number] | undefined,
  b: RowValues[number] | undefined,
): boolean {
  return Buffer.isBuffer(a) && Buffer.isBuffer(b) ? a.equals(b) : a === b;
}
