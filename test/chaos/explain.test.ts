import { expect, test } from 'vitest';
import type { CommittedTransaction } from './committed.ts';
import { explain } from './explain.ts';
import type { NodeState } from './node-state.ts';

/** Transaction number `at` overwrites the row of the one before. */
function overwrites(at: number): CommittedTransaction {
  return {
    entry: `t${at}`,
    parts: 1,
    node: 0,
    isTold: true,
    version: { committedAt: BigInt(at), number: 1 },
    changes: [
      {
        kind: 'write',
        table: 'hot',
        before: { key: 'k', tag: `${at - 1}` },
        after: { key: 'k', tag: `${at}`, image: '' },
      },
    ],
  };
}

const state: NodeState = {
  name: 'node1',
  number: 1,
  tables: new Map(),
  journal: new Map(),
  history: [
    { table: 'hot', key: 'k', localTag: '7', remoteTag: null, text: 'a conflict' },
    { table: 'hot', key: 'l', localTag: '7', remoteTag: null, text: 'another row' },
  ],
};
const committed = Array.from({ length: 40 }, (_, index) => overwrites(40 - index));

test('a finding shows what was written last under its key, and what histories say of that', () => {
  const row = { table: 'hot', key: 'k' };
  const lines = explain({ kind: 'nodes differ', text: 'so', row }, committed, [state]);
  expect(lines[0]).toBe('nodes differ: table hot, key k: so');
  expect(lines[1]).toBe('  written last, by commit time:');
  expect(lines[2]).toBe('    00:00:00.000029 node1 t29: k 28 → k 29');
  expect(lines.slice(-3)).toEqual([
    '    00:00:00.000040 node1 t40: k 39 → k 40',
    '  in the histories:',
    '    node1: a conflict',
  ]);
});

test('a write that was lost long ago is shown with those around it', () => {
  const row = { table: 'hot', key: 'k', entry: 't7' };
  const lines = explain({ kind: 'a loser is nowhere', text: 'so', row }, committed, [state]);
  expect(lines[1]).toBe('  written then, by commit time:');
  expect(lines[2]).toMatch(/ t3: /);
  expect(lines.filter((line) => line.includes(' t7: '))).toHaveLength(1);
});
