import { expect, test } from 'vitest';
import { describeWriter, whoHoldsDeletions } from './held-deletions.ts';

const at = '2030-01-01T00:01:00.000Z';
const link = (from: string, watermarkAt: string | null) => ({ from, watermarkAt });
const own = (tombstones: number, watermarkAt: string | null) => ({ tombstones, watermarkAt });

test('the least watermark holds them: of a link', () => {
  const links = [link('b', '2030-01-01T00:00:59.000Z'), link('c', '2030-01-01T00:00:30.000Z')];
  expect(
    whoHoldsDeletions({ at, name: 'a', links, ownStream: own(1, '2030-01-01T00:00:58.000Z') }),
  ).toEqual({ by: 'c', isLocal: false, upTo: '2030-01-01T00:00:30.000Z', ms: 30_000 });
});

test('of the own stream; a provider whose clock is ahead holds nothing for less than no time', () => {
  const links = [link('b', '2030-01-01T00:01:09.000Z')];
  const ownStream = own(1, '2030-01-01T00:01:01.000Z');
  expect(whoHoldsDeletions({ at, name: 'a', links, ownStream })).toEqual({
    by: 'a',
    isLocal: true,
    upTo: '2030-01-01T00:01:01.000Z',
    ms: 0,
  });
});

test('a link of which nothing is known is the least of all', () => {
  const links = [link('b', null)];
  const ownStream = own(1, '2030-01-01T00:00:00.000Z');
  expect(whoHoldsDeletions({ at, name: 'a', links, ownStream })).toEqual({
    by: 'b',
    isLocal: false,
    upTo: null,
    ms: null,
  });
});

test('nobody does where none is remembered, or no own stream is there', () => {
  const links = [link('b', null)];
  expect(whoHoldsDeletions({ at, name: 'a', links, ownStream: own(0, null) })).toBeUndefined();
  expect(whoHoldsDeletions({ at, name: 'a', links, ownStream: null })).toBeUndefined();
});

test('a transaction is called by its backend, or by its identifier', () => {
  const writer = { pid: 7, gid: null, role: 'app', application: 'psql', since: at, ms: 1 };
  expect(describeWriter(writer)).toBe('the transaction of pid 7 (role app, psql)');
  expect(describeWriter({ ...writer, application: '' })).toBe(
    'the transaction of pid 7 (role app)',
  );
  expect(describeWriter({ ...writer, pid: null, gid: 'g1', application: null })).toBe(
    'prepared transaction "g1" of role app',
  );
});
