import { expect, test } from 'vitest';
import type { PgTime } from '../base/pg-time.ts';
import { ClockWatch } from './clock-watch.ts';
import { NOTHING_UNTOLD } from './watermark.ts';

const at = (time: number) => time as PgTime;
const beat = (xid: number, clock: number) => ({
  clock: at(clock),
  xid,
  xmin: xid - 1,
  applied: new Map(),
  untold: NOTHING_UNTOLD,
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
  const step = { before: told(12, 200), to: 50 };
  expect([watch.greatest, watch.step]).toEqual([told(12, 200), step]);
  watch.heard(beat(18, 201));
  expect([watch.greatest, watch.step]).toEqual([told(18, 201), step]);
  watch.heard(beat(20, 150));
  expect(watch.step).toEqual({ before: told(18, 201), to: 150 });
});

test('what was read before is no step when it is read again', () => {
  expect(watched(told(12, 200), [10, 100], [12, 200]).step).toBeUndefined();
  expect(watched(told(12, 200), [10, 100], [14, 199]).step?.before).toEqual(told(12, 200));
});

test('a commit below the greatest time is late for its heartbeat, whether a step is noticed or not', () => {
  const watch = watched(undefined, [10, 100]);
  expect([watch.lateAfter(at(99)), watch.lateAfter(at(100))]).toEqual([10, undefined]);
  watch.heard(beat(12, 200));
  watch.heard(beat(14, 61));
  expect([watch.lateAfter(at(199)), watch.lateAfter(at(200))]).toEqual([12, undefined]);
  watch.heard(beat(16, 300));
  expect(watch.lateAfter(at(299))).toBe(16);
});
