import fc from 'fast-check';
import { expect, test } from 'vitest';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import { copyText } from './copy-text.ts';

const LETTERS: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '\\': '\\' };

/** Reads COPY's text format (manual: COPY, "Text Format"), as far as it is written here. */
function read(text: string): (string | null)[][] {
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) =>
      line
        .split('\t')
        .map((field) =>
          field === '\\N'
            ? null
            : field.replaceAll(/\\(.)/g, (_, letter: string) => LETTERS[letter] ?? '?'),
        ),
    );
}

test('what was written is what is read', () => {
  const value = fc.option(
    fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 40 }),
      fc.string({ unit: fc.constantFrom('\\', '\n', '\r', '\t', 'N', '.', 'a') }),
    ),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(value, value, value), { minLength: 1 }), (rows) => {
      const text = copyText(rows.map(tupleOf), [2, 0]).toString();
      expect(read(text)).toEqual(rows.map(([first, , third]) => [third, first]));
    }),
  );
});
