import type { Operation, Scope } from '../support/sim/exhaustive.ts';

const OPERATIONS: readonly (readonly [string, Operation])[] = [
  ['insert a', { kind: 'insert', key: 'a' }],
  ['update a', { kind: 'update', key: 'a' }],
  ['touch a', { kind: 'touch', key: 'a' }],
  ['delete a', { kind: 'delete', key: 'a' }],
  ['move a to b', { kind: 'move', key: 'a', to: 'b' }],
  ['insert b', { kind: 'insert', key: 'b' }],
  ['truncate', { kind: 'truncate' }],
];

/** Small scopes: two nodes with two transactions each, then three nodes. Each begins with a row that node 0 inserts. */
export function* scopes(): Generator<{ readonly name: string; readonly scope: Scope }, void> {
  for (const first of OPERATIONS) {
    for (const second of OPERATIONS) {
      for (const third of OPERATIONS) {
        yield named(
          [
            ['insert a', first[0]],
            [second[0], third[0]],
          ],
          1,
          'stamped',
        );
      }
    }
  }
  for (const second of OPERATIONS) {
    for (const third of OPERATIONS) {
      yield named([['insert a'], [second[0]], [third[0]]], 1, undefined);
    }
  }
}

/** A scope of operations by name, one list for each node. */
export function named(
  lists: readonly (readonly string[])[],
  heartbeats: number,
  heldWhen: Scope['heldWhen'],
): { readonly name: string; readonly scope: Scope } {
  const operations = new Map(OPERATIONS);
  const scripts = lists.map((list) =>
    list.flatMap((name) => {
      const operation = operations.get(name);
      return operation ? [operation] : [];
    }),
  );
  const name = lists.map((list) => list.join(', ')).join(' | ');
  return { name, scope: { scripts, heartbeats, heldWhen } };
}
