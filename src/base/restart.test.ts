import { expect, test } from 'vitest';
import { restartOnFailure, type Failure } from './restart.ts';

const LIMITS = { firstMs: 1, mostMs: 4 };

test('lives again after each failure, which is told, until a life returns', async () => {
  const failures: Failure[] = [];
  const lives: number[] = [];
  await restartOnFailure(
    (failed) => {
      lives.push(failed);
      return lives.length < 4
        ? Promise.reject(new Error(`life ${lives.length}`))
        : Promise.resolve();
    },
    {
      limits: LIMITS,
      random: () => 0,
      signal: new AbortController().signal,
      onFailure: (failure) => failures.push(failure),
    },
  );
  expect(lives).toEqual([0, 1, 2, 3]);
  expect(failures.map(({ error }) => String(error))).toEqual([
    'Error: life 1',
    'Error: life 2',
    'Error: life 3',
  ]);
  expect(failures.map(({ retryInMs }) => retryInMs)).toEqual([1, 2, 4]);
});

test('a failure that an abort brings about is the end, and not told', async () => {
  const stop = new AbortController();
  const failures: Failure[] = [];
  await restartOnFailure(
    () => {
      stop.abort();
      return Promise.reject(new Error('aborted'));
    },
    {
      limits: LIMITS,
      random: () => 0,
      signal: stop.signal,
      onFailure: (failure) => failures.push(failure),
    },
  );
  expect(failures).toEqual([]);
});

test('an abort ends the pause, and nothing lives after it', async () => {
  const stop = new AbortController();
  let lives = 0;
  await restartOnFailure(
    () => {
      lives += 1;
      return Promise.reject(new Error('failed'));
    },
    {
      limits: { firstMs: 3_600_000, mostMs: 3_600_000 },
      random: () => 0,
      signal: stop.signal,
      onFailure: () => setImmediate(() => stop.abort()),
    },
  );
  expect(lives).toBe(1);
});
