import { expect, test } from 'vitest';
import { mayBecome, nodeKey, sameNode, type NodeId, type NodeStatus } from './node.ts';

const ID: NodeId = { sysid: '7012345678901234567', timeline: 1, dboid: 16384 };

test('nodes are the same when all of their identity is', () => {
  expect(sameNode(ID, { ...ID })).toBe(true);
  for (const other of [
    { ...ID, sysid: '7012345678901234568' },
    { ...ID, timeline: 2 },
    { ...ID, dboid: 5 },
  ]) {
    expect(sameNode(ID, other)).toBe(false);
    expect(nodeKey(other)).not.toBe(nodeKey(ID));
  }
  expect(nodeKey(ID)).toBe('7012345678901234567,1,16384');
});

test('a node goes through its states one by one, and may be parted from each', () => {
  const states: readonly NodeStatus[] = ['b', 'i', 'c', 'o', 'r', 'k'];
  const allowed = states.flatMap((from) =>
    states.filter((to) => mayBecome(from, to)).map((to) => `${from}${to}`),
  );
  expect(allowed).toEqual(['bi', 'br', 'bk', 'ic', 'ik', 'co', 'ck', 'or', 'ok', 'rk', 'ki']);
});
