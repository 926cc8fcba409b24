import { describe, expect, test } from 'vitest';
import type { Lsn } from '../base/lsn.ts';
import { AckLedger } from './ack-ledger.ts';

const lsn = (value: number) => value as Lsn;
const log = (insert: number, flush: number) => ({ insert: lsn(insert), flush: lsn(flush) });

describe('AckLedger', () => {
  test('begins with what was durable at the start', () => {
    const ledger = new AckLedger(lsn(10));
    expect([ledger.applied, ledger.durable, ledger.hasUnflushed]).toEqual([10, 10, false]);
  });

  test('a position is durable once the local log is flushed past its commit, not before', () => {
    const ledger = new AckLedger(lsn(10));
    ledger.committed(lsn(20));
    expect(ledger.durable).toBe(10);
    ledger.observed(ledger.applied, log(500, 400));
    expect([ledger.durable, ledger.hasUnflushed]).toEqual([10, true]);
    ledger.observed(ledger.applied, log(600, 499));
    expect(ledger.durable).toBe(10);
    ledger.observed(ledger.applied, log(600, 500));
    expect([ledger.durable, ledger.hasUnflushed]).toEqual([20, false]);
  });

  test('a commit that came while the positions were asked for waits for the next answer', () => {
    const ledger = new AckLedger(lsn(10));
    ledger.committed(lsn(20));
    const upTo = ledger.applied;
    // The server answers, and commits the next transaction before the answer is here.
    ledger.committed(lsn(30));
    ledger.observed(upTo, log(500, 500));
    expect([ledger.durable, ledger.hasUnflushed]).toEqual([20, true]);
    ledger.observed(ledger.applied, log(700, 600));
    expect(ledger.durable).toBe(20);
    ledger.observed(ledger.applied, log(700, 700));
    expect([ledger.durable, ledger.hasUnflushed]).toEqual([30, false]);
  });

  test('several positions become durable one after the other', () => {
    const ledger = new AckLedger(lsn(0));
    for (const [remote, insert] of [
      [1, 100],
      [2, 200],
      [3, 300],
    ] as const) {
      ledger.committed(lsn(remote));
      ledger.observed(ledger.applied, log(insert, 50));
    }
    ledger.observed(ledger.applied, log(350, 250));
    expect(ledger.durable).toBe(2);
    ledger.observed(ledger.applied, log(350, 350));
    expect(ledger.durable).toBe(3);
  });

  test('being told the same position again changes nothing', () => {
    const ledger = new AckLedger(lsn(10));
    ledger.committed(lsn(10));
    ledger.observed(ledger.applied, log(100, 100));
    expect([ledger.applied, ledger.durable, ledger.hasUnflushed]).toEqual([10, 10, false]);
  });
});
