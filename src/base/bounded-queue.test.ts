import { expect, test } from 'vitest';
import { BoundedQueue } from './bounded-queue.ts';

const never = new AbortController().signal;

/** Whether a promise has been settled by the time all that can run has run. */
async function isDone(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  const settled = () => {
    done = true;
  };
  void promise.then(settled, settled);
  await new Promise((resolve) => setImmediate(resolve));
  return done;
}

test('the writer waits while what is queued weighs too much, and goes on when enough was taken', async () => {
  const queue = new BoundedQueue<number>(10, (weight) => weight);
  queue.push(4);
  expect(queue.isFull).toBe(false);
  queue.push(7);
  expect(queue.isFull).toBe(true);
  const room = queue.room(never);
  expect(await isDone(room)).toBe(false);
  expect(queue.take(1)).toEqual([4]);
  expect(await isDone(room)).toBe(true);
  expect(queue.first).toBe(7);
  expect([...queue.items()]).toEqual([7]);
});

test('a queue that is widened takes more at once', async () => {
  const queue = new BoundedQueue<number>(5, (weight) => weight);
  queue.push(6);
  const room = queue.room(never);
  expect(await isDone(room)).toBe(false);
  queue.widen(10);
  expect(await isDone(room)).toBe(true);
});

test('the reader waits for an item', async () => {
  const queue = new BoundedQueue<string>(10, () => 1);
  const filled = queue.filled(never);
  expect(await isDone(filled)).toBe(false);
  queue.push('a');
  expect(await isDone(filled)).toBe(true);
  expect(await queue.filled(never)).toBe(true);
});

test('the reader waits for no longer than it says', async () => {
  const queue = new BoundedQueue<string>(10, () => 1);
  expect(await queue.filled(never, 1)).toBe(false);
  queue.push('a');
  expect(await queue.filled(never, 0)).toBe(true);
});

test('what was queued before the end is read before the end is told', async () => {
  const queue = new BoundedQueue<string>(10, () => 1);
  queue.push('last');
  queue.close(new Error('over'));
  await queue.filled(never);
  expect(queue.take(5)).toEqual(['last']);
  await expect(queue.filled(never)).rejects.toThrow('over');
});

test('a signal ends both waits', async () => {
  const stop = new AbortController();
  const empty = new BoundedQueue<string>(1, () => 1);
  const full = new BoundedQueue<string>(1, () => 1);
  full.push('a');
  const waits = Promise.allSettled([empty.filled(stop.signal), full.room(stop.signal)]);
  stop.abort(new Error('stopped'));
  for (const wait of await waits) {
    expect(wait).toMatchObject({ status: 'rejected', reason: { message: 'stopped' } });
  }
});

test('items come out in the order in which they went in, however they are taken', () => {
  const queue = new BoundedQueue<number>(1000, () => 1);
  const taken: number[] = [];
  let next = 0;
  for (const [pushed, count] of [
    [5, 1],
    [3, 4],
    [0, 9],
    [7, 2],
    [1, 0],
    [0, 6],
  ] as const) {
    for (let i = 0; i < pushed; i++) queue.push(next++);
    const items = [...queue.items()];
    const some = queue.take(count);
    expect(some).toEqual(items.slice(0, count));
    expect([...queue.items()]).toEqual(items.slice(count));
    expect(queue.first).toBe(items[count]);
    taken.push(...some);
  }
  expect(taken).toEqual(Array.from({ length: next }, (_, i) => i));
});
