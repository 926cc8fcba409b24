import type { MutantName } from '../support/sim/mutants.ts';
import type { Scope } from '../support/sim/scope.ts';
import type { CheckName } from '../support/sim/world.ts';
import { named } from './scopes.ts';

/** An order of turns in a small scope that goes wrong without a rule. */
export interface KnownOrder {
  /** What users do on each node. */
  readonly users: readonly (readonly string[])[];
  /** What else the scope has. */
  readonly more?: Omit<Partial<Scope>, 'scripts'>;
  readonly turns: string;
  readonly check: CheckName;
}

/** Until the source of a join, node 0, has applied what its peer has written before it began, and the snapshot is next. */
const JOIN = '2 joins …, 0 beats, 2 joins …, 0 own, 2 joins …, 1 beats, 1->0';

/** Two rows of one key, and a third node that has the wrong long value of the one that wins, and a note to read it again; then that is copied. */
const JOIN_OF_NOTED: Omit<KnownOrder, 'check'> = {
  users: [['insert b'], ['insert a'], ['insert a', 'touch a', 'insert b'], []],
  more: { joins: 0, heartbeats: 2 },
  turns:
    '2 writes, 1 writes, 1->2, 2 writes, 2->0, 2->0, 1->0, 3 joins …, 0 beats, 3 joins …, 0 own, 3 joins …, 1 beats, 1->0, 3 joins …, 2 writes, 2->0, 3 joins …',
};

/** A deletion at the source of which it has not read itself yet, and an older row of its peer on its way. */
const JOIN_BESIDE_DELETION: Omit<KnownOrder, 'check'> = {
  users: [['insert a', 'delete a'], ['insert a'], []],
  more: { joins: 0, heartbeats: 2 },
  turns: `0 writes, ${JOIN}, 1 writes, 0 writes`,
};

/**
 * Node 1's row comes to node 0 when that has deleted its own; then node 0 writes the key again, knowing of node 1's clock, and node 1 gets
 * all of it as one insert.
 */
function besideDeletion(atNode0: string): KnownOrder {
  return {
    users: [['insert a', 'delete a', 'insert a'], ['insert a']],
    more: { heartbeats: 2 },
    turns: `0 writes, 1 writes, 0 writes, ${atNode0}, 1 beats, 1->0, 0 beats, 0 writes, 1 beats, 1 own, 0->1 by 4`,
    check: 'a loser is nowhere',
  };
}

