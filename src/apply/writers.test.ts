import { expect, test } from 'vitest';
import type { Writer } from '../conflict/version.ts';
import { originsBelow, writerOf, writerWithId, type OriginMap } from './writers.ts';

const [ONE, TWO, THREE] = [1, 2, 3].map((sequence) => ({
  id: { sysid: '7', timeline: 1, dboid: sequence },
  sequence,
})) as [Writer, Writer, Writer];
const ORIGINS: OriginMap = {
  local: TWO,
  providers: new Map([
    [5, ONE],
    [6, THREE],
  ]),
  copies: new Set([9]),
};

test('an origin that is none of ours counts as this node', () => {
  expect([5, 6, 0, 77].map((origin) => writerOf(ORIGINS, origin))).toEqual([ONE, THREE, TWO, TWO]);
});

test('a node that is not known here has no number', () => {
  const id = { sysid: '8', timeline: 1, dboid: 1 };
  expect(writerWithId(ORIGINS, { ...THREE.id })).toBe(THREE);
  expect(writerWithId(ORIGINS, id)).toEqual({ id, sequence: null });
});

test('at equal times rows lose to the greater node; this node stands as origin 0', () => {
  expect(originsBelow(ORIGINS, ONE)).toEqual([]);
  expect(originsBelow(ORIGINS, TWO)).toEqual([5]);
  expect(originsBelow(ORIGINS, THREE)).toEqual([0, 5]);
});
