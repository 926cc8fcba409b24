import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { pause, Wakeup } from './wait.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Whether a promise has been resolved by the time everything that is due has run. */
async function isDone(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  void promise.then(() => {
    done = true;
  });
  await vi.advanceTimersByTimeAsync(0);
  return done;
}

test('a pause ends when its time is over', async () => {
  const waiting = pause(1000);
  await vi.advanceTimersByTimeAsync(999);
  expect(await isDone(waiting)).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  expect(await isDone(waiting)).toBe(true);
});

test('a pause ends when its signal is aborted, and leaves no timer', async () => {
  const stop = new AbortController();
  const waiting = pause(1000, stop.signal);
  stop.abort();
  expect(await isDone(waiting)).toBe(true);
  expect(vi.getTimerCount()).toBe(0);
  expect(await isDone(pause(1000, stop.signal))).toBe(true);
});

test('a wakeup that was raised before the wait ends it at once, several count as one', async () => {
  const wakeup = new Wakeup();
  wakeup.raise();
  wakeup.raise();
  expect(await isDone(wakeup.wait(1000))).toBe(true);
  const second = wakeup.wait(1000);
  expect(await isDone(second)).toBe(false);
  wakeup.raise();
  expect(await isDone(second)).toBe(true);
  expect(await second).toBe(true);
  expect(vi.getTimerCount()).toBe(0);
});

test('a wait ends by its time or its signal too', async () => {
  const wakeup = new Wakeup();
  const timed = wakeup.wait(1000);
  await vi.advanceTimersByTimeAsync(1000);
  expect(await isDone(timed)).toBe(true);
  expect(await timed).toBe(false);
  const stop = new AbortController();
  const stopped = wakeup.wait(1000, stop.signal);
  stop.abort();
  expect(await isDone(stopped)).toBe(true);
});
