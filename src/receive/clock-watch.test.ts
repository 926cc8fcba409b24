import { expect, test } from 'vitest';
import type { PgTime } from '../base/pg-time.ts';
import { ClockWatch } from './clock-watch.ts';

const at = (time: number) => time as PgTime;
const beat = (xid: number, clock: number) => ({
  clock: at(clock),
  xid,
  xmin: xid - 1,
  applied: new Map(),
});
const told = (xid: number, clock: number) => ({ clock: at(clock), xid, xmin: xid - 1 });

function watched(known: ReturnType<typeof told> | undefined, ...beats: [number, number][]) {
  const watch = new ClockWatch(known);
  for (const [xid, clock] of beats) watch.heard(beat(xid, clock));
  return watch;
}

test('a clock that goes on has not stepped', () => {
  const watch = watched(undefined, [10, 100], [12, 200]);
  expect([watch.greatest, watch.step]).toEqual([told(12, 200), undefined]);
});

test('a later heartbeat that tells less is a step, until the clock has passed the greatest', () => {
  const watch = watched(undefined, [10, 100], [12, 200], [14, 50], [16, 90]);
  const step = { before: told(12, 200), to: 50, deletions: 0 };
  expect([watch.greatest, watch.step]).toEqual([told(12, 200), step]);
  watch.heard(beat(18, 201));
  expect([watch.greatest, watch.step]).toEqual([told(18, 201), step]);
  watch.heard(beat(20, 150));
  expect(watch.step).toEqual({ before: told(18, 201), to: 150, deletions: 0 });
});

test('what was read before is no step when it is read again', () => {
  expect(watched(told(12, 200), [10, 100], [12, 200]).step).toBeUndefined();
  expect(watched(told(12, 200), [10, 100], [14, 199]).step?.before).toEqual(told(12, 200));
});

test('deletions below the greatest time are counted from its heartbeat on, before the step is noticed too', () => {
  const watch = watched(undefined, [10, 100]);
  watch.deleted(at(99));
  watch.heard(beat(12, 200));
  watch.deleted(at(200));
  watch.deleted(at(60));
  watch.heard(beat(14, 61));
  watch.deleted(at(62));
  expect(watch.step?.deletions).toBe(2);
  watch.heard(beat(16, 300));
  watch.deleted(at(299));
  watch.heard(beat(18, 400));
  expect(watch.step?.deletions).toBe(2);
});
