import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ITEM } from '../../test/support/item-relation.ts';
import type { TransactionPart } from '../apply/transaction-part.ts';
import type { Logger } from '../base/logger.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { StreamCommitMessage } from '../pgoutput/message.ts';
import type { RowChange } from '../pgoutput/transaction.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import { NOTHING_UNTOLD } from '../receive/watermark.ts';
import { EARLY_LOOK_MS, EarlyStream, type EarlyArrival } from './early-stream.ts';

const QUIET: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => QUIET,
};

/** Stands for the session that applies: notes what it is asked, and answers as told. */
class FakeApply {
  isOpen = false;
  readonly did: string[] = [];
  /** Why the next step gives up. */
  reason: string | undefined;

  apply({ context, changes }: TransactionPart): Promise<string | undefined> {
    this.isOpen = true;
    return this.#step(`${changes.length} of ${context.xid} after ${context.commitTime}`);
  }
  look(): Promise<string | undefined> {
    return this.#step('look');
  }
  commit({ commitTime }: { commitTime: PgTime }): Promise<string | undefined> {
    return this.#step(`commit at ${commitTime}`, true);
  }
  giveUp(): Promise<void> {
    this.isOpen = false;
    this.did.push('give up');
    return Promise.resolve();
  }
  #step(what: string, ends = false): Promise<string | undefined> {
    this.did.push(what);
    if (this.reason !== undefined || ends) this.isOpen = false;
    const { reason } = this;
    this.reason = undefined;
    return Promise.resolve(reason);
  }
}

const change: RowChange = { kind: 'insert', relation: ITEM, newTuple: tupleOf(['1', 'v', 'b']) };
const commitOf = (xid: number): StreamCommitMessage => ({
  kind: 'streamCommit',
  xid,
  commitLsn: 1 as Lsn,
  endLsn: 2 as Lsn,
  commitTime: 500 as PgTime,
});
const never = new AbortController().signal;

let apply: FakeApply;
let line: EarlyArrival[];
let mayBegin: boolean;
let early: EarlyStream;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  apply = new FakeApply();
  line = [];
  mayBegin = true;
  early = new EarlyStream(
    apply,
    (arrival) => line.push(arrival),
    () => mayBegin,
    QUIET,
  );
  heard(100);
});
afterEach(() => vi.useRealTimers());

function heard(clock: number): void {
  early.heard({
    clock: clock as PgTime,
    xid: 1,
    xmin: 1,
    applied: new Map(),
    untold: NOTHING_UNTOLD,
  });
}
/** A chunk of one change; false when it is not wanted. */
function chunk(xid: number, isFirst: boolean): boolean {
  if (!early.begins(xid, isFirst)) return false;
  early.changes(change);
  early.ends();
  return true;
}
/** Handles all that stands in line. */
async function handle(): Promise<void> {
  for (const arrival of line.splice(0)) await early.handle(arrival);
}

test('what a transaction brings is applied in its place, under the last clock that was heard, and committed', async () => {
  expect(chunk(7, true)).toBe(true);
  heard(200);
  expect(chunk(7, false)).toBe(true);
  const committed = early.committed(commitOf(7), never);
  await handle();
  expect(await committed).toBe(true);
  expect(apply.did).toEqual(['1 of 7 after 100', '1 of 7 after 200', 'commit at 500']);
});

test('none begins before a heartbeat is heard, in its middle, beside another, or where it may not', () => {
  const deaf = new EarlyStream(
    apply,
    () => undefined,
    () => true,
    QUIET,
  );
  expect(deaf.begins(7, true)).toBe(false);
  expect(chunk(7, false)).toBe(false);
  mayBegin = false;
  expect(chunk(7, true)).toBe(false);
  mayBegin = true;
  expect(chunk(8, true)).toBe(true);
  expect(chunk(9, true)).toBe(false);
  expect(chunk(8, false)).toBe(true);
});

test('what is left in line of one that was given up is passed over, and none begins for a while', async () => {
  chunk(7, true);
  chunk(7, false);
  apply.reason = 'a conflict';
  await handle();
  expect(apply.did).toEqual(['1 of 7 after 100']);
  expect(chunk(7, false)).toBe(false);
  expect(chunk(8, true)).toBe(false);
  expect(await early.committed(commitOf(7), never)).toBe(false);
  vi.advanceTimersByTime(6000);
  // Not its rest.
  expect(chunk(8, false)).toBe(false);
  expect(chunk(9, true)).toBe(true);
});

test('a commit that fails, and one in whose way something else came, are told', async () => {
  chunk(7, true);
  const failed = early.committed(commitOf(7), never);
  await early.handle(line.shift() as EarlyArrival);
  apply.reason = 'a tombstone';
  await handle();
  expect(await failed).toBe(false);
  vi.advanceTimersByTime(6000);
  chunk(8, true);
  const late = early.committed(commitOf(8), never);
  await early.handle(line.shift() as EarlyArrival);
  await early.giveUp('another transaction');
  await handle();
  expect(await late).toBe(false);
  expect(apply.did.filter((did) => did.startsWith('commit'))).toHaveLength(1);
});

test('one that is rolled back, whole or in part, is given up in its place', async () => {
  chunk(7, true);
  early.takenBack(8);
  early.takenBack(7);
  await handle();
  expect(apply.did).toEqual(['1 of 7 after 100', 'give up']);
  expect(early.isOpen).toBe(false);
});

test('one that waits is looked after, and given up when it brings nothing any more', async () => {
  chunk(7, true);
  await handle();
  await early.look();
  expect(apply.did).not.toContain('look');
  vi.advanceTimersByTime(EARLY_LOOK_MS);
  await early.look();
  expect(apply.did.at(-1)).toBe('look');
  vi.advanceTimersByTime(30_000);
  await early.look();
  expect(apply.did.at(-1)).toBe('give up');
});

test('one that brought nothing that counts is handed on at its commit', async () => {
  expect(early.begins(7, true)).toBe(true);
  early.ends();
  const committed = early.committed(commitOf(7), never);
  await handle();
  expect(await committed).toBe(false);
  expect(apply.did).toEqual([]);
});

test('one that is given up in the middle of something else is none from that moment on', async () => {
  chunk(7, true);
  chunk(7, false);
  await early.handle(line.shift() as EarlyArrival);
  const given = early.giveUp('in the way');
  await handle();
  await given;
  expect(apply.did).toEqual(['1 of 7 after 100', 'give up']);
});

test('who waits for a commit is let go with the link', async () => {
  chunk(7, true);
  const stop = new AbortController();
  const committed = early.committed(commitOf(7), stop.signal);
  stop.abort(new Error('over'));
  await expect(committed).rejects.toThrow('over');
});
