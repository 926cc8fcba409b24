import { expect, test } from 'vitest';
import type { Installation } from '../catalog/installation.ts';
import { checkInstallation } from './doctor-database.ts';

const PROGRAM = { extension: '1.1', number: 10100, latestMigration: 2 };
const NOTHING: Installation = {
  kind: 'none',
  migrations: [],
  version: null,
  versionNumber: null,
  extensionVersion: null,
  availableVersion: null,
};
const PLAIN: Installation = {
  ...NOTHING,
  kind: 'plain',
  migrations: [1, 2],
  version: '1.1.0-pg-bdr',
  versionNumber: 10100,
};
const EXTENSION: Installation = { ...PLAIN, kind: 'extension', extensionVersion: '1.1' };

const check = (found: Installation) => checkInstallation(found, PROGRAM)[0];

test('the same version is well, however it came', () => {
  expect(check(PLAIN)).toMatchObject({ level: 'ok' });
  expect(check(EXTENSION)).toMatchObject({ level: 'ok' });
});

test('where bdr is missing, the way that the server allows is shown', () => {
  expect(check(NOTHING)).toMatchObject({ level: 'warning', fix: 'bdr install --dsn "…"' });
  expect(check({ ...NOTHING, availableVersion: '1.1' })).toMatchObject({
    level: 'warning',
    fix: 'CREATE EXTENSION bdr;',
  });
});

test('an older version is upgraded in the way it came', () => {
  const older = { migrations: [1], versionNumber: 10000 };
  expect(check({ ...PLAIN, ...older })).toMatchObject({
    level: 'warning',
    fix: 'bdr install --dsn "…"',
  });
  expect(check({ ...EXTENSION, extensionVersion: '1.0' })).toMatchObject({
    level: 'warning',
    fix: 'ALTER EXTENSION bdr UPDATE;',
  });
});

test('a newer version needs a newer program', () => {
  expect(check({ ...PLAIN, migrations: [1, 2, 3] })).toMatchObject({ level: 'error' });
  expect(check({ ...PLAIN, versionNumber: 10200 })).toMatchObject({ level: 'error' });
});

test('a schema bdr of another program must go', () => {
  expect(check({ ...NOTHING, kind: 'foreign' })).toMatchObject({
    level: 'error',
    fix: 'ALTER SCHEMA bdr RENAME TO bdr_old;',
  });
  expect(check({ ...NOTHING, kind: 'foreign', extensionVersion: '1.0.7' })).toMatchObject({
    level: 'error',
    message: expect.stringContaining('extension bdr 1.0.7') as string,
  });
});
