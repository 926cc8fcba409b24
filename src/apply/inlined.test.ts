import { expect, test } from 'vitest';
import { inlined } from './inlined.ts';

test('parameters become constants', () => {
  expect(inlined('SELECT $1::text, $2::oid, $1, $3::a', ["it's", 7, null])).toBe(
    "SELECT ('it''s')::text, ('7')::oid, ('it''s'), NULL::a",
  );
});

test('what looks like a parameter in a name, a constant or a value is left alone', () => {
  expect(inlined(`UPDATE "$1""$2" SET "a$1" = $1 WHERE '$1''$2' = $2`, ['$2', `'; DROP "$1`])).toBe(
    `UPDATE "$1""$2" SET "a$1" = ('$2') WHERE '$1''$2' = ('''; DROP "$1')`,
  );
});

test('a backslash means itself whatever the settings are', () => {
  expect(inlined('SELECT $1', ['\\'])).toBe(String.raw`SELECT ( E'\\')`);
});
