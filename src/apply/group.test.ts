import { describe, expect, test } from 'vitest';
import type { Lsn } from '../base/lsn.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import type { Change } from '../pgoutput/transaction.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import { groupSize } from './group.ts';
import { PartBuilder, type TransactionPart } from './transaction-part.ts';
import { Seen } from '../model/seen.ts';

const EVERYTHING = Infinity as PgTime;
const relation = (schema: string) =>
  ({ id: 1, schema, name: 'item', replicaIdentity: 'default', columns: [] }) as const;
const insert = (schema = 'public'): Change => ({
  kind: 'insert',
  relation: relation(schema),
  newTuple: tupleOf([]),
});
const truncate: Change = {
  kind: 'truncate',
  relations: [relation('public')],
  cascade: false,
  restartIdentity: false,
};

function builder(time: number): PartBuilder {
  const commitLsn = time as Lsn;
  return new PartBuilder({ xid: 7, commitTime: time as PgTime, commitLsn, seen: new Seen() });
}

function transaction(time: number, changes: readonly Change[] = [insert()]): TransactionPart {
  const part = builder(time);
  for (const change of changes) part.add(change);
  return part.end((time + 1) as Lsn);
}

describe('which transactions share a commit', () => {
  test('all up to the limit, in a row', () => {
    const parts = [3, 5, 4, 6, 2].map((time) => transaction(time));
    expect(groupSize(parts, EVERYTHING)).toBe(5);
    expect(groupSize(parts, 5 as PgTime)).toBe(3);
    expect(groupSize(parts, 6 as PgTime)).toBe(5);
  });

  test('one above the limit goes by itself, and none waits for it', () => {
    const parts = [9, 3, 4].map((time) => transaction(time));
    expect(groupSize(parts, 8 as PgTime)).toBe(1);
    expect(groupSize(parts, LONG_AGO)).toBe(1);
    expect(groupSize(parts.slice(1), 8 as PgTime)).toBe(2);
  });

  test('a TRUNCATE and a change of the group’s own tables go by themselves', () => {
    for (const change of [truncate, insert('bdr')]) {
      const parts = [transaction(1), transaction(2, [insert(), change]), transaction(3)];
      expect(groupSize(parts, EVERYTHING)).toBe(1);
      expect(groupSize(parts.slice(1), EVERYTHING)).toBe(1);
    }
  });

  test('so much that locks are not held for long', () => {
    const many = Array.from({ length: 4000 }, () => insert());
    const parts = [1, 2, 3, 4].map((time) => transaction(time, many));
    expect(groupSize(parts, EVERYTHING)).toBe(2);
  });

  test('a large transaction goes by itself, part by part', () => {
    const large = builder(5);
    const parts: TransactionPart[] = [transaction(4)];
    for (let row = 0; row < 25_000; row++) {
      const part = large.add(insert());
      if (part) parts.push(part);
    }
    parts.push(large.end(6 as Lsn), transaction(7));
    expect(parts.map(({ changes }) => changes.length)).toEqual([1, 10_000, 10_000, 5000, 1]);
    expect(parts.map(({ isFirst, endLsn }) => [isFirst, endLsn])).toEqual([
      [true, 5],
      [true, undefined],
      [false, undefined],
      [false, 6],
      [true, 8],
    ]);
    for (let first = 0; first < parts.length; first++) {
      expect(groupSize(parts.slice(first), EVERYTHING)).toBe(1);
    }
  });
});
