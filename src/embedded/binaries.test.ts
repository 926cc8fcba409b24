import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { BdrError } from '../base/errors.ts';
import { embeddedMajors, findBinaries, hydrateLinks, programPath, relocate } from './binaries.ts';

test('a platform without programs is named, with the way that is left', () => {
  expect(embeddedMajors('plan9-mips')).toEqual([]);
  const failure = catchError(() => findBinaries(18, 'plan9-mips'));
  expect(failure.code).toBe('no_embedded_server');
  expect(failure.message).toContain('plan9-mips');
  expect(failure.hint).toContain('--dsn');
});

test.skipIf(embeddedMajors().length === 0)('a major that is not installed is told apart', () => {
  const failure = catchError(() => findBinaries(9));
  expect(failure.code).toBe('no_embedded_server');
  expect(failure.message).toContain('PostgreSQL 9');
  expect(failure.detail).toContain(embeddedMajors().join(', ').slice(-2));
});

test.skipIf(embeddedMajors().length === 0)('every installed major has its programs', () => {
  for (const major of embeddedMajors()) {
    const binaries = findBinaries(major);
    expect(binaries.version).toMatch(new RegExp(`^${major}\\.\\d+$`));
    for (const name of ['initdb', 'pg_ctl', 'postgres'] as const) {
      expect(existsSync(programPath(binaries, name))).toBe(true);
    }
    expect(existsSync(path.join(binaries.shareDir, 'postgres.bki'))).toBe(true);
    expect(relocate(binaries, '/x').shareDir).toBe('/x/share/postgresql');
  }
});

test('missing links between libraries are made, relative, and those there are left alone', () => {
  const root = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-links-'));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  const lib = path.join(root, 'native', 'lib');
  mkdirSync(lib, { recursive: true });
  writeFileSync(path.join(lib, 'liba.so.1.2'), '');
  writeFileSync(path.join(lib, 'libb.so'), 'a file');
  const links = ['liba.so', 'liba.so.1', 'libb.so'].map((name) => ({
    source: 'native/lib/liba.so.1.2',
    target: `native/lib/${name}`,
  }));
  writeFileSync(path.join(root, 'native', 'pg-symlinks.json'), JSON.stringify(links));

  hydrateLinks(path.join(root, 'native'));
  hydrateLinks(path.join(root, 'native'));
  expect(readlinkSync(path.join(lib, 'liba.so'))).toBe('liba.so.1.2');
  expect(readlinkSync(path.join(lib, 'liba.so.1'))).toBe('liba.so.1.2');
  expect(lstatSync(path.join(lib, 'libb.so')).isFile()).toBe(true);
});

function catchError(action: () => unknown): BdrError {
  try {
    action();
  } catch (error) {
    if (error instanceof BdrError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}
