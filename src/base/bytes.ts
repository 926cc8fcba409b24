import { isUtf8 } from 'node:buffer';
import { lsnFromHalves } from './lsn.ts';
import type { Lsn } from './lsn.ts';
import { LONG_AGO } from './pg-time.ts';
import type { PgTime } from './pg-time.ts';

/**
 * The input ended, holds something that its format does not allow, or comes out of order. `offset` counts from the start of
 * the message; it is missing where no single byte is to blame, as with a message at the wrong time.
 */
export class ProtocolError extends Error {
  readonly offset: number | undefined;

  constructor(message: string, offset?: number) {
    super(offset === undefined ? message : `${message} (at byte ${offset})`);
    this.name = 'ProtocolError';
    this.offset = offset;
  }
}

const HIGH = 0x1_0000_0000;
/** The high half of the smallest int64, which is how PostgreSQL keeps `-infinity`. */
const INT64_MIN_HIGH = -0x8000_0000;
/** The largest high half that a position may have: 2^53 bytes of WAL. */
const LSN_HIGH_MAX = 0x1f_ffff;

/**
 * A cursor over network-order bytes. A read beyond the end throws ProtocolError and nothing else ever does. It can be
 * pointed at the next message with `reset`, so that a stream of messages needs one reader.
 *
 * Integers are put together from single bytes: the compiler turns that into plain loads, and it skips the argument checks of
 * `Buffer.readUInt32BE`.
 */
export class ByteReader {
  buffer: Buffer;
  /** Where the message begins in `buffer`. */
  start: number;
  /** Where the next read begins in `buffer`. */
  position: number;
  /** Where the message ends in `buffer`. */
  end: number;

  constructor(buffer: Buffer, start = 0, end = buffer.length) {
    this.buffer = buffer;
    this.start = start;
    this.position = start;
    this.end = end;
    this.#checkRange();
  }

  reset(buffer: Buffer, start = 0, end = buffer.length): void {
    this.buffer = buffer;
    this.start = start;
    this.position = start;
    this.end = end;
    this.#checkRange();
  }

  get remaining(): number {
    return this.end - this.position;
  }

  uint8(): number {
    return this.buffer[this.#advance(1)] as number;
  }

  int8(): number {
    return (this.uint8() << 24) >> 24;
  }

  uint16(): number {
    const at = this.#advance(2);
    return ((this.buffer[at] as number) << 8) | (this.buffer[at + 1] as number);
  }

  int16(): number {
    return (this.uint16() << 16) >> 16;
  }

  int32(): number {
    return int32At(this.buffer, this.#advance(4));
  }

  uint32(): number {
    return int32At(this.buffer, this.#advance(4)) >>> 0;
  }

  /** A signed 64-bit integer that a double holds exactly; a larger one is refused, never rounded. */
  int64(): number {
    const at = this.#advance(8);
    const high = int32At(this.buffer, at);
    const low = int32At(this.buffer, at + 4) >>> 0;
    const value = high * HIGH + low;
    if (!Number.isSafeInteger(value)) this.fail('64-bit integer out of range', at);
    return value;
  }

  lsn(): Lsn {
    const at = this.#advance(8);
    const high = int32At(this.buffer, at) >>> 0;
    if (high > LSN_HIGH_MAX) this.fail('log sequence number out of range', at);
    return lsnFromHalves(high, int32At(this.buffer, at + 4) >>> 0);
  }

  /** A `TimestampTz`. `-infinity`, which a replication origin can be told to stamp a commit with, is LONG_AGO. */
  pgTime(): PgTime {
    const at = this.#advance(8);
    const high = int32At(this.buffer, at);
    const low = int32At(this.buffer, at + 4) >>> 0;
    const value = high * HIGH + low;
    if (Number.isSafeInteger(value)) return value as PgTime;
    if (high === INT64_MIN_HIGH && low === 0) return LONG_AGO;
    return this.fail('timestamp out of range', at);
  }

  /** A flag that is one byte, 0 or 1. */
  bool(): boolean {
    const value = this.uint8();
    if (value > 1) this.fail(`flag is ${value}, neither 0 nor 1`, this.position - 1);
    return value === 1;
  }

  /** A string that a zero byte ends. The server converts to the client's encoding, so it must be UTF-8. */
  cstring(): string {
    const { buffer, end } = this;
    const from = this.position;
    let to = from;
    while (to < end && buffer[to] !== 0) to++;
    if (to >= end) this.fail('string without end', from);
    this.position = to + 1;
    const text = buffer.toString('utf8', from, to);
    // A damaged byte comes out as U+FFFD: look closer only then.
    if (text.includes('\ufffd') && !isUtf8(buffer.subarray(from, to))) {
      this.fail('string is not UTF-8', from);
    }
    return text;
  }

  /** The next `length` bytes as a view of the buffer, not a copy. */
  bytes(length: number): Buffer {
    const at = this.#advance(length);
    return this.buffer.subarray(at, at + length);
  }

  /** Throws unless the message has been read to its end. */
  finish(): void {
    if (this.position !== this.end) this.fail(`${this.remaining} bytes too many`, this.position);
  }

  /** Throws a ProtocolError about the byte at `at`, a position in `buffer`. */
  fail(message: string, at: number): never {
    throw new ProtocolError(message, at - this.start);
  }

  #advance(length: number): number {
    const at = this.position;
    // Also false for a negative or broken length.
    if (!(length >= 0 && length <= this.end - at)) {
      this.fail(`${length} bytes expected, ${this.end - at} left`, at);
    }
    this.position = at + length;
    return at;
  }

  #checkRange(): void {
    if (!(this.start >= 0 && this.start <= this.end && this.end <= this.buffer.length)) {
      throw new ProtocolError('message lies outside its buffer', 0);
    }
  }
}

/** The signed 32-bit integer in network order at `at`, which the caller knows to lie inside the buffer. */
export function int32At(buffer: Buffer, at: number): number {
  return (
    ((buffer[at] as number) << 24) |
    ((buffer[at + 1] as number) << 16) |
    ((buffer[at + 2] as number) << 8) |
    (buffer[at + 3] as number)
  );
}

/** Writes network-order bytes into a buffer that grows. A number that does not fit its field throws RangeError. */
export class ByteWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(capacity = 256) {
    this.#buffer = Buffer.allocUnsafe(capacity);
  }

