import { describe, expect, test } from 'vitest';
import { exhaust } from '../support/sim/exhaustive.ts';
import { named } from './scopes.ts';

/** Some seconds' worth of each scope; `npm run sim -- --exhaustive` has more scopes, and all of each. */
const STATES = 600;

describe('every order of', () => {
  test.each([
    named([['insert a', 'delete a'], ['insert a']], 1, false),
    named([['insert a', 'update a'], ['delete a']], 1, true),
    named([['insert a', 'move a to b'], ['insert b']], 0, true),
    named([['insert a'], ['update a'], ['delete a']], 0, false),
  ])('$name', ({ scope }) => {
    const { states, failure } = exhaust(scope, STATES);
    expect(failure).toBeUndefined();
    expect(states).toBeGreaterThan(20);
  });
});

test('an order that diverges is found, and told turn by turn', () => {
  const { scope } = named([['insert a'], ['update a', 'delete a'], ['update a']], 0, false);
  const { failure } = exhaust(scope, 20_000, 'update of a missing key is skipped');
  expect(failure?.check).toBe('nodes differ');
  expect(failure?.turns).toContain('0 writes');
});
