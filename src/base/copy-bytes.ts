/** From here on a call of the platform's own copy is faster than a loop. */
const LONG_BYTES = 512;

/** The bytes of a buffer, to be read and written by words. Make one for many reads: it costs more than a short copy. */
export function viewOf(buffer: Uint8Array): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/** Views of buffers of which many are asked for in a row, as of rows that arrived together: one is made for each change of buffer. */
export class Views {
  #buffer: Uint8Array = new Uint8Array(0);
  #view = viewOf(this.#buffer);

  of(buffer: Uint8Array): DataView {
    if (buffer !== this.#buffer) {
      this.#buffer = buffer;
      this.#view = viewOf(buffer);
    }
    return this.#view;
  }
}

/**
 * Copies the bytes of `source` from `from` to `to` into `target` at `at`; returns where they end there. For values of rows, which
 * are mostly short: word by word that takes a third of the time that `Buffer.copy` takes for a hundred bytes.
 */
export function copyBytes(
  source: DataView,
  from: number,
  to: number,
  target: DataView,
  at: number,
): number {
  if (to - from >= LONG_BYTES) {
    const bytes = new Uint8Array(source.buffer, source.byteOffset + from, to - from);
    new Uint8Array(target.buffer, target.byteOffset + at, to - from).set(bytes);
    return at + to - from;
  }
  let next = at;
  let i = from;
  for (; i + 4 <= to; i += 4, next += 4) target.setInt32(next, source.getInt32(i));
  for (; i < to; i++, next++) target.setUint8(next, source.getUint8(i));
  return next;
}