  get length(): number {
    return this.#length;
  }

  uint8(value: number): this {
    const at = this.#grow(1);
    this.#buffer.writeUInt8(value, at);
    return this;
  }

  int8(value: number): this {
    const at = this.#grow(1);
    this.#buffer.writeInt8(value, at);
    return this;
  }

  uint16(value: number): this {
    const at = this.#grow(2);
    this.#buffer.writeUInt16BE(value, at);
    return this;
  }

  int16(value: number): this {
    const at = this.#grow(2);
    this.#buffer.writeInt16BE(value, at);
    return this;
  }

  int32(value: number): this {
    const at = this.#grow(4);
    this.#buffer.writeInt32BE(value, at);
    return this;
  }

  uint32(value: number): this {
    const at = this.#grow(4);
    this.#buffer.writeUInt32BE(value, at);
    return this;
  }

  int64(value: number): this {
    if (!Number.isSafeInteger(value)) throw new RangeError(`not a safe integer: ${value}`);
    const high = Math.floor(value / HIGH);
    return this.int32(high).uint32(value - high * HIGH);
  }

  lsn(lsn: Lsn): this {
    return this.int64(lsn);
  }

  pgTime(time: PgTime): this {
    return time === LONG_AGO ? this.int32(INT64_MIN_HIGH).uint32(0) : this.int64(time);
  }

  bool(value: boolean): this {
    return this.uint8(value ? 1 : 0);
  }

  cstring(text: string): this {
    if (text.includes('\0')) throw new RangeError('a zero byte inside a string');
    const length = Buffer.byteLength(text, 'utf8');
    const at = this.#grow(length + 1);
    this.#buffer.write(text, at, 'utf8');
    this.#buffer[at + length] = 0;
    return this;
  }

  bytes(bytes: Uint8Array): this {
    const at = this.#grow(bytes.length);
    this.#buffer.set(bytes, at);
    return this;
  }

  /** What was written so far, as a view: it is valid for good if nothing more is written. */
  toBuffer(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Makes room and returns where it begins. */
  #grow(length: number): number {
    const at = this.#length;
    const needed = at + length;
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
      this.#buffer.copy(larger, 0, 0, at);
      this.#buffer = larger;
    }
    this.#length = needed;
    return at;
  }
}
