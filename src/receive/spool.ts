import { randomUUID } from 'node:crypto';
import { open, unlink, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { copyBytes, viewOf, Views } from '../base/copy-bytes.ts';
import { BdrError, messageOf } from '../base/errors.ts';

/** Written at once: also what a spool keeps in memory at most that is never written, because it stays small. */
const BLOCK_BYTES = 128 * 1024;
/** So much may wait for the disk. */
const MOST_UNWRITTEN_BYTES = 1024 * 1024;
const READ_BYTES = 256 * 1024;
const LENGTH_BYTES = 4;

/** Records of a spool, as places in one buffer, which is never used again: views of it stay valid. */
export interface SpooledBatch {
  readonly buffer: Buffer;
  /** Where each record begins and ends, by turns. */
  readonly bounds: readonly number[];
  /** Where the buffer begins in the spool. */
  readonly position: number;
}

/**
 * Keeps records in a file, in order, until they are read. What is small never leaves memory.
 *
 * The file is made when it is first needed, readable by this process's user only, and its name is taken away at once: it ends
 * with the process, however that ends. Throws BdrError `spool_failed` when the disk is full, or the directory cannot be used.
 */
export class Spool implements AsyncDisposable {
  readonly #directory: string;
  #file: FileHandle | undefined;
  /** What has not been handed to the disk yet. */
  #block = Buffer.allocUnsafe(BLOCK_BYTES);
  #view = viewOf(this.#block);
  readonly #sources = new Views();
  #filled = 0;
  /** How much was handed to the disk. */
  #sent = 0;
  /** How much of that the disk has not taken yet. */
  #unwritten = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Where the next record will begin. */
  get position(): number {
    return this.#sent + this.#filled;
  }

  /** Adds a record: the bytes of `buffer` from `start` to `end`. Call `room` now and then. */
  append(buffer: Buffer, start: number, end: number): void {
    const bytes = LENGTH_BYTES + end - start;
    if (this.#filled + bytes > this.#block.length) this.#send(Math.max(bytes, BLOCK_BYTES));
    this.#view.setUint32(this.#filled, end - start);
    const source = this.#sources.of(buffer);
    copyBytes(source, start, end, this.#view, this.#filled + LENGTH_BYTES);
    this.#filled += bytes;
  }

  /** Resolves when the disk has taken enough of what was added. */
  async room(): Promise<void> {
    if (this.#unwritten > MOST_UNWRITTEN_BYTES) await this.#writing;
  }

  /** All records, in the order in which they were added. */
  async *read(): AsyncGenerator<SpooledBatch, void, void> {
    await this.#writing;
    let rest: Buffer = Buffer.alloc(0);
    let wanted = READ_BYTES;
    for (let position = 0; position < this.#sent;) {
      const end = Math.min(this.#sent, position + Math.max(wanted - rest.length, READ_BYTES));
      const buffer = Buffer.concat([rest, await this.#read(position, end)]);
      const start = position - rest.length;
      const bounds: number[] = [];
      const next = boundsOf(buffer, bounds);
      rest = buffer.subarray(next);
      // A record may be larger than what is read at once.
      wanted = rest.length < LENGTH_BYTES ? LENGTH_BYTES : LENGTH_BYTES + rest.readUInt32BE(0);
      position = end;
      if (bounds.length > 0) yield { buffer, bounds, position: start };
    }
    if (this.#filled === 0) return;
    const buffer = this.#block.subarray(0, this.#filled);
    const bounds: number[] = [];
    boundsOf(buffer, bounds);
    yield { buffer, bounds, position: this.#sent };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#file?.close().catch(() => undefined);
  }

  /** Hands the block to the disk and begins another. */
  #send(nextBytes: number): void {
    const block = this.#block.subarray(0, this.#filled);
    const at = this.#sent;
    this.#block = Buffer.allocUnsafe(nextBytes);
    this.#view = viewOf(this.#block);
    this.#filled = 0;
    if (block.length === 0) return;
    this.#sent += block.length;
    this.#unwritten += block.length;
    this.#writing = this.#writing.then(() => this.#write(block, at));
    // A failure is seen by who waits next.
    this.#writing.catch(() => undefined);
  }

  async #write(block: Buffer, at: number): Promise<void> {
    try {
      this.#file ??= await this.#create();
      for (let done = 0; done < block.length;) {
        const { bytesWritten } = await this.#file.write(
          block,
          done,
          block.length - done,
          at + done,
        );
        done += bytesWritten;
      }
    } catch (error) {
      throw this.#failure(error);
    }
    this.#unwritten -= block.length;
  }

  async #create(): Promise<FileHandle> {
    const name = path.join(this.#directory, `bdr-spool-${randomUUID()}`);
    const file = await open(name, 'wx+', 0o600);
    await unlink(name);
    return file;
  }

  async #read(from: number, to: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(to - from);
    try {
      for (let done = 0; done < buffer.length;) {
        const file = this.#file as FileHandle;
        const { bytesRead } = await file.read(buffer, done, buffer.length - done, from + done);
        if (bytesRead === 0) throw new Error('the file is shorter than what was written');
        done += bytesRead;
      }
    } catch (error) {
      throw this.#failure(error);
    }
    return buffer;
  }

  #failure(error: unknown): BdrError {
    return new BdrError('spool_failed', {
      message: `changes of a large transaction could not be kept in ${this.#directory}: ${messageOf(error)}`,
      detail: 'They are kept on the disk of the agent until the transaction ends.',
      hint: 'Make room there, or start the agent with TMPDIR set to a directory that has some. Nothing is lost; the link goes on by itself.',
      cause: error,
    });
  }
}

/** Adds where each whole record in `buffer` begins and ends; returns where the first begins that is not whole. */
function boundsOf(buffer: Buffer, bounds: number[]): number {
  let at = 0;
  while (buffer.length - at >= LENGTH_BYTES) {
    const from = at + LENGTH_BYTES;
    const to = from + buffer.readUInt32BE(at);
    if (to > buffer.length) break;
    bounds.push(from, to);
    at = to;
  }
  return at;
}
