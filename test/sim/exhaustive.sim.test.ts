import { describe, expect, test } from 'vitest';
import { exhaust } from '../support/sim/exhaustive.ts';
import { tryOrder } from '../support/sim/orders.ts';
import type { MutantName } from '../support/sim/mutants.ts';
import type { Scene } from '../support/sim/scene.ts';
import type { Scope } from '../support/sim/scope.ts';
import { named } from './scopes.ts';

/** Some seconds' worth of each scope; `npm run sim -- --exhaustive` has more scopes, and all of each. */
const STATES = 600;

describe('every order of', () => {
  test.each([
    named([['insert a', 'delete a'], ['insert a']], 1, undefined),
    named([['insert a', 'update a'], ['delete a']], 1, 'stamped'),
    named([['insert a', 'move a to b'], ['insert b']], 0, 'stamped'),
    named([['insert a', 'carry a to b'], ['insert b']], 0, 'stamped'),
    named([['insert a'], ['update a'], ['delete a']], 0, undefined),
    named([['a takes x', 'a takes y'], ['b takes x']], 0, 'stamped'),
  ])('$name', ({ scope }) => {
    const { states, failure } = exhaust(scope, STATES);
    expect(failure).toBeUndefined();
    expect(states).toBeGreaterThan(20);
  });
});

describe('as all turns do, those that are enough come to the same ends:', () => {
  const choose = (scene: Scene) => scene.turns();
  test.each([
    named([['insert a'], ['update a'], ['delete a']], 0, undefined),
    named([['insert a'], ['move a to b'], ['delete a']], 0, undefined),
    named([['insert a'], ['carry a to b'], ['delete a']], 0, undefined),
  ])('$name', ({ scope }) => {
    const all = exhaust(scope, 20_000, undefined, { choose, replays: true });
    const enough = exhaust(scope, 20_000);
    expect({ failure: enough.failure, isCut: all.isCut }).toEqual({ isCut: false });
    expect(enough.ends).toEqual(all.ends);
    expect(enough.states).toBeLessThan(all.states);
    expect(exhaust(scope, 20_000, undefined, { replays: true })).toEqual(enough);
  });

  test('and to the same failures', () => {
    const { scope } = named([['insert a'], ['update a'], ['delete a']], 0, undefined);
    for (const mutant of [
      'update of a missing key is skipped',
      'deletions leave no tombstone',
      'own stream leaves tombstones only',
    ] as const) {
      const all = exhaust(scope, 20_000, mutant, { choose });
      expect(exhaust(scope, 20_000, mutant).failure?.check).toBe('nodes differ');
      expect(all.failure?.check).toBe('nodes differ');
    }
  });
});

test('an order that diverges is found, and told turn by turn', () => {
  const { scope } = named([['insert a'], ['update a', 'delete a'], ['update a']], 0, undefined);
  const { failure } = exhaust(scope, 20_000, 'update of a missing key is skipped');
  expect(failure?.check).toBe('nodes differ');
  expect(failure?.turns).toContain('0 writes');
});

describe('an order that needs a rule goes wrong without it:', () => {
  const row = { kind: 'insert', key: 'a' } as const;
  const touch = { kind: 'touch', key: 'a' } as const;
  const orders: readonly (readonly [MutantName, Scope['scripts'], string])[] = [
    [
      'lost values are not read again',
      [[row], [row, touch], []],
      '1 writes, 0 writes, 0->1, 1 writes, 1->2, 1->2, 0->2',
    ],
    // Node 1's row loses to the update of node 0, which node 0 does not show yet.
    [
      'lost values read before their commits are seen',
      [[row, { kind: 'update', key: 'a' }], [row], []],
      '1 writes, 0 writes, 0->2, 0 takes its time, 0->2, 1->2, 0->2 again, 0 commits',
    ],
  ];
  test.each(orders)('%s', (mutant, scripts, turns) => {
    const scope: Scope = { scripts, heartbeats: 0, heldWhen: 'written' };
    expect(tryOrder(scope, turns.split(', '), mutant)).toBe('nodes differ');
    expect(tryOrder(scope, turns.split(', '))).toBeUndefined();
  });
});