/** Of rules that runs of chance hardly meet. */
export const KNOWN_ORDERS: Partial<Record<MutantName, KnownOrder>> = {
  'own deletions that lose are passed over': {
    users: [
      ['insert a', 'delete a'],
      ['insert a', 'touch a'],
    ],
    turns: '1 writes, 0 writes, 0 writes, 1->0, 0->1, 1 writes, 1->0, 0 own',
    check: 'nodes differ',
  },
  // Node 1 reads the long value of what node 0 has written since, which is then lost.
  'read values may be lost by a crash': {
    users: [['insert a', 'touch a', 'update a'], ['update a']],
    more: { crashes: 0 },
    turns: '0 writes, 0 flushes, 0->1, 1 writes, 0 writes, 0 flushes, 0 writes, 0->1, 0 crashes',
    check: 'nodes differ',
  },
  'change of key takes what is under the old key': {
    users: [['insert a'], ['insert a', 'touch a', 'move a to b'], []],
    turns: '1 writes, 0 writes, 0->1, 1 writes, 1->2, 1->2, 1 writes, 1->2',
    check: 'nodes differ',
  },
  // The row that node 0 has touched loses its value to node 1's b before node 2 can ask for it; then node 1's older row comes in a group.
  'what cannot be read any more leaves nothing': {
    users: [['touch a'], ['insert a', 'b takes 0.2', 'c takes q'], ['insert a']],
    more: { heartbeats: 1 },
    turns:
      '2 writes, 2->0, 1 writes, 0 writes, 1 writes, 1 writes, 1->0, 1->0, 0->2, 0 beats, 0->2, 2 beats, 2 own, 1->2 by 3',
    check: 'nodes differ',
  },
  // Node 1's row is held while node 0's newer deletion comes; node 2's rows, between the two, come in a group that is stamped later.
  'own watermark before the look below tombstones': {
    users: [
      ['insert a', 'delete a'],
      ['delete a', 'insert a'],
      ['insert a', 'update a', 'insert b'],
    ],
    more: { heartbeats: 1, heldWhen: 'stamped', heldAt: 1, hasSteps: true },
    turns: `0 writes, 0->1, 1 writes, 1 takes its time, 2 writes, 2 writes, 0 writes, 0->1, 1 commits, 2 writes, 0 beats, 0->1, 1 beats, ${repeated('1 own steps', 11)}, 2->1 by 3`,
    check: 'nodes differ',
  },
  'tombstones forgotten without the own stream': {
    users: [
      ['insert a', 'delete a', 'insert a'],
      ['insert a', 'delete a'],
    ],
    more: { heartbeats: 2, heldWhen: 'stamped', purges: 1 },
    turns:
      '0 writes, 0->1, 1 writes, 0 writes, 0 takes its time, 1 beats, 1 writes, 1 beats, 1->0 by 2, 0 commits, 1->0, 0 purges, 0 beats',
    check: 'nodes differ',
  },
  'snapshot taken while apply goes on': {
    users: [[], ['insert a'], []],
    more: { joins: 0, heartbeats: 1 },
    turns: `${JOIN}, 2 joins, 2 joins, 2 joins, 1 writes, 1->0`,
    check: 'nodes differ',
  },
  'rows are copied without their true versions': {
    users: [['insert a'], ['insert a'], []],
    more: { joins: 0, heartbeats: 1 },
    turns: `${JOIN}, 1 writes, 0 writes`,
    check: 'nodes differ',
  },
  'TRUNCATE goes by the stamps of copied rows': {
    users: [['insert a'], ['truncate'], []],
    more: { joins: 0, heartbeats: 1 },
    turns: `2 joins …, 0 writes, 0 beats, 2 joins …, 0 own, 2 joins …, 1 beats, 1->0, 1 writes`,
    check: 'nodes differ',
  },
  // While the slot on node 0 waits for a first commit there, a second takes its time, and node 1, the source, writes later: before the clock is read.
  'clock read when the slot is made': {
    users: [['insert b', 'insert a'], ['insert a'], []],
    more: { joins: 1, heartbeats: 2, heldWhen: 'stamped' },
    turns:
      '0 takes its time, 2 joins …, 0 beats, 1 beats, 2 joins …, 0 commits, 0 takes its time, 1 writes, 2 joins …, 0 beats, 1 beats, 0->1, 0->1, 0->1, 1 own, 2 joins …, 0 commits',
    check: 'nodes differ',
  },
  'slot does not wait for who is writing': {
    users: [['insert a'], ['insert a'], []],
    more: { joins: 0, heartbeats: 1, heldWhen: 'stamped', heldAt: 1 },
    turns:
      '2 joins, 2 joins, 1 takes its time, 0 writes, 0 beats, 2 joins …, 0 own, 2 joins …, 1 beats, 1->0, 2 joins …, 1 commits',
    check: 'nodes differ',
  },
  'tombstones are not copied': { ...JOIN_BESIDE_DELETION, check: 'nodes differ' },
  'tombstones copied before the source has read its own log': {
    ...JOIN_BESIDE_DELETION,
    check: 'nodes differ',
  },
  'what lies below a deletion goes in silence': besideDeletion('1->0, 0 own'),
  'an insert below a deletion goes in silence': besideDeletion('0 own, 1->0'),
  'versions of noted rows are not copied': { ...JOIN_OF_NOTED, check: 'nodes differ' },
  'noted lost values are not copied': { ...JOIN_OF_NOTED, check: 'nodes differ' },
};

/** Its scope, and its turns one by one. */
export function stagedOrder({ users, more, turns }: KnownOrder): {
  readonly scope: Scope;
  readonly turns: readonly string[];
} {
  const { scope } = named(users, 0, undefined);
  return { scope: { ...scope, ...more }, turns: turns.split(', ') };
}

function repeated(turn: string, count: number): string {
  return Array.from({ length: count }, () => turn).join(', ');
}
