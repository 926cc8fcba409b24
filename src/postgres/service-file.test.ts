import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { readService, serviceOf } from './service-file.ts';

describe('serviceOf', () => {
  it('reads the section of that name only, and the first of two values', () => {
    const text =
      '# x\n[other]\nhost=o\n\n [mydb] \n  host=somehost\r\nport=5433\nport=1\n#user=x\npassword=a = b\n[third]\nuser=t\n';
    expect(serviceOf(text, 'mydb', 'f')).toEqual({
      host: 'somehost',
      port: '5433',
      password: 'a = b',
    });
    expect(serviceOf(text, 'my', 'f')).toBeUndefined();
  });

  test.each([
    ['[s]\nhost', 'syntax error in service file "f", line 2'],
    ['[s]\n\nhots=x', 'syntax error in service file "f", line 3'],
    ['[s]\nservice=x', 'nested service specifications not supported in service file "f", line 2'],
    ['[s]\nldap://x', 'LDAP lookup is not supported in service file "f", line 2'],
  ])('refuses %j', (text, message) => {
    expect(() => serviceOf(text, 's', 'f')).toThrow(expect.objectContaining({ message }) as Error);
  });

  it('does not care for what is wrong in another section', () => {
    expect(serviceOf('nonsense\n[a]\nnonsense\n[s]\nuser=u', 's', 'f')).toEqual({ user: 'u' });
  });
});

describe('readService', () => {
  const dir = mkdtempSync(join(tmpdir(), 'bdr-service-'));
  const files = {
    userFile: join(dir, 'user'),
    userFileNamed: false,
    systemFile: join(dir, 'system'),
  };
  writeFileSync(files.userFile, '[a]\nuser=mine\n');
  writeFileSync(files.systemFile, '[a]\nuser=theirs\n[b]\nuser=theirs\n');

  it("takes the user's definition before the system's", () => {
    expect(readService('a', files)).toEqual({ user: 'mine' });
    expect(readService('b', files)).toEqual({ user: 'theirs' });
  });

  it('says which service or file is not there', () => {
    expect(() => readService('c', files)).toThrow('definition of service "c" not found');
    const named = { ...files, userFile: '/nonexistent/f', userFileNamed: true };
    expect(() => readService('b', named)).toThrow('service file "/nonexistent/f" not found');
  });
});
