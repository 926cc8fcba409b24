import { constants, isUtf8 } from 'node:buffer';
import { int32At, ProtocolError } from '../base/bytes.ts';
import type { ByteReader } from '../base/bytes.ts';
import { BdrError } from '../base/errors.ts';

/** The byte that says how a column's value is sent; manual: "Logical Replication Message Formats", TupleData. */
export const ColumnKind = {
  null: 0x6e,
  /** A TOASTed value that the update left alone and that is not sent: keep what is stored. */
  unchanged: 0x75,
  text: 0x74,
  binary: 0x62,
} as const;
export type ColumnKind = (typeof ColumnKind)[keyof typeof ColumnKind];

/**
 * A row on the wire, as a view of the buffer it arrived in: no object for a column, nothing copied.
 *
 * The bytes were checked when the tuple was made, so no accessor fails on a column that exists. The tuple remembers the column
 * it looked at last: going through the columns in order costs one step each, over one row or column by column over many rows,
 * and a key column at the front is a step or two away. Only going back starts again at the first column.
 *
 * On the wire the four bytes before a value are its length, as COPY BINARY, Bind and the elements of a binary array want it
 * too: they can be copied together, from `offset(i) - 4`.
 */
export class Tuple {
  readonly buffer: Buffer;
  /** Where the column count stands in `buffer`. */
  readonly start: number;
  readonly end: number;
  readonly columnCount: number;
  /** No column is of kind unchanged. */
  readonly isComplete: boolean;
  /** The column looked at last, and where its kind byte stands. */
  #column: number;
  #at: number;

  /** For `readTuple`, which has checked the bytes. */
  constructor(
    buffer: Buffer,
    start: number,
    end: number,
    columnCount: number,
    isComplete: boolean,
  ) {
    this.buffer = buffer;
    this.start = start;
    this.end = end;
    this.columnCount = columnCount;
    this.isComplete = isComplete;
    this.#column = 0;
    this.#at = start + 2;
  }

  /** The same row in a buffer of its own: it keeps no other in memory. */
  detached(): Tuple {
    const { buffer, start, end, columnCount, isComplete } = this;
    return new Tuple(
      Buffer.from(buffer.subarray(start, end)),
      0,
      end - start,
      columnCount,
      isComplete,
    );
  }

  kind(column: number): ColumnKind {
    return this.buffer[this.#seek(column)] as ColumnKind;
  }

  /** Where the value begins in `buffer`; -1 for a null and an unchanged value. */
  offset(column: number): number {
    const at = this.#seek(column);
    return hasValue(this.buffer[at] as number) ? at + 5 : -1;
  }

  /** How many bytes the value has; -1 for a null and an unchanged value. */
  length(column: number): number {
    const at = this.#seek(column);
    return hasValue(this.buffer[at] as number) ? int32At(this.buffer, at + 1) : -1;
  }

  /** The value's bytes as a view of `buffer`; null for a null and an unchanged value. */
  bytes(column: number): Buffer | null {
    const offset = this.offset(column);
    return offset < 0 ? null : this.buffer.subarray(offset, offset + this.length(column));
  }

  /**
   * The value's bytes as UTF-8 text, which is the value only where its kind is text; null for a null and an unchanged value. Throws
   * BdrError where the language has no string that long, ProtocolError where the bytes are no UTF-8.
   */
  text(column: number): string | null {
    const offset = this.offset(column);
    if (offset < 0) return null;
    const length = this.length(column);
    if (length > constants.MAX_STRING_LENGTH) throw tooLong(column, length);
    const text = this.buffer.toString('utf8', offset, offset + length);
    // A byte that is none comes out as U+FFFD: look closer only then.
    if (text.includes('\ufffd') && !isUtf8(this.buffer.subarray(offset, offset + length))) {
      throw new ProtocolError(`value of column ${column + 1} is not UTF-8`, offset);
    }
    return text;
  }

  /** Moves to a column and returns where its kind byte stands. */
  #seek(column: number): number {
    if (column === this.#column && column < this.columnCount) return this.#at;
    return this.#walk(column);
  }

  #walk(column: number): number {
    if (!(column >= 0 && column < this.columnCount)) {
      throw new RangeError(`no column ${column} in a tuple of ${this.columnCount}`);
    }
    const { buffer } = this;
    let i = this.#column;
    let at = this.#at;
    if (column < i) {
      i = 0;
      at = this.start + 2;
    }
    for (; i < column; i++) {
      at += hasValue(buffer[at] as number) ? 5 + int32At(buffer, at + 1) : 1;
    }
    this.#column = column;
    this.#at = at;
    return at;
  }
}

function hasValue(kind: number): boolean {
  return kind === ColumnKind.binary || kind === ColumnKind.text;
}

function tooLong(column: number, length: number): BdrError {
  const megabytes = (bytes: number) => Math.round(bytes / 1024 / 1024);
  return new BdrError('apply_failed', {
    message: `a replicated row has a value of ${megabytes(length)} MB in its column ${column + 1}, as text: the agent takes ${megabytes(constants.MAX_STRING_LENGTH)} MB`,
    detail: 'Two digits are sent for a byte of bytea.',
    hint: 'Keep such values in pieces, or outside of the database.',
    sqlstate: '54000',
  });
}

/** Reads a TupleData and checks all of it. */
export function readTuple(reader: ByteReader): Tuple {
  const { buffer, position: start, end } = reader;
  const columnCount = reader.uint16();
  let isComplete = true;
  let at = start + 2;
  for (let i = 0; i < columnCount; i++) {
    if (at >= end) reader.fail(`tuple ends before column ${i} of ${columnCount}`, at);
    const kind = buffer[at] as number;
    if (hasValue(kind)) {
      if (end - at < 5) reader.fail(`tuple ends in the length of column ${i}`, at);
      const length = int32At(buffer, at + 1);
      if (length < 0 || length > end - at - 5) {
        reader.fail(`column ${i} has ${length} bytes, ${end - at - 5} left`, at);
      }
      at += 5 + length;
    } else if (kind === ColumnKind.null) {
      at += 1;
    } else if (kind === ColumnKind.unchanged) {
      isComplete = false;
      at += 1;
    } else {
      reader.fail(`column ${i} is of unknown kind ${kind}`, at);
    }
  }
  reader.position = at;
  return new Tuple(buffer, start, at, columnCount, isComplete);
}
