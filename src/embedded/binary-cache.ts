import { lstatSync, statSync } from 'node:fs';
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readlink,
  rename,
  rm,
  symlink,
} from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { BdrError } from '../base/errors.ts';
import { allows, blockingDirectory } from './account.ts';
import type { Account } from './account.ts';
import { platformName, programPath, relocate } from './binaries.ts';
import type { Binaries } from './binaries.ts';

/**
 * Binaries that the account can run: these, or a copy of them where it cannot reach these, because root's checkout lies below
 * a directory that only root may pass (/root, a fresh mktemp -d) or was installed with a strict umask.
 */
export async function reachableBinaries(
  binaries: Binaries,
  account: Account | undefined,
): Promise<Binaries> {
  if (!account || isReachable(binaries, account)) return binaries;
  const name = `pg-bdr-binaries-${binaries.packageVersion}-${platformName()}`;
  return cachedCopy(binaries, path.join(publicDirectory(account), name));
}

/** Whether the account may run the programs and read their files, by a sample of each kind. */
export function isReachable(binaries: Binaries, account: Account): boolean {
  const { binDir, libDir, shareDir } = binaries;
  if ([binDir, libDir, shareDir].some((dir) => blockingDirectory(dir, account))) return false;
  return (
    allows(statSync(programPath(binaries, 'postgres')), account, 5) &&
    allows(statSync(path.join(shareDir, 'postgres.bki')), account, 4)
  );
}

/**
 * The copy at `target`, made now if it is not there. The place is known and public, so a copy found there counts only if
 * nobody but us can have written it; otherwise a directory of our own with another name is used.
 */
export async function cachedCopy(binaries: Binaries, target: string): Promise<Binaries> {
  const copy = relocate(binaries, target);
  const isGood = async () => isTrusted(target) && (await isComplete(binaries.nativeDir, target));
  if (await isGood()) return copy;
  const fresh = await mkdtemp(`${target}-`);
  await copyTree(binaries.nativeDir, fresh);
  // Ours, but incomplete: a cleaner of old temporary files has been here.
  if (isTrusted(target) && !(await isGood())) await rm(target, { recursive: true, force: true });
  try {
    await rename(fresh, target);
    return copy;
  } catch {
    // Somebody has put something there: another process of ours was quicker, or it is not ours at all.
    if (!(await isGood())) return relocate(binaries, fresh);
    await rm(fresh, { recursive: true, force: true });
    return copy;
  }
}

/** Whether `dir` is a real directory that belongs to us and that nobody else may write to. */
export function isTrusted(dir: string): boolean {
  const stats = lstatSync(dir, { throwIfNoEntry: false });
  return (
    stats !== undefined &&
    stats.isDirectory() &&
    stats.uid === process.getuid?.() &&
    (stats.mode & 0o022) === 0
  );
}

function publicDirectory(account: Account): string {
  const tried = [...new Set([os.tmpdir(), '/tmp', '/var/tmp'])];
  const dir = tried.find((candidate) => {
    const stats = statSync(candidate, { throwIfNoEntry: false });
    // In a directory open to all and not sticky, anybody could put their own programs in place of ours.
    const safe = stats && ((stats.mode & 0o002) === 0 || (stats.mode & 0o1000) !== 0);
    return safe && blockingDirectory(candidate, account) === undefined;
  });
  if (dir !== undefined) return dir;
  throw new BdrError('no_embedded_server', {
    message: `the user ${account.name} cannot reach the PostgreSQL programs, and there is no place for a copy`,
    detail: `Not usable for it: ${tried.join(', ')}.`,
    hint: 'Set TMPDIR to a directory that every user may enter, or install in such a place.',
  });
}

async function copyTree(source: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  for (const entry of await readdir(source, { withFileTypes: true })) {
    const from = path.join(source, entry.name);
    const to = path.join(target, entry.name);
    if (entry.isDirectory()) await copyTree(from, to);
    else if (entry.isSymbolicLink()) await symlink(await readlink(from), to);
    else {
      await copyFile(from, to);
      await chmod(to, (lstatSync(from).mode & 0o100) === 0 ? 0o644 : 0o755);
    }
  }
  await chmod(target, 0o755);
}

async function isComplete(source: string, copy: string): Promise<boolean> {
  for (const entry of await readdir(source, { withFileTypes: true })) {
    const from = path.join(source, entry.name);
    const to = path.join(copy, entry.name);
    const found = lstatSync(to, { throwIfNoEntry: false });
    if (!found) return false;
    if (entry.isDirectory() && !(await isComplete(from, to))) return false;
  }
  return true;
}
