import { CommanderError } from 'commander';
import { expect, test, vi } from 'vitest';
import { parseOptions } from './options.ts';
import { WORKLOAD_NAMES } from './workloads/all.ts';

test('without flags: everything, three times, in full size', () => {
  const options = parseOptions([]);
  expect(options).toMatchObject({ runs: 3, scale: 1, json: false, workerLog: false, keep: false });
  expect(options.only).toEqual(WORKLOAD_NAMES);
});

test('--only may be given again and may name several', () => {
  const { only } = parseOptions(['--only', 'join,latency', '--only', 'memory']);
  expect(only).toEqual(['join', 'latency', 'memory']);
});

test('--quick is a tenth', () => {
  expect(parseOptions(['--quick', '--runs', '1'])).toMatchObject({ scale: 0.1, runs: 1 });
});

test('what there is not is refused', () => {
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  for (const args of [['--only', 'join,nothing'], ['--runs', '0'], ['--scale', 'x'], ['--fast']]) {
    expect(() => parseOptions(args)).toThrow(CommanderError);
  }
});
