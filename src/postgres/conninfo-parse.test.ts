import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { allKeywords } from './conninfo-keywords.ts';
import { parseConninfo } from './conninfo-parse.ts';
import { formatConninfo } from './conninfo-text.ts';

describe('keyword/value strings', () => {
  test.each<[string, Record<string, string>]>([
    ['', {}],
    ['   ', {}],
    [
      'host=localhost port=5432 dbname=mydb connect_timeout=10',
      { host: 'localhost', port: '5432', dbname: 'mydb', connect_timeout: '10' },
    ],
    [
      'host=10.0.0.1 user=bdrsync dbname=test_db password=12345#',
      { host: '10.0.0.1', user: 'bdrsync', dbname: 'test_db', password: '12345#' },
    ],
    ["host = ''  port\t=\n'1'user=b", { host: '', port: '1', user: 'b' }],
    [String.raw`password='it\'s a \\ one'`, { password: String.raw`it's a \ one` }],
    [String.raw`password=it\'s\ one\\`, { password: String.raw`it's one\ `.trim() }],
    ['password=pw\\', { password: 'pw' }],
    ['user= host=h', { user: 'host=h' }],
    ['host=a host=b', { host: 'b' }],
    ['requiressl=1', { sslmode: 'require' }],
    ['requiressl=0', { sslmode: 'prefer' }],
    ['dbname=postgres://h/d', { dbname: 'postgres://h/d' }],
  ])('%j is read as libpq reads it', (text, values) => {
    expect(parseConninfo(text)).toEqual(values);
  });

  test.each([
    ['hots=1', 'invalid connection option "hots"'],
    ['HOST=1', 'invalid connection option "HOST"'],
    ['=x', 'invalid connection option ""'],
    ['constructor=x', 'invalid connection option "constructor"'],
    ['host', 'missing "=" after "host" in connection info string'],
    ['a b=c', 'missing "=" after "a" in connection info string'],
    ["host='a", 'unterminated quoted string in connection info string'],
    ["host='a\\", 'unterminated quoted string in connection info string'],
    [' postgres://h', 'missing "=" after "postgres://h" in connection info string'],
    ['postgre://', 'missing "=" after "postgre://" in connection info string'],
    ['host=a\0b', 'connection info string contains a null character'],
  ])('%j is refused in the words of libpq', (text, message) => {
    expect(() => parseConninfo(text)).toThrow(
      expect.objectContaining({ code: 'invalid_dsn', message }) as Error,
    );
  });

  it('reads back every value that it writes', () => {
    const names = allKeywords().map(([name]) => name);
    const value = fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0'));
    const awkward = fc.string({ unit: fc.constantFrom(' ', "'", '\\', '=', '\n', 'a', '\v') });
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom(...names), fc.oneof(value, awkward), {
          noNullPrototype: true,
        }),
        (values) => {
          expect(parseConninfo(formatConninfo(values))).toEqual(values);
        },
      ),
    );
  });

  it('never fails on any text with anything but invalid_dsn', () => {
    const piece = fc.constantFrom(
      'host',
      '=',
      ' ',
      "'",
      '\\',
      'a',
      'postgres://',
      '@',
      '[',
      ']',
      '%',
      '4',
      '?',
      '&',
      ':',
      '/',
      ',',
    );
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        try {
          parseConninfo(pieces.join(''));
        } catch (error) {
          expect(error).toMatchObject({ code: 'invalid_dsn' });
        }
      }),
    );
  });
});

