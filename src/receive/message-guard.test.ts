import { beforeEach, describe, expect, test } from 'vitest';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { LogicalMessage } from '../pgoutput/transaction.ts';
import { isLockAsk, MessageGuard } from './message-guard.ts';
import { MessageKey } from './message-key.ts';
import type { Received } from './receiver.ts';

const KEY = new MessageKey(Buffer.alloc(32, 7), { sysid: '7000', timeline: 1, dboid: 5 });

const heartbeat = (xid: number) =>
  JSON.stringify({ heartbeat: { clock: 1, xid, xmin: xid, applied: {} } });
const signed = (content: string) => `${KEY.sign(Buffer.from(content))} ${content}`;
const message = (content: string, more: Partial<LogicalMessage> = {}): LogicalMessage => ({
  kind: 'message',
  transactional: true,
  lsn: 50 as Lsn,
  prefix: 'bdr',
  content: Buffer.from(content),
  ...more,
});
const begin = (xid: number): Received => ({
  kind: 'begin',
  xid,
  finalLsn: 100 as Lsn,
  commitTime: 7 as PgTime,
});
const within = (content: string, prefix = 'bdr'): Received => message(content, { prefix });
const alone = (content: string): Received => message(content, { transactional: false });

describe('MessageGuard', () => {
  let forged: number;
  let guard: MessageGuard;
  beforeEach(() => {
    forged = 0;
    guard = new MessageGuard(KEY, () => (forged += 1));
  });
  const content = (passed: Received | undefined) =>
    passed?.kind === 'message' ? passed.content.toString() : undefined;

  test('lets an ask for the global lock pass if it is signed, outside of transactions alone', () => {
    const ask = '{"lock": {"ask": 1}}';
    expect(content(guard.pass(alone(signed(ask))))).toBe(ask);
    expect(guard.pass(alone(ask))).toBeUndefined();
    guard.pass(begin(815));
    expect(guard.pass(within(signed(ask)))).toBeUndefined();
    expect(forged).toBe(2);
    expect([ask, '{"confirm": "0/1"}'].map((text) => isLockAsk(Buffer.from(text)))).toEqual([
      true,
      false,
    ]);
  });

  test('takes the signature off a heartbeat that arrives in its own transaction', () => {
    expect(guard.pass(begin(815))).toEqual(begin(815));
    expect(content(guard.pass(within(signed(heartbeat(815)))))).toBe(heartbeat(815));
    expect(forged).toBe(0);
  });

  test('knows its transaction by the lower 32 bits, which is what the stream carries', () => {
    const xid = 3 * 2 ** 32 + 815;
    guard.pass(begin(815));
    expect(content(guard.pass(within(signed(heartbeat(xid)))))).toBe(heartbeat(xid));
  });

  test.each([
    ['without a signature', heartbeat(815)],
    ['copied into another transaction', signed(heartbeat(814))],
    ['that is no heartbeat', signed('{"confirm": "0/1"}')],
    ['that is no JSON', signed('{')],
  ])('ignores a message %s', (_, text) => {
    guard.pass(begin(815));
    expect(guard.pass(within(text))).toBeUndefined();
    expect(forged).toBe(1);
  });

  test('ignores the second copy in one transaction, and one that fits again after all ids were used', () => {
    const old = signed(heartbeat(815));
    guard.pass(begin(815));
    expect(guard.pass(within(old))).toBeDefined();
    expect(guard.pass(within(old))).toBeUndefined();
    guard.pass(begin(816));
    expect(guard.pass(within(signed(heartbeat(2 ** 32 + 816))))).toBeDefined();
    guard.pass(begin(815));
    expect(guard.pass(within(old))).toBeUndefined();
    expect(forged).toBe(2);
  });

  test('a message of no transaction may ask for a confirmation, and be nothing else', () => {
    const confirm = '{"confirm": "0/1"}';
    expect(content(guard.pass(alone(signed(confirm))))).toBe(confirm);
    expect(guard.pass(alone(confirm))).toBeUndefined();
    guard.pass(begin(815));
    expect(guard.pass(alone(signed(heartbeat(815))))).toBeUndefined();
    expect(forged).toBe(2);
  });

  test('leaves all else alone', () => {
    for (const received of [
      within('anything', 'mine'),
      { kind: 'commit', endLsn: 110 as Lsn, commitTime: 7 as PgTime } as const,
    ]) {
      expect(guard.pass(received)).toBe(received);
    }
    expect(forged).toBe(0);
  });
});
