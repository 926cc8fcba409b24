import { leavesOutLongValue, type Operation, type Scope } from '../support/sim/scope.ts';

const OPERATIONS = [
  'insert a',
  'update a',
  'touch a',
  'delete a',
  'move a to b',
  'carry a to b',
  'insert b',
  'truncate',
] as const;

/** With a unique index. */
const TAKES = ['a takes x', 'b takes x', 'c takes x', 'a takes y'] as const;

export interface NamedScope {
  readonly name: string;
  readonly scope: Scope;
}

/**
 * The scopes with so many operations of three nodes, no heartbeats; else all small scopes. Those come first that are soonest tried: where no
 * long value is left out nodes need not ask each other.
 */
export function scopesOf(operations: number | undefined): readonly NamedScope[] {
  if (operations === undefined) return [...scopes()];
  if (operations !== 4 && operations !== 5) throw new Error('there are scopes of 4 and of 5');
  const all = operations === 4 ? [...ofFour()] : [...ofFive()];
  return all.sort((one, other) => leftOut(one) - leftOut(other));
}

function leftOut({ scope }: NamedScope): number {
  return scope.scripts.flat().filter(leavesOutLongValue).length;
}

/**
 * Small scopes: two nodes with two transactions each, then three nodes with three and four. Each begins with a row that node 0 inserts. What
 * nodes 1 and 2 do may change places: only node 0 is another one, whose commits may be held.
 */
function* scopes(): Generator<NamedScope, void> {
  for (const first of OPERATIONS) {
    for (const second of OPERATIONS) {
      for (const third of OPERATIONS) {
        yield named(
          [
            ['insert a', first],
            [second, third],
          ],
          1,
          'stamped',
        );
      }
    }
  }
  for (const [second, third] of pairs())
    yield named([['insert a'], [second], [third]], 1, undefined);
  yield* ofFour();
  yield* uniqueScopes();
}

function* ofFour(): Generator<NamedScope, void> {
  for (const first of OPERATIONS) {
    for (const [second, third] of pairs()) {
      yield named([['insert a', first], [second], [third]], 0, undefined);
    }
  }
}

function* ofFive(): Generator<NamedScope, void> {
  for (const first of OPERATIONS) {
    for (const second of OPERATIONS) {
      for (const third of OPERATIONS) {
        for (const fourth of OPERATIONS) {
          yield named([['insert a', first], [second, third], [fourth]], 0, undefined);
        }
      }
    }
  }
}

/** Two operations, in one order. */
function pairs(): (readonly [string, string])[] {
  return OPERATIONS.flatMap((one, at) =>
    OPERATIONS.slice(at).map((other) => [one, other] as const),
  );
}

/** Rows of two or three nodes that take one value, and give it up, or are deleted. */
function* uniqueScopes(): Generator<NamedScope, void> {
  for (const second of [...TAKES, 'delete a']) {
    for (const third of [...TAKES, 'delete b']) {
      yield named(
        [
          ['a takes x', second],
          ['b takes x', third],
        ],
        0,
        'stamped',
      );
      yield named([['a takes x', second], ['b takes x'], [third]], 0, undefined);
    }
  }
}

/** A scope of operations by name, one list for each node. */
export function named(
  lists: readonly (readonly string[])[],
  heartbeats: number,
  heldWhen: Scope['heldWhen'],
): NamedScope {
  const unique = lists.flat().some((name) => name.includes('takes'));
  const scripts = lists.map((list) => list.map(operationNamed));
  const name = lists.map((list) => list.join(', ')).join(' | ');
  const scope: Scope = { scripts, heartbeats, heldWhen, ...(unique ? { unique } : {}) };
  return { name, scope };
}

/** As it is named: "insert a", "move a to b", "a takes x". */
function operationNamed(name: string): Operation {
  const [first = '', second = '', ...others] = name.split(' ');
  if (second === 'takes') return { kind: 'take', key: first, v: others.join(' ') };
  switch (first) {
    case 'truncate':
      return { kind: 'truncate' };
    case 'move':
    case 'carry':
      return { kind: first, key: second, to: others.at(-1) ?? '' };
    case 'insert':
    case 'update':
    case 'touch':
    case 'delete':
      return { kind: first, key: second };
    default:
      throw new Error(`no operation is named "${name}"`);
  }
}
