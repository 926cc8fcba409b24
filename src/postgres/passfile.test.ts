import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { passwordOf, readPassword } from './passfile.ts';

const request = { hosts: ['h'], port: 5432, database: 'd', user: 'u' };

describe('passwordOf', () => {
  test.each<[string, string | undefined]>([
    ['h:5432:d:u:pw', 'pw'],
    ['*:*:*:*:pw', 'pw'],
    ['h:5432:d:u:pw\r\n', 'pw'],
    ['#h:5432:d:u:no\n\nh:5432:d:u:pw\nh:5432:d:u:later', 'pw'],
    ['x:5432:d:u:no\nh:1:d:u:no\nh:5432:x:u:no\nh:5432:d:x:no\nh:*:d:u:pw', 'pw'],
    [String.raw`h:5432:d:u:a\:b\\c:d\e`, String.raw`a:b\c:de`],
    ['h:5432:d:u: spaced # pw ', ' spaced # pw '],
    ['h:5432:d:u:', ''],
    ['h:5432:d:u', undefined],
    ['h*:5432:d:u:pw', undefined],
    [String.raw`\*:5432:d:u:pw`, undefined],
    ['', undefined],
  ])('reads %j', (text, password) => {
    expect(passwordOf(text, request)).toBe(password);
  });

  it('reads back any values that were escaped', () => {
    const value = fc
      .string({ unit: 'grapheme', minLength: 1 })
      .filter((text) => !/[\r\n\0]/.test(text));
    const escape = (text: string) => text.replace(/[:\\]/g, String.raw`\$&`);
    fc.assert(
      fc.property(value, value, value, value, (host, database, user, password) => {
        fc.pre(!host.startsWith('#') && ![host, database, user].includes('*'));
        const line = [host, '1', database, user, password].map(escape).join(':');
        expect(passwordOf(line, { hosts: [host], port: 1, database, user })).toBe(password);
      }),
    );
  });
});

describe('readPassword', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'bdr-passfile-')), 'pgpass');
  const warningsOf = (path: string) => {
    const warnings: string[] = [];
    return { password: readPassword(path, request, (text) => warnings.push(text)), warnings };
  };

  it('refuses a file that others may read, with a warning', () => {
    writeFileSync(file, 'h:5432:d:u:pw', { mode: 0o600 });
    expect(warningsOf(file)).toEqual({ password: 'pw', warnings: [] });
    chmodSync(file, 0o640);
    expect(warningsOf(file)).toEqual({
      password: undefined,
      warnings: [
        `password file "${file}" has group or world access; permissions should be u=rw (0600) or less`,
      ],
    });
  });

  it('passes over a file that is not there, and warns of one that is no file', () => {
    expect(warningsOf('/nonexistent/pgpass')).toEqual({ password: undefined, warnings: [] });
    expect(warningsOf(tmpdir()).warnings).toEqual([
      `password file "${tmpdir()}" is not a plain file`,
    ]);
  });
});
