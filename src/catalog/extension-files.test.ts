import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { copyExtensionFiles } from './extension-files.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-files-'));
  mkdirSync(path.join(dir, 'from'));
  writeFileSync(path.join(dir, 'from', 'bdr.control'), 'new');
  writeFileSync(path.join(dir, 'from', 'bdr--1.0.sql'), 'sql');
  writeFileSync(path.join(dir, 'from', 'README'), 'not this');
});
afterEach(() => rmSync(dir, { recursive: true }));

test('copies control and script, over older ones, readable to everybody', () => {
  const target = path.join(dir, 'share', 'extension');
  mkdirSync(target, { recursive: true });
  writeFileSync(path.join(target, 'bdr.control'), 'old', { mode: 0o600 });
  const written = copyExtensionFiles(path.join(dir, 'from'), path.join(dir, 'share'));
  expect(written.toSorted()).toEqual([
    path.join(target, 'bdr--1.0.sql'),
    path.join(target, 'bdr.control'),
  ]);
  expect(readdirSync(target).toSorted()).toEqual(['bdr--1.0.sql', 'bdr.control']);
  expect(readFileSync(path.join(target, 'bdr.control'), 'utf8')).toBe('new');
  expect(statSync(path.join(target, 'bdr.control')).mode & 0o777).toBe(0o644);
});

test('a directory that is no share directory is an error with a way out', () => {
  expect(() => copyExtensionFiles(path.join(dir, 'from'), path.join(dir, 'nowhere'))).toThrow(
    expect.objectContaining({
      code: 'install_failed',
      hint: expect.stringContaining('pg_config --sharedir') as string,
    }),
  );
});
