import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Binaries } from './binaries.ts';
import { cachedCopy, isReachable, isTrusted } from './binary-cache.ts';

const stranger = { name: 'stranger', uid: 4242, gid: 4343 };
let dir: string;
let binaries: Binaries;
let target: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-cache-test-'));
  chmodSync(dir, 0o755);
  binaries = fakeBinaries(path.join(dir, 'checkout', 'native'));
  target = path.join(dir, 'cache');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('programs are out of reach below a closed directory or under a strict umask', () => {
  expect(isReachable(binaries, stranger)).toBe(true);
  chmodSync(path.join(binaries.binDir, 'postgres'), 0o700);
  expect(isReachable(binaries, stranger)).toBe(false);
  chmodSync(path.join(binaries.binDir, 'postgres'), 0o755);
  chmodSync(path.join(dir, 'checkout'), 0o700);
  expect(isReachable(binaries, stranger)).toBe(false);
});

test('the copy can be read by all and is made once', async () => {
  chmodSync(path.join(binaries.binDir, 'postgres'), 0o700);
  chmodSync(path.join(binaries.shareDir, 'postgres.bki'), 0o600);
  const copy = await cachedCopy(binaries, target);
  expect(copy.nativeDir).toBe(target);
  expect(isReachable(copy, stranger)).toBe(true);
  expect(lstatSync(path.join(copy.libDir, 'liba.so')).isSymbolicLink()).toBe(true);

  const made = lstatSync(target).ino;
  await cachedCopy(binaries, target);
  expect(lstatSync(target).ino).toBe(made);
  expect(readdirSync(dir).toSorted()).toEqual(['cache', 'checkout']);
});

test('a copy that lost files is made anew', async () => {
  await cachedCopy(binaries, target);
  rmSync(path.join(target, 'share', 'postgresql', 'postgres.bki'));
  const copy = await cachedCopy(binaries, target);
  expect(existsSync(path.join(copy.shareDir, 'postgres.bki'))).toBe(true);
  expect(readdirSync(dir).toSorted()).toEqual(['cache', 'checkout']);
});

test('two at the same time end with one whole copy', async () => {
  const [one, two] = await Promise.all([
    cachedCopy(binaries, target),
    cachedCopy(binaries, target),
  ]);
  expect([one.nativeDir, two.nativeDir]).toEqual([target, target]);
  expect(readdirSync(dir).toSorted()).toEqual(['cache', 'checkout']);
});

test('a directory that others may write to, or a link, is never run from', async () => {
  mkdirSync(path.join(target, 'bin'), { recursive: true });
  writeFileSync(path.join(target, 'bin', 'postgres'), 'a trap');
  chmodSync(target, 0o777);
  expect(isTrusted(target)).toBe(false);
  const copy = await cachedCopy(binaries, target);
  expect(copy.nativeDir).not.toBe(target);
  expect(readFileSync(path.join(copy.binDir, 'postgres'), 'utf8')).toBe('a program');
  expect(isReachable(copy, stranger)).toBe(true);

  const link = path.join(dir, 'link');
  symlinkSync(copy.nativeDir, link);
  expect(isTrusted(link)).toBe(false);
});

function fakeBinaries(nativeDir: string): Binaries {
  const shareDir = path.join(nativeDir, 'share', 'postgresql');
  const binDir = path.join(nativeDir, 'bin');
  const libDir = path.join(nativeDir, 'lib');
  for (const made of [shareDir, binDir, libDir]) mkdirSync(made, { recursive: true });
  writeFileSync(path.join(binDir, 'postgres'), 'a program', { mode: 0o755 });
  writeFileSync(path.join(shareDir, 'postgres.bki'), '');
  writeFileSync(path.join(libDir, 'liba.so.1'), '');
  symlinkSync('liba.so.1', path.join(libDir, 'liba.so'));
  const version = { major: 18, version: '18.4', packageVersion: '18.4.0' };
  return { ...version, nativeDir, binDir, libDir, shareDir };
}
