import { expect, test } from 'vitest';
import { textArray } from './text-array.ts';

test('every value is quoted, NULL is not', () => {
  expect(textArray([])).toBe('{}');
  expect(textArray(['a', null, 'NULL', 'b c', '', 'q"\\', '{,}'])).toBe(
    String.raw`{"a",NULL,"NULL","b c","","q\"\\","{,}"}`,
  );
});
