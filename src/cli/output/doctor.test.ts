import { stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import type { Finding } from '../../node/finding.ts';
import { drawFindings } from './doctor.ts';

const draw = (findings: readonly Finding[]) =>
  drawFindings(findings).map((line) => stripVTControlCharacters(line));

test('findings stand below their subject, each with its mark and what mends it', () => {
  expect(
    draw([
      { about: 'node', check: 'agent', level: 'error', message: 'no agent', fix: 'start\nit' },
      { about: 'server', check: 'a', level: 'ok', message: 'fine', fix: null },
      { about: 'server', check: 'b', level: 'warning', message: 'odd\u001b[2J', fix: 'x;' },
      { about: 'server', check: 'c', level: 'note', message: 'know', fix: null },
    ]),
  ).toEqual([
    'server',
    '  ✓ fine',
    '  ! odd',
    '      x;',
    '  · know',
    '',
    'node',
    '  ✗ no agent',
    '      start',
    '      it',
    '',
    '1 must be mended, 1 should be looked at',
  ]);
});

test('without complaints all is well', () => {
  expect(draw([]).at(-1)).toBe('all is well');
});
