import type { JoinProgress } from '../catalog/nodes.ts';

/** Counts what a copy has moved, and tells it now and then, with the time that is left at the speed so far. */
export class CopyProgress {
  readonly #totalBytes: number;
  readonly #tables: number;
  readonly #tell: (progress: JoinProgress) => Promise<void>;
  readonly #now: () => number;
  readonly #startedAt: number;
  #toldAt = -Infinity;
  #telling: Promise<void> = Promise.resolve();
  #bytes = 0;
  #rows = 0;
  #tablesDone = 0;

  /** `totalBytes` is the tables' size on disk: a guess at what will travel. `now` counts milliseconds. */
  constructor(options: {
    totalBytes: number;
    tables: number;
    tell: (progress: JoinProgress) => Promise<void>;
    now: () => number;
  }) {
    this.#totalBytes = options.totalBytes;
    this.#tables = options.tables;
    this.#tell = options.tell;
    this.#now = options.now;
    this.#startedAt = options.now();
  }

  moved(bytes: number): void {
    this.#bytes += bytes;
    this.#maybeTell();
  }

  /** A table or a piece of one has been copied; the last piece ends its table. */
  rowsDone(rows: number, endsTable: boolean): void {
    this.#rows += rows;
    if (endsTable) this.#tablesDone += 1;
    this.#maybeTell();
  }

  /** Tells the end, after all that was still being told. */
  async finish(): Promise<void> {
    await this.#telling;
    await this.#tell(this.#progress());
  }

  #maybeTell(): void {
    if (this.#now() - this.#toldAt < 1000) return;
    this.#toldAt = this.#now();
    const progress = this.#progress();
    // A failure to tell is seen by finish().
    this.#telling = this.#telling.then(() => this.#tell(progress));
    this.#telling.catch(() => undefined);
  }

  #progress(): JoinProgress {
    const done = this.#tablesDone === this.#tables;
    const percent = done
      ? 100
      : Math.min(99, Math.floor((this.#bytes / Math.max(this.#totalBytes, 1)) * 100));
    const elapsedS = (this.#now() - this.#startedAt) / 1000;
    const secondsLeft = done
      ? 0
      : percent > 0
        ? Math.round((elapsedS * (100 - percent)) / percent)
        : null;
    const left = secondsLeft === null ? 'time left unknown' : `${secondsLeft} s left`;
    return {
      text: `${this.#tablesDone} of ${this.#tables} tables, ${this.#rows} rows, ${megabytes(this.#bytes)}, ${percent} %, ${left}`,
      rows: this.#rows,
      bytes: this.#bytes,
      percent,
      secondsLeft,
    };
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
