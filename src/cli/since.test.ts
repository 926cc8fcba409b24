import { expect, test } from 'vitest';
import { parseSince } from './since.ts';

test.each([
  ['1 hour', '1 hour'],
  ['2d', '2d'],
  [' 90 s ', '90 s'],
  ['1h30min', '1h30min'],
  ['1 day 2 hours', '1 day 2 hours'],
  ['1.5 Weeks', '1.5 Weeks'],
  ['3 mons', '3 mons'],
  // PostgreSQL would turn its sign.
  ['2 days ago', '2 days'],
])('%s is an amount of time', (text, ago) => {
  expect(parseSince(text)).toEqual({ ago });
});

test.each([
  '2030-01-02',
  '2030-01-02 03:04:05+02',
  '2030-01-02T03:04:05Z',
  'yesterday',
  '03:04',
  '5',
  '-1 hour',
  '1 hour; DROP',
  'days',
  '',
])('%s is not', (text) => {
  expect(parseSince(text)).toEqual({ at: text });
});
