import { expect, test } from 'vitest';
import { simulate } from '../support/sim/simulation.ts';
import type { Switches } from '../support/sim/switches.ts';

/** A second's worth of each; `npm run sim` has more. */
const STEPS = 40_000;

const ALL: readonly Switches[] = [
  { uniques: true },
  { join: true },
  { part: true },
  { join: true, part: true },
  { part: true, unique: true },
  { clocks: true },
  { dense: true, join: true },
];

test.each(ALL)('nodes that stay end with the same rows: %o', (switches) => {
  let steps = 0;
  for (let seed = 1; steps < STEPS; seed++) {
    const result = simulate({ seed, nodes: 3, ...switches });
    expect({ seed, failure: result.failure }).toEqual({ seed, failure: undefined });
    steps += result.steps;
  }
});