describe('URIs', () => {
  // The cases of libpq's own tests, and of the manual.
  test.each<[string, Record<string, string>]>([
    [
      'postgresql://uri-user:secret@host:12345/db',
      { user: 'uri-user', password: 'secret', host: 'host', port: '12345', dbname: 'db' },
    ],
    ['postgresql://uri-user@host/db', { user: 'uri-user', host: 'host', dbname: 'db' }],
    ['postgresql://uri-user@', { user: 'uri-user' }],
    ['postgresql://host:12345/', { host: 'host', port: '12345' }],
    ['postgresql://host', { host: 'host' }],
    ['postgresql://', {}],
    ['postgres:///', {}],
    ['postgresql://?hostaddr=127.0.0.1', { hostaddr: '127.0.0.1' }],
    ['postgresql://example.com?hostaddr=63.1.2.4', { host: 'example.com', hostaddr: '63.1.2.4' }],
    ['postgresql://%68ost/', { host: 'host' }],
    [
      'postgresql://host/db?u%73er=someotheruser&port=12345',
      { host: 'host', dbname: 'db', user: 'someotheruser', port: '12345' },
    ],
    ['postgresql://host:12345?user=uri-user', { host: 'host', port: '12345', user: 'uri-user' }],
    ['postgresql://host?', { host: 'host' }],
    ['postgresql://[::1]:12345/db', { host: '::1', port: '12345', dbname: 'db' }],
    ['postgresql://[2001:db8::1234]/', { host: '2001:db8::1234' }],
    ['postgres:///db', { dbname: 'db' }],
    ['postgres://uri-user@/db', { user: 'uri-user', dbname: 'db' }],
    ['postgres://@host', { host: 'host' }],
    ['postgres://host:/', { host: 'host' }],
    ['postgres://:12345/', { port: '12345' }],
    [
      'postgres://otheruser@:12345/db?host=/path/to/socket',
      { user: 'otheruser', port: '12345', dbname: 'db', host: '/path/to/socket' },
    ],
    [
      'postgres://%2Fvar%2Flib%2Fpostgresql/dbname',
      { host: '/var/lib/postgresql', dbname: 'dbname' },
    ],
    [
      'postgresql://host1:123,host2:456/somedb?target_session_attrs=any&application_name=myapp',
      {
        host: 'host1,host2',
        port: '123,456',
        dbname: 'somedb',
        target_session_attrs: 'any',
        application_name: 'myapp',
      },
    ],
    [
      'postgresql://u:p@h1:1,h2,[::1]:3/db',
      { user: 'u', password: 'p', host: 'h1,h2,::1', port: '1,,3', dbname: 'db' },
    ],
    [
      'postgresql://user@localhost:5433/mydb?options=-c%20synchronous_commit%3Doff',
      {
        user: 'user',
        host: 'localhost',
        port: '5433',
        dbname: 'mydb',
        options: '-c synchronous_commit=off',
      },
    ],
    ['postgres://h/db?ssl=true', { host: 'h', dbname: 'db', sslmode: 'require' }],
    ['postgres://h/?user=&password=', { host: 'h', user: '', password: '' }],
    ['postgres://h/db?user=%20x', { host: 'h', dbname: 'db', user: ' x' }],
    ['postgres://h/ db ', { host: 'h', dbname: 'db' }],
    ['postgres://h#frag', { host: 'h#frag' }],
    ['postgres://u@h/%C3%A9', { user: 'u', host: 'h', dbname: 'é' }],
  ])('%s is read as libpq reads it', (text, values) => {
    expect(parseConninfo(text)).toEqual(values);
  });

  test.each([
    ['postgresql://host/db?u%7aer=x&port=1', 'invalid URI query parameter: "uzer"'],
    ['postgres://h/?ssl=false', 'invalid URI query parameter: "ssl"'],
    ['postgresql://host?zzz', 'missing key/value separator "=" in URI query parameter: "zzz"'],
    [
      'postgresql://host?key=key=value',
      'extra key/value separator "=" in URI query parameter: "key"',
    ],
    ['postgres://host?dbname=%XXfoo', 'invalid percent-encoded token: "%XXfoo"'],
    ['postgresql://a%00b', 'forbidden value %00 in percent-encoded value: "a%00b"'],
    ['postgresql://%1', 'invalid percent-encoded token: "%1"'],
    ['postgresql://%FF', 'percent-encoded value is not valid UTF-8: "%FF"'],
    [
      'postgres://h/a b',
      'unexpected spaces found in "a b", use percent-encoded spaces (%20) instead',
    ],
    [
      'postgres://[::1',
      'end of string reached when looking for matching "]" in IPv6 host address in URI: "postgres://[::1"',
    ],
    ['postgres://[]', 'IPv6 host address may not be empty in URI: "postgres://[]"'],
    [
      'postgres://[::1]z',
      'unexpected character "z" at position 17 in URI (expected ":" or "/"): "postgres://[::1]z"',
    ],
  ])('%s is refused in the words of libpq', (text, message) => {
    expect(() => parseConninfo(text)).toThrow(
      expect.objectContaining({ code: 'invalid_dsn', message }) as Error,
    );
  });

  test.each([
    'postgres://u:se%zzcret@h/',
    'postgres://u:secret@[::1]z',
    'postgres://u:secret@[',
    'postgres://h/?password=se%zzcret',
  ])('%s is refused without its password in the message', (text) => {
    expect(() => parseConninfo(text)).toThrow(/^((?!cret).)*$/);
  });

  it('give back every value that was percent-encoded into them', () => {
    const value = fc
      .string({ unit: 'grapheme', minLength: 1 })
      .filter((text) => !text.includes('\0'));
    fc.assert(
      fc.property(value, value, value, value, (user, password, dbname, options) => {
        const [u, p, d, o] = [user, password, dbname, options].map((text) =>
          encodeURIComponent(text),
        );
        expect(parseConninfo(`postgresql://${u}:${p}@h:1/${d}?options=${o}`)).toEqual({
          user,
          password,
          host: 'h',
          port: '1',
          dbname,
          options,
        });
      }),
    );
  });
});
