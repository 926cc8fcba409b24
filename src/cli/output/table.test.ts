import { expect, test } from 'vitest';
import { drawTable, oneLine } from './table.ts';

test('columns are as wide as their widest cell, whatever its colour', () => {
  expect(
    drawTable([
      ['a', '\u001b[32mlonger\u001b[39m', 'x'],
      ['bb', 'c', 'y'],
    ]),
  ).toEqual(['  a   \u001b[32mlonger\u001b[39m  x', '  bb  c       y']);
});

test('lines have no blanks at their ends', () => {
  expect(
    drawTable(
      [
        ['a', ''],
        ['b', 'c'],
      ],
      '',
    ),
  ).toEqual(['a', 'b  c']);
});

test('names cannot move the cursor or break the line', () => {
  expect(oneLine('a\u001b[2Jb\nc\u0007')).toBe('ab c ');
});
