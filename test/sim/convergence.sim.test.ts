import { expect, test } from 'vitest';
import { simulate } from '../support/sim/simulation.ts';

/** Some seconds' worth. `npm run sim` goes on as long as it is told to. */
const STEPS = 400_000;
const UNIQUE_STEPS = 200_000;

test('whatever happens in whatever order, nodes end with the same rows and no write is lost', () => {
  let steps = 0;
  for (let seed = 1; steps < STEPS; seed++) {
    const result = simulate({ seed });
    // The seed stands in the report of a failure: npm run sim -- --seed N repeats it.
    expect({ seed, failure: result.failure }).toEqual({ seed, failure: undefined });
    steps += result.steps;
  }
});

test('nor does a row that has lost a value of a unique index stay anywhere, or any other go', () => {
  let steps = 0;
  for (let seed = 1; steps < UNIQUE_STEPS; seed++) {
    const result = simulate({ seed, unique: true });
    expect({ seed, failure: result.failure }).toEqual({ seed, failure: undefined });
    steps += result.steps;
  }
});

test('a seed is one run', () => {
  const run = (seed: number) => {
    const notes: string[] = [];
    const { steps } = simulate({ seed, nodes: 3, note: (text) => notes.push(text) });
    return { steps, notes };
  };
  const first = run(3);
  expect(first.notes.length).toBeGreaterThan(10);
  expect(run(3)).toEqual(first);
  expect(run(4)).not.toEqual(first);
});
