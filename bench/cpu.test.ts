import { expect, test } from 'vitest';
import { cpuSeconds, parseCpuSeconds, peakMegabytes } from './cpu.ts';

test('a program may call itself anything', () => {
  const fields = 'S 1 2 3 0 -1 4194560 1 0 0 0 150 25 0 0 20 0 1 0 1 1 1';
  expect(parseCpuSeconds(`7 (postgres: a) ${fields}`)).toBe(1.75);
  expect(parseCpuSeconds(`7 (x) y) (z) ${fields}`)).toBe(1.75);
  expect(parseCpuSeconds('')).toBe(undefined);
});

test('a process that has ended tells nothing', () => {
  expect(cpuSeconds(undefined)).toBe(undefined);
  expect(peakMegabytes(2 ** 30)).toBe(undefined);
});

test.runIf(process.platform === 'linux')('this process has taken some', () => {
  expect(cpuSeconds(process.pid)).toBeGreaterThan(0);
  expect(peakMegabytes(process.pid)).toBeGreaterThan(10);
});
