import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Binaries } from './binaries.ts';
import { placeExtension, replaceFile } from './extension.ts';

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-extension-'));
  mkdirSync(path.join(dir, 'files'));
  writeFileSync(path.join(dir, 'files', 'x.control'), 'one');
  writeFileSync(path.join(dir, 'files', 'x--1.sql'), 'select 1;');
  writeFileSync(path.join(dir, 'files', 'README'), '');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('18 gets the files in a directory of its own, and a setting that names it', () => {
  const settings = placeExtension(binaries(18), path.join(dir, 'files'), path.join(dir, 'own'));
  expect(settings).toEqual({
    extension_control_path: `${path.join(dir, 'own')}${path.delimiter}$system`,
  });
  expect(readFileSync(path.join(dir, 'own/extension/x.control'), 'utf8')).toBe('one');
  expect(existsSync(path.join(dir, 'own/extension/README'))).toBe(false);
  expect(existsSync(path.join(dir, 'share'))).toBe(false);
});

test('older servers get them in the installation, rewritten only when they differ', () => {
  const place = () => placeExtension(binaries(17), path.join(dir, 'files'), path.join(dir, 'own'));
  const control = path.join(dir, 'share/extension/x.control');
  expect(place()).toEqual({});
  const made = lstatSync(control).ino;
  place();
  expect(lstatSync(control).ino).toBe(made);
  writeFileSync(path.join(dir, 'files', 'x.control'), 'two');
  place();
  expect(readFileSync(control, 'utf8')).toBe('two');
});

test('a link in the place of a file is replaced, what it points to stays', () => {
  writeFileSync(path.join(dir, 'precious'), 'keep');
  symlinkSync('precious', path.join(dir, 'server.conf'));
  replaceFile(path.join(dir, 'server.conf'), 'new', 0o644);
  expect(readFileSync(path.join(dir, 'precious'), 'utf8')).toBe('keep');
  expect(readFileSync(path.join(dir, 'server.conf'), 'utf8')).toBe('new');
});

function binaries(major: number): Binaries {
  const places = { nativeDir: dir, binDir: dir, libDir: dir, shareDir: path.join(dir, 'share') };
  return { major, version: `${major}.0`, packageVersion: `${major}.0.0`, ...places };
}
