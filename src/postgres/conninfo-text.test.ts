import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import {
  describeConninfo,
  formatConninfo,
  parseConninfo,
  redactConninfo,
  UNREADABLE_CONNINFO,
  withConninfo,
} from './conninfo.ts';

describe('redactConninfo', () => {
  test.each([
    ['host=h password=secret dbname=d', 'host=h password=*** dbname=d'],
    [String.raw`password = 'a \' b'user=u`, 'password = ***user=u'],
    [String.raw`user=u password=a\ b`, 'user=u password=***'],
    [
      'sslpassword=x oauth_client_secret=y scram_client_key=z',
      'sslpassword=*** oauth_client_secret=*** scram_client_key=***',
    ],
    [
      'postgres://u:secret@h:1/d?sslpassword=x&user=y',
      'postgres://u:***@h:1/d?sslpassword=***&user=y',
    ],
    ['postgres://u@h/d', 'postgres://u@h/d'],
    ['dbname=postgres://u:secret@h/d', 'dbname=***'],
    ["dbname='password=secret'", 'dbname=***'],
    ['host=postgres://u:secret@h/d', 'host=***'],
    ['', ''],
  ])('%s becomes %s', (text, shown) => {
    expect(redactConninfo(text)).toBe(shown);
  });

  test.each([
    'password=two words',
    "password='secret",
    'passwd=secret',
    'postgres://u:secret@[::1',
    'postgres://u:sec/ret@h/d',
    'postgres://u:12/sec@h/d',
    'postgres://u:se@cret@h/d',
    'postgres://u:secret@h/d?nonsense',
    'mysql://u:secret@h/d',
    'host=h\0password=secret',
  ])('%s shows nothing at all', (text) => {
    expect(redactConninfo(text)).toBe(UNREADABLE_CONNINFO);
    expect(describeConninfo(text)).toBe(UNREADABLE_CONNINFO);
  });

  it('never shows a password, in either form', () => {
    const secret = fc.stringMatching(/^[a-z]{3}[\x20-\x7e]{0,5}Q{6}[\x20-\x7e]{0,5}$/);
    fc.assert(
      fc.property(secret, (password) => {
        const texts = [
          formatConninfo({ host: 'h', password, user: 'u' }),
          `postgres://u:${encodeURIComponent(password)}@h/d`,
          // What people write who do not know how to quote.
          `host=h password=${password} user=u`,
          `postgres://u:${password}@h/d`,
        ];
        for (const text of texts) expect(redactConninfo(text)).not.toContain('QQQQQQ');
      }),
      { numRuns: 500 },
    );
  });
});

describe('withConninfo', () => {
  it('replaces, adds and leaves out keywords', () => {
    const text = 'postgres://u:p%27w@h:1/old?application_name=x';
    expect(
      withConninfo(text, { dbname: 'my db', sslmode: 'require', application_name: undefined }),
    ).toBe(
      String.raw`user=u password=p\'w dbname='my db' host=h port=1 sslmode=require`.replace(
        String.raw`p\'w`,
        String.raw`'p\'w'`,
      ),
    );
  });

  it('keeps an empty value', () => {
    expect(parseConninfo(withConninfo("host='' user=u", {}))).toEqual({ host: '', user: 'u' });
  });

  test.each([{ databse: 'x' }, { dbname: 'a\0b' }])('refuses %j', (overrides) => {
    expect(() => withConninfo('host=h', overrides)).toThrow(
      expect.objectContaining({ code: 'invalid_dsn' }) as Error,
    );
  });
});

describe('describeConninfo', () => {
  test.each([
    ['host=h port=1 dbname=d user=u password=p', 'h:1/d as u'],
    ['postgres://u:p@a:1,b/d', 'a:1,b:5432/d as u'],
    ['host=::1 user=u', '[::1]:5432 as u'],
    ['host=/tmp', '/tmp:5432'],
    ['service=main', 'service main'],
    ['dbname=postgres://u:p@h/d', 'localhost:5432/***'],
    ['', 'localhost:5432'],
  ])('of %j says %j', (text, described) => {
    expect(describeConninfo(text)).toBe(described);
  });
});
