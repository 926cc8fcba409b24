import fc from 'fast-check';
import { expect, test } from 'vitest';
import { displayName, quoteIdent, quoteLiteral, quoteQualified } from './names.ts';

test('names are quoted always, and their quotes doubled', () => {
  expect(quoteIdent('a')).toBe('"a"');
  expect(quoteIdent('A "b"')).toBe('"A ""b"""');
  expect(quoteQualified({ schema: 's"', name: 't.u' })).toBe('"s"""."t.u"');
  fc.assert(
    fc.property(fc.string(), (name) => {
      expect(quoteIdent(name).slice(1, -1).replaceAll('""', '"')).toBe(name);
    }),
  );
});

test('literals mean the same whatever standard_conforming_strings is', () => {
  expect(quoteLiteral(`it's`)).toBe(`'it''s'`);
  expect(quoteLiteral('a\\b')).toBe(` E'a\\\\b'`);
  fc.assert(
    fc.property(fc.string(), (value) => {
      const literal = quoteLiteral(value).trim();
      const escaped = literal.startsWith('E');
      const inner = literal.slice(escaped ? 2 : 1, -1).replaceAll("''", "'");
      expect(escaped ? inner.replaceAll('\\\\', '\\') : inner).toBe(value);
      expect(escaped).toBe(value.includes('\\'));
    }),
  );
});

test('people see quotes only where the server would need them', () => {
  expect(displayName({ schema: 'public', name: 'item_1$' })).toBe('public.item_1$');
  expect(displayName({ schema: 'Public', name: 'a b' })).toBe('"Public"."a b"');
  expect(displayName({ schema: 'public', name: '1st' })).toBe('public."1st"');
});
