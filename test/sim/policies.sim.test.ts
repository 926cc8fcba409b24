import { describe, expect, test } from 'vitest';
import type { TablePolicy } from '../../src/conflict/policy.ts';
import type { PolicyMutant } from '../support/sim/policy.ts';
import { simulate } from '../support/sim/simulation.ts';
import type { CheckName } from '../support/sim/world.ts';

/** Some seconds' worth of each. */
const STEPS = 60_000;

const FIRST = { name: 'first_update_wins' } as const;
const PRIORITY = { name: 'node_priority', nodes: ['1', '0'] } as const;
const DELETE = { name: 'delete_wins' } as const;

const POLICIES: readonly TablePolicy[] = [
  FIRST,
  PRIORITY,
  { name: 'update_wins' },
  DELETE,
  // The model's never says the same twice.
  { name: 'handler' },
];

test.each(POLICIES)('$name: nodes end with the same rows, and it is carried out', (policy) => {
  let steps = 0;
  for (let seed = 1; steps < STEPS; seed++) {
    const result = simulate({ seed, policy: { policy } });
    expect({ seed, failure: result.failure }).toEqual({ seed, failure: undefined });
    steps += result.steps;
  }
});

describe('a run notices', () => {
  const mutants: readonly (readonly [PolicyMutant, TablePolicy, number, CheckName])[] = [
    ['decided where the change is applied', PRIORITY, 1, 'nodes differ'],
    ['by heartbeats alone', PRIORITY, 3, 'a policy undoes what its writer knew'],
    ['deletions forgotten as without a policy', DELETE, 122, 'a policy is not carried out'],
    ['whatever stands by then', PRIORITY, 621, 'a policy undoes what its writer knew'],
    ['note taken away before the row is written', FIRST, 4, 'a policy is not carried out'],
  ];
  // After a change of the model the seeds move: the first that fails with the mutant is as good.
  test.each(mutants)('%s', (mutant, policy, seed, check) => {
    expect(simulate({ seed, nodes: 2, policy: { policy, mutant } }).failure?.check).toBe(check);
    expect(simulate({ seed, nodes: 2, policy: { policy } }).failure).toBeUndefined();
  });
});
