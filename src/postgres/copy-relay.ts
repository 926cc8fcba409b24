import type { Duplex } from 'node:stream';
import type pg from 'pg';
import { must } from '../base/assert.ts';
import { CopyFrames } from './copy-frames.ts';
import { DriverQuery } from './driver-query.ts';
import type { Session } from './session.ts';

export interface CopyRelayOptions {
  /** Called as data passes. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Runs a COPY … TO STDOUT on one session and a COPY … FROM STDIN on another, which gets the first one's data. Returns how many
 * rows the target took.
 *
 * The frames that one server sends are those that the other takes, so they go from socket to socket as they are; the driver hears
 * of all the rest. The source is read no faster than the target takes.
 *
 * Whatever goes wrong, the target's COPY is ended: its session goes on, with a rollback say, and so does the source's after an
 * error of its own. A source whose data nobody takes any more, because the target failed or `signal` was aborted, is
 * disconnected: nothing else ends a COPY … TO before its last row.
 */
export async function relayCopy(
  source: Session,
  sourceSql: string,
  target: Session,
  targetSql: string,
  { onBytes, signal }: CopyRelayOptions,
): Promise<number> {
  signal.throwIfAborted();
  // A COPY that has begun on the target, and gets neither data nor an end, would hold its session for ever.
  source.lost.throwIfAborted();
  const giveUp = () => source.abort();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    const feed = new CopyFeed(targetSql, giveUp);
    target.submit(feed as unknown as pg.Submittable);
    await feed.opened;
    try {
      await drain(source, sourceSql, feed, onBytes);
    } catch (error) {
      // Where the target failed by itself, that is why the source was given up.
      const isOurs = feed.fail();
      await feed.finished.catch((failure: unknown) => {
        if (!isOurs) throw failure;
      });
      throw source.lost.aborted ? source.lost.reason : error;
    }
    feed.end();
    return await feed.finished;
  } catch (error) {
    signal.throwIfAborted();
    target.lost.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

/** Runs a COPY … TO STDOUT whose data goes to `feed`. */
function drain(
  source: Session,
  sql: string,
  feed: CopyFeed,
  onBytes: ((bytes: number) => void) | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const query = new CopyDrain(sql, feed, onBytes, (error) => (error ? reject(error) : resolve()));
    source.submit(query as unknown as pg.Submittable);
  });
}

/** The driver's own query, whose data is taken from the socket before the driver sees it. */
class CopyDrain extends DriverQuery {
  readonly #feed: CopyFeed;
  readonly #onBytes: ((bytes: number) => void) | undefined;

  constructor(
    text: string,
    feed: CopyFeed,
    onBytes: ((bytes: number) => void) | undefined,
    callback: (error: Error | null) => void,
  ) {
    super(text, undefined, callback);
    this.#feed = feed;
    this.#onBytes = onBytes;
  }

  /** The driver calls this when all answers before were read: so what comes next begins with a frame. */
  override submit(connection: pg.Connection): void {
    const stream: Duplex = connection.stream;
    const listeners = stream.listeners('data') as ((bytes: Buffer) => void)[];
    const toDriver = (bytes: Buffer) => {
      for (const listener of listeners) listener.call(stream, bytes);
    };
    const frames = new CopyFrames({
      data: (run, payloadBytes) => {
        this.#onBytes?.(payloadBytes);
        if (this.#feed.write(run)) return;
        stream.pause();
        this.#feed.onceDrained(() => stream.resume());
      },
      other: toDriver,
    });
    const onData = (chunk: Buffer) => {
      let rest: Buffer | undefined;
      try {
        rest = frames.push(chunk);
      } catch (error) {
        stream.destroy(error as Error);
        return;
      }
      if (!rest) return;
      // The driver may begin its next query with that.
      stream.off('data', onData);
      for (const listener of listeners) stream.on('data', listener);
      toDriver(rest);
    };
    stream.removeAllListeners('data');
    stream.on('data', onData);
    super.submit(connection);
  }
}

/** The driver's own query for a COPY … FROM STDIN, which takes frames. */
class CopyFeed extends DriverQuery {
  /** When it takes data. */
  readonly opened: Promise<void>;
  /** How many rows it took. */
  readonly finished: Promise<number>;
  readonly #open: () => void;
  #stream: Duplex | undefined;
  #isTaking = false;

  /** `failed` is called when it ends while it still takes data. */
  constructor(text: string, failed: () => void) {
    let finish: (rows: number) => void = () => undefined;
    let refuse: (error: Error) => void = () => undefined;
    super(text, undefined, (error, result) => {
      const wasTaking = this.#isTaking;
      this.#isTaking = false;
      if (error) refuse(error);
      else finish(result?.rowCount ?? 0);
      if (wasTaking) failed();
    });
    this.finished = new Promise((resolve, reject) => {
      finish = resolve;
      refuse = reject;
    });
    this.finished.catch(() => undefined); // relayCopy() looks at it in its time
    let open: () => void = () => undefined;
    this.opened = new Promise((resolve, reject) => {
      open = resolve;
      this.finished.catch(reject);
    });
    this.#open = open;
  }

  override submit(connection: pg.Connection): void {
    this.#stream = connection.stream;
    super.submit(connection);
  }

  handleCopyInResponse(): void {
    this.#isTaking = true;
    this.#open();
  }

  /** Sends whole CopyData frames; false when the server should get time to take them, until onceDrained(). */
  write(frames: Buffer): boolean {
    // After an error the server passes over what is on its way, up to the next statement.
    return !this.#isTaking || this.#socket.write(frames);
  }

  onceDrained(drained: () => void): void {
    this.#socket.once('drain', drained);
  }

  end(): void {
    this.#stop('c', Buffer.alloc(0));
  }

  /** Makes the COPY fail; false if it had ended by itself. */
  fail(): boolean {
    return this.#stop('f', Buffer.from('the source of the data failed\0'));
  }

  #stop(type: string, payload: Buffer): boolean {
    if (!this.#isTaking) return false;
    this.#isTaking = false;
    const header = Buffer.alloc(5);
    header.write(type);
    header.writeUInt32BE(4 + payload.length, 1);
    this.#socket.write(Buffer.concat([header, payload]));
    return true;
  }

  get #socket(): Duplex {
    return must(this.#stream, 'connection of the COPY');
  }
}
