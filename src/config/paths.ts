import { existsSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';

/** A path beside this file: the same places are looked for from dist/, as it is shipped, and from the sources, as tests run them. */
function beside(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}

/** The SQL of schema bdr: folders `migrations` and `routines`. */
export function sqlDir(): string {
  const built = beside('../sql');
  return existsSync(built) ? built : beside('../../sql');
}

/** The two files of extension bdr, which the build makes. */
export function extensionDir(): string {
  const built = beside('../extension');
  return existsSync(built) ? built : beside('../../dist/extension');
}

/** For files that end with the process: `TMPDIR` or what the system says. */
export function temporaryDir(): string {
  return tmpdir();
}

/** The version of this program, from package.json. */
export function packageVersion(): string {
  const manifest = JSON.parse(readFileSync(beside('../../package.json'), 'utf8')) as {
    version: string;
  };
  return manifest.version;
}
