import { existsSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Debian's package libfaketime puts it there. */
const LIBRARY = 'faketime/libfaketime.so.1';

/** The library that gives a process a clock of its own; undefined where it is not installed. */
export const FAKETIME: string | undefined = existsSync('/usr/lib')
  ? ['', ...readdirSync('/usr/lib').filter((name) => name.endsWith('-linux-gnu'))]
      .map((place) => path.join('/usr/lib', place, LIBRARY))
      .find((file) => existsSync(file))
  : undefined;

/** Why tests that need it are left out, as part of their names. */
export const UNLESS_FAKETIME = FAKETIME ? '' : ' (skipped: libfaketime is not installed)';

/** A clock that a server shows instead of the machine's: so many seconds ahead of it, or behind. */
export class FakeClock implements Disposable {
  readonly #file: string;
  #seconds = 0;

  constructor(name: string) {
    this.#file = path.join(os.tmpdir(), `pg-bdr-clock-${process.pid}-${name}`);
    this.shift(0);
  }

  /** What a server is to be started with. It reads the file each time that it asks for the time. */
  get environment(): Record<string, string> {
    return {
      LD_PRELOAD: FAKETIME ?? '',
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      DONT_FAKE_MONOTONIC: '1',
      FAKETIME_DISABLE_SHM: '1',
    };
  }

  get seconds(): number {
    return this.#seconds;
  }

  /** Once no server goes by it any more. */
  [Symbol.dispose](): void {
    rmSync(this.#file, { force: true });
  }

  /** The file is replaced as a whole: nobody reads half of it. */
  shift(seconds: number): void {
    this.#seconds = seconds;
    writeFileSync(`${this.#file}.new`, `${seconds < 0 ? '' : '+'}${seconds}s\n`, { mode: 0o644 });
    renameSync(`${this.#file}.new`, this.#file);
  }
}
