import { describe, expect, test } from 'vitest';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import type { Received } from './receiver.ts';
import { SkipFilter } from './skip-filter.ts';

const lsn = (value: number) => value as Lsn;
const relation = (name: string): Relation => ({
  id: 1,
  schema: 'public',
  name,
  replicaIdentity: 'default',
  columns: [],
});
const begin = (finalLsn: number, xid = 9): Received => ({
  kind: 'begin',
  xid,
  finalLsn: lsn(finalLsn),
  commitTime: 7 as PgTime,
});
const insert = (table: string): Received => ({
  kind: 'insert',
  relation: relation(table),
  newTuple: tupleOf(['1']),
});
const message = {
  kind: 'message',
  transactional: true,
  lsn: lsn(50),
  prefix: 'bdr',
  content: Buffer.from('{}'),
} as const;
const commit = (endLsn: number): Received => ({
  kind: 'commit',
  endLsn: lsn(endLsn),
  commitTime: 7 as PgTime,
});

const passed = (upto: number | undefined, ...stream: Received[]) => {
  const filter = new SkipFilter(upto === undefined ? undefined : lsn(upto));
  return stream.map((received) => filter.pass(received)).filter((left) => left !== undefined);
};

describe('SkipFilter', () => {
  test('leaves everything alone when nothing is to be skipped', () => {
    const stream = [begin(100), insert('t'), commit(110)];
    expect(passed(undefined, ...stream)).toEqual(stream);
  });

  test('makes one note of a transaction whose commit lies at the position', () => {
    const truncate: Received = {
      kind: 'truncate',
      relations: [relation('a'), relation('B')],
      cascade: false,
      restartIdentity: false,
    };
    const stream = [begin(100), insert('t'), insert('t'), truncate, commit(110)];
    expect(passed(100, ...stream)).toEqual([
      {
        kind: 'skipped',
        xid: 9,
        commitLsn: 100,
        endLsn: 110,
        commitTime: 7,
        contents: { changes: 4, tables: ['public."B"', 'public.a', 'public.t'] },
      },
    ]);
  });

  // The end of one commit record may be the beginning of the next.
  test('leaves the transaction alone that commits where the skipped one ends', () => {
    const later = [begin(110, 10), insert('t'), commit(120)];
    const left = passed(100, begin(100), insert('t'), commit(110), ...later);
    expect(left.slice(1)).toEqual(later);
    expect(passed(109, ...later)).toEqual(later);
  });

  test('counts no change for a message', () => {
    expect(passed(100, begin(100), message, commit(110))).toMatchObject([
      { contents: { changes: 0, tables: [] } },
    ]);
  });

  test('passes what cannot be sent, up to the position, to where its commit has begun', () => {
    const unsent = { kind: 'begin', xid: 9, finalLsn: lsn(100), commitTime: 7 as PgTime } as const;
    const note = { kind: 'skipped', xid: 9, commitLsn: 100, endLsn: 101, contents: null };
    expect(new SkipFilter(lsn(100)).passUnsent(unsent)).toMatchObject(note);
    expect(new SkipFilter(lsn(99)).passUnsent(unsent)).toBeUndefined();
    expect(new SkipFilter(undefined).passUnsent(unsent)).toBeUndefined();
  });

  test('leaves messages between transactions alone', () => {
    const alone: Received = { ...message, transactional: false };
    expect(passed(100, begin(100), alone)).toEqual([alone]);
  });
});
