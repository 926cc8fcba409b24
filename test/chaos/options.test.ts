import { CommanderError } from 'commander';
import { expect, test, vi } from 'vitest';
import { parseOptions } from './options.ts';

const chance = () => 4711;

test('flags have defaults, and the seed is one of chance', () => {
  const defaults = { minutes: 1, nodes: 3, seed: 4711, json: false, keep: false };
  expect(parseOptions([], chance)).toEqual(defaults);
  const all = ['--minutes', '0.5', '--nodes', '4', '--seed', '0', '--json', '--keep'];
  const asked = { minutes: 0.5, nodes: 4, seed: 0, json: true, keep: true };
  expect(parseOptions(all, chance)).toEqual(asked);
});

test.each([
  [['--nodes', '1']],
  [['--nodes', '5']],
  [['--minutes', '0']],
  [['--seed', '-1']],
  [['--other']],
])('%j is refused', (args) => {
  using errors = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  expect(() => parseOptions(args, chance)).toThrow(CommanderError);
  expect(errors).toHaveBeenCalled();
});
