import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { keepsLost, type Contender } from './policy.ts';

const row = (node: string): Contender => ({ node, isDeletion: false });
const deletion = (node: string): Contender => ({ node, isDeletion: true });

describe('a policy keeps what has lost by its version', () => {
  test('first_update_wins: always, because it came first', () => {
    const policy = { name: 'first_update_wins' } as const;
    expect(keepsLost(policy, row('a'), row('b'))).toBe(true);
    expect(keepsLost(policy, deletion('a'), row('b'))).toBe(true);
    expect(keepsLost(policy, row('a'), deletion('b'))).toBe(true);
  });

  test('node_priority: where its node stands before the other', () => {
    const policy = { name: 'node_priority', nodes: ['a', 'b'] } as const;
    expect(keepsLost(policy, row('a'), row('b'))).toBe(true);
    expect(keepsLost(policy, row('b'), row('a'))).toBe(false);
    expect(keepsLost(policy, deletion('b'), row('not named'))).toBe(true);
    expect(keepsLost(policy, row('not named'), row('b'))).toBe(false);
    expect(keepsLost(policy, row('not named'), row('neither'))).toBe(false);
  });

  test('update_wins and delete_wins: of an update and a deletion that one', () => {
    const [update, remove] = [{ name: 'update_wins' }, { name: 'delete_wins' }] as const;
    expect(keepsLost(update, row('a'), deletion('b'))).toBe(true);
    expect(keepsLost(update, deletion('a'), row('b'))).toBe(false);
    expect(keepsLost(remove, deletion('a'), row('b'))).toBe(true);
    expect(keepsLost(remove, row('a'), deletion('b'))).toBe(false);
    for (const policy of [update, remove])
      expect(keepsLost(policy, row('a'), row('b'))).toBe(false);
  });
});

test('of two deletions none is kept, and node_priority never keeps both of two writes', () => {
  const contender = fc.record({ node: fc.constantFrom('a', 'b', 'c'), isDeletion: fc.boolean() });
  const policy = fc.constantFrom(
    { name: 'first_update_wins' } as const,
    { name: 'node_priority', nodes: ['b', 'a'] } as const,
    { name: 'update_wins' } as const,
    { name: 'delete_wins' } as const,
  );
  fc.assert(
    fc.property(policy, contender, contender, (chosen, one, other) => {
      const both = keepsLost(chosen, one, other) && keepsLost(chosen, other, one);
      if (one.isDeletion && other.isDeletion) expect(keepsLost(chosen, one, other)).toBe(false);
      if (chosen.name !== 'first_update_wins') expect(both).toBe(false);
    }),
  );
});
