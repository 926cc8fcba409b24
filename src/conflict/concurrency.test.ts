import { expect, test } from 'vitest';
import type { PgTime } from '../base/pg-time.ts';
import { areCertainlyConcurrent } from './concurrency.ts';
import type { Version, Writer } from './version.ts';

const [SELF, PEER, THIRD] = [1, 2, 3].map((sequence) => ({
  id: { sysid: '7', timeline: 1, dboid: sequence },
  sequence,
})) as [Writer, Writer, Writer];
const at = (time: number, writer: Writer): Version => ({ time: time as PgTime, writer });

test('a change that is no later than what this node’s own users wrote is certainly concurrent with it', () => {
  expect(areCertainlyConcurrent(at(4, PEER), at(5, SELF), SELF.id)).toBe(true);
  // Whoever of the two is the greater one.
  expect(areCertainlyConcurrent(at(5, PEER), at(5, SELF), SELF.id)).toBe(true);
});

test('a later change may have been made by somebody who had seen it', () => {
  expect(areCertainlyConcurrent(at(6, PEER), at(5, SELF), SELF.id)).toBe(false);
});

test('what a third node had seen is not known here', () => {
  expect(areCertainlyConcurrent(at(4, PEER), at(5, THIRD), SELF.id)).toBe(false);
});

test('nothing is certain about what is not there', () => {
  expect(areCertainlyConcurrent(at(4, PEER), undefined, SELF.id)).toBe(false);
});
