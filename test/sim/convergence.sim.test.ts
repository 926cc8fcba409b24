import { expect, test } from 'vitest';
import { simulate, type RunOptions } from '../support/sim/simulation.ts';

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

/** What has failed in long runs, and is mended. */
const FAILED: readonly RunOptions[] = [
  // What the provider had no more left nothing here: an older row came in a group, and was later than the kill.
  { seed: 40000501, uniques: true },
  // A commit lay before the slot on the source, and was seen after the snapshot.
  { seed: 50001106, join: true },
  // Three that took the table as a whole never found a moment without the others.
  { seed: 50027246, join: true, part: true },
  // A copied row that was read again got a version before all others.
  { seed: 60002622, join: true, part: true },
  // Nobody answered an ask in the stead of a parted node.
  { seed: 60001946, part: true, unique: true },
  // An ask came before its row was seen at the node that had written it.
  { seed: 60022657, unique: true },
  // A peer’s row took the place of one that was written late.
  { seed: 118, clocks: true },
];
test.each(FAILED)('seed $seed, which has failed once', (run) => {
  expect(simulate(run).failure).toBeUndefined();
});
