import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { allows, blockingDirectory, chooseAccount } from './account.ts';

const stranger = { name: 'stranger', uid: 4242, gid: 4343 };
let dir: string;

beforeEach(() => {
  dir = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-account-')));
  chmodSync(dir, 0o755);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('the user postgres is preferred, whatever the order of the file', () => {
  const passwd = [
    'root:x:0:0:root:/root:/bin/bash',
    'nobody:x:65534:65533:nobody:/:/usr/sbin/nologin',
    'postgres:x:101:104::/var/lib/postgresql:/bin/bash',
  ].join('\n');
  expect(chooseAccount(passwd)).toEqual({ name: 'postgres', uid: 101, gid: 104 });
});

test('nobody does where there is no postgres, and an entry of uid 0 never', () => {
  const nobody = 'nobody:x:65534:65533:nobody:/:/usr/sbin/nologin';
  expect(chooseAccount(`postgres:x:0:0::/:/bin/sh\n${nobody}\n`)).toEqual({
    name: 'nobody',
    uid: 65534,
    gid: 65533,
  });
  expect(chooseAccount('root:x:0:0:root:/root:/bin/bash\npostgres-old:x:7:7::/:/bin/sh')).toBe(
    undefined,
  );
});

test('the first class that fits decides, as in the kernel', () => {
  const mode = 0o704;
  expect(allows({ uid: 4242, gid: 0, mode }, stranger, 4)).toBe(true);
  expect(allows({ uid: 0, gid: 4343, mode }, stranger, 4)).toBe(false);
  expect(allows({ uid: 0, gid: 0, mode }, stranger, 4)).toBe(true);
  expect(allows({ uid: 0, gid: 0, mode }, stranger, 5)).toBe(false);
});

test('the outermost closed directory is named, through links too', () => {
  const closed = path.join(dir, 'closed');
  const inner = path.join(closed, 'open', 'inner');
  mkdirSync(inner, { recursive: true });
  chmodSync(path.join(closed, 'open'), 0o755);
  chmodSync(inner, 0o755);
  chmodSync(closed, 0o755);
  expect(blockingDirectory(inner, stranger)).toBe(undefined);

  chmodSync(inner, 0o700);
  expect(blockingDirectory(inner, stranger)).toBe(inner);

  chmodSync(closed, 0o700);
  const link = path.join(dir, 'link');
  symlinkSync(inner, link);
  expect(blockingDirectory(link, stranger)).toBe(closed);
});
