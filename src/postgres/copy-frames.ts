import { ProtocolError } from '../base/bytes.ts';

/** Who takes the frames of a server that answers a COPY … TO STDOUT. */
export interface CopyFrameSink {
  /** Whole CopyData frames, one behind the other, as they came; `payloadBytes` counts them without their headers. */
  data(frames: Buffer, payloadBytes: number): void;
  /** One whole frame of another kind. */
  other(frame: Buffer): void;
}

const HEADER_BYTES = 5;
const COPY_DATA = 0x64; // d
const READY_FOR_QUERY = 0x5a; // Z
/** What a server may say from a simple query to ReadyForQuery, and by itself. */
const TYPES = new Set(Buffer.from('ACDEGHINSTZcd'));

/**
 * Walks the frames of the answer to one COPY … TO STDOUT and looks at nothing but their headers: a letter, and a length that
 * counts itself but not the letter. Runs of CopyData frames are passed on in one piece, without being copied.
 *
 * A frame may be cut anywhere between two chunks. It is kept until it is whole: what was passed on always ends with a frame, so
 * the receiver may be told something else after any call. A frame is a row, so at most one row is kept.
 */
export class CopyFrames {
  readonly #sink: CopyFrameSink;
  /** The beginning of a frame that was cut. */
  #kept: Buffer[] = [];
  #keptBytes = 0;

  constructor(sink: CopyFrameSink) {
    this.#sink = sink;
  }

  /** Passes on what is whole. ReadyForQuery ends it: that frame is returned, with everything behind it. */
  push(chunk: Buffer): Buffer | undefined {
    let at = 0;
    if (this.#keptBytes > 0) {
      at = this.#complete(chunk);
      const frame = this.#takeWhole();
      if (!frame) return undefined;
      if (frame[0] === READY_FOR_QUERY) return Buffer.concat([frame, chunk.subarray(at)]);
      if (frame[0] === COPY_DATA) this.#sink.data(frame, frame.length - HEADER_BYTES);
      else this.#sink.other(frame);
    }

    let runStart = at;
    let runFrames = 0;
    const passRun = () => {
      if (runFrames === 0) return;
      this.#sink.data(chunk.subarray(runStart, at), at - runStart - runFrames * HEADER_BYTES);
      runFrames = 0;
    };
    while (chunk.length - at >= HEADER_BYTES) {
      const end = at + frameBytes(chunk, at);
      if (end > chunk.length) break;
      if (chunk[at] === COPY_DATA) runFrames += 1;
      else {
        passRun();
        if (chunk[at] === READY_FOR_QUERY) return chunk.subarray(at);
        this.#sink.other(chunk.subarray(at, end));
        runStart = end;
      }
      at = end;
    }
    passRun();
    if (at < chunk.length) this.#keep(chunk.subarray(at));
    return undefined;
  }

  /** Adds to the kept beginning what it lacks, as far as the chunk has it; returns how much of the chunk that is. */
  #complete(chunk: Buffer): number {
    let at = 0;
    if (this.#keptBytes < HEADER_BYTES) {
      at = Math.min(HEADER_BYTES - this.#keptBytes, chunk.length);
      this.#keep(chunk.subarray(0, at));
      // In one piece, so that the length can be read.
      this.#kept = [Buffer.concat(this.#kept)];
      if (this.#keptBytes < HEADER_BYTES) return at;
    }
    const end = Math.min(at + this.#missingBytes(), chunk.length);
    if (end > at) this.#keep(chunk.subarray(at, end));
    return end;
  }

  #takeWhole(): Buffer | undefined {
    if (this.#keptBytes < HEADER_BYTES || this.#missingBytes() > 0) return undefined;
    const frame = Buffer.concat(this.#kept, this.#keptBytes);
    this.#kept = [];
    this.#keptBytes = 0;
    return frame;
  }

  #missingBytes(): number {
    return frameBytes(this.#kept[0] as Buffer, 0) - this.#keptBytes;
  }

  #keep(bytes: Buffer): void {
    this.#kept.push(bytes);
    this.#keptBytes += bytes.length;
  }
}

/** How long the frame is that begins there, header included. */
function frameBytes(bytes: Buffer, at: number): number {
  const length = bytes.readUInt32BE(at + 1);
  if (!TYPES.has(bytes[at] as number) || length < 4) {
    throw new ProtocolError('the server sent something else than the answer to COPY');
  }
  return 1 + length;
}
