import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { BdrError, messageOf } from '../base/errors.ts';
import type { Binaries } from './binaries.ts';
import type { ServerSettings } from './conf.ts';

/**
 * Puts an extension's files (`x.control`, `x--….sql`) where `CREATE EXTENSION` of a server finds them, and returns the
 * settings that this takes.
 *
 * PostgreSQL 18 looks into directories of our choice: the files go below `ownDir`, which must be readable to the server's
 * account. Older servers look only into the installation, which all servers made from these binaries share.
 */
export function placeExtension(
  binaries: Binaries,
  filesDir: string,
  ownDir: string,
): ServerSettings {
  const names = readdirSync(filesDir).filter((name) => /\.(control|sql)$/.test(name));
  if (binaries.major < 18) {
    copyFiles(filesDir, names, path.join(binaries.shareDir, 'extension'));
    return {};
  }
  // The server appends "extension" to each directory of the path itself.
  copyFiles(filesDir, names, path.join(ownDir, 'extension'));
  return { extension_control_path: `${ownDir}${path.delimiter}$system` };
}

function copyFiles(sourceDir: string, names: readonly string[], targetDir: string): void {
  try {
    makePublicDirectory(targetDir);
    for (const name of names) {
      const content = readFileSync(path.join(sourceDir, name));
      const target = path.join(targetDir, name);
      if (!holds(target, content)) replaceFile(target, content, 0o644);
    }
  } catch (error) {
    throw new BdrError('no_embedded_server', {
      message: `the extension's files cannot be copied to ${targetDir}: ${messageOf(error)}`,
      hint: 'The directory must be writable; with a server of your own, use "bdr install --dsn …" instead.',
      cause: error,
    });
  }
}

/** A directory that the server's account can enter, whatever the umask; parents are made likewise. */
export function makePublicDirectory(dir: string): void {
  if (existsSync(dir)) return;
  makePublicDirectory(path.dirname(dir));
  mkdirSync(dir);
  chmodSync(dir, 0o755);
}

/** Writes a file so that no reader ever sees half of it, and so that a link in its place is replaced, not followed. */
export function replaceFile(target: string, content: string | Uint8Array, mode: number): void {
  const temporary = `${target}.${process.pid}.tmp`;
  rmSync(temporary, { force: true });
  writeFileSync(temporary, content, { flag: 'wx', mode });
  chmodSync(temporary, mode); // whatever the umask
  renameSync(temporary, target);
}

function holds(file: string, content: Buffer): boolean {
  try {
    return readFileSync(file).equals(content);
  } catch {
    return false;
  }
}
