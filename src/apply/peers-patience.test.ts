import { expect, test } from 'vitest';
import type { PgTime } from '../base/pg-time.ts';
import { PeersPatience } from './peers-patience.ts';

const NOW = 1_000_000_000_000;
const at = (micros: number) => (NOW + micros) as PgTime;
const many = Array.from({ length: 2000 }, (_, index) => at(index));
const LAST = at(1999);

/** Peers that are at these times, one look after the other, and stay at the last. */
function peers(...limits: readonly PgTime[]) {
  const looks: PgTime[] = [];
  const abort = new AbortController();
  const limit = () => {
    const seen = limits[Math.min(looks.length, limits.length - 1)] as PgTime;
    looks.push(seen);
    return seen;
  };
  return { patience: new PeersPatience(limit, abort.signal), looks, abort };
}

test('many deletions wait until the peers have passed the last of them', async () => {
  const { patience, looks } = peers(at(-1000), at(1998), LAST);
  expect(await patience.wait(many)).toBe(LAST);
  expect(looks).toEqual([at(-1000), at(1998), LAST]);
});

test('few do not, nor none', async () => {
  const { patience, looks } = peers(at(-1000), LAST);
  expect(await patience.wait(many.slice(0, 999))).toBe(at(-1000));
  expect(await patience.wait([])).toBe(LAST);
  expect(looks).toHaveLength(2);
});

test('peers that are far behind are not waited for', async () => {
  const { patience, looks } = peers(at(-60_000_000), LAST);
  expect(await patience.wait(many)).toBe(at(-60_000_000));
  expect(looks).toHaveLength(1);
});

test('what was waited for in vain is not waited for again soon', async () => {
  const { patience, looks } = peers(at(0));
  expect(await patience.wait(many)).toBe(at(0));
  const before = looks.length;
  expect(before).toBeGreaterThan(1);
  expect(await patience.wait(many)).toBe(at(0));
  expect(looks).toHaveLength(before + 1);
});

test('a link that is held up by the own stream ends the wait, and prevents the next', async () => {
  const { patience, looks } = peers(at(0));
  const waiting = patience.wait(many);
  patience.hurry();
  expect(await waiting).toBe(at(0));
  expect(looks).toHaveLength(2);
  expect(await patience.wait(many)).toBe(at(0));
  expect(looks).toHaveLength(3);
});

test('a wait ends with the stream', async () => {
  const { patience, abort } = peers(at(0));
  const waiting = patience.wait(many);
  abort.abort(new Error('stopped'));
  await expect(waiting).rejects.toThrow('stopped');
});
