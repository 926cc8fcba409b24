import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  abort,
  begin,
  commit,
  insert,
  lsn,
  start,
  stop,
  streamCommit,
  time,
} from '../../test/support/wire-messages.ts';
import { ProtocolError } from '../base/bytes.ts';
import { Assembler } from './assemble.ts';
import type { Message } from './message.ts';
import type { Relation, RemoteTransaction } from './transaction.ts';
import { tupleOf, valuesOf } from './tuple-value.ts';

const origin = (name: string): Message => ({ kind: 'origin', name, lsn: lsn(5) });

function relationOf(columns: readonly string[], id = 1): Relation {
  return {
    id,
    schema: 'public',
    name: `t${id}`,
    replicaIdentity: 'default',
    columns: columns.map((name, i) => ({ name, typeOid: 25, typmod: -1, isKey: i === 0 })),
  };
}
const describeRelation = (relation: Relation, xid = 0): Message => ({
  kind: 'relation',
  xid,
  relation,
});
const T = relationOf(['id']);
const message = (transactional: boolean, prefix = 'p'): Message => ({
  kind: 'message',
  xid: 0,
  transactional,
  lsn: lsn(1),
  prefix,
  content: Buffer.from('c'),
});

/** Pushes messages, grouped as reads best, and collects the transactions that they complete. */
function transactionsOf(
  assembler: Assembler,
  messages: readonly (Message | readonly Message[])[],
): RemoteTransaction[] {
  return messages
    .flat()
    .map((each) => assembler.push(each))
    .filter((out) => out?.kind === 'transaction')
    .map((out) => out.transaction);
}

/** The first column of each inserted row. */
function inserted(transaction: RemoteTransaction | undefined): unknown[] | undefined {
  return transaction?.changes.map((change) =>
    change.kind === 'insert' ? valuesOf(change.newTuple)[0] : change.kind,
  );
}

describe('plain transactions', () => {
  test('a transaction comes out whole at its commit, and not before', () => {
    const assembler = new Assembler();
    const open = [begin(9), origin('b'), describeRelation(T), insert('1'), insert('2')];
    for (const each of open) expect(assembler.push(each)).toBeNull();
    const [transaction] = transactionsOf(assembler, [commit()]);
    expect(transaction).toMatchObject({
      xid: 9,
      commitLsn: 100,
      endLsn: 108,
      commitTime: 7,
      origin: { name: 'b', lsn: 5 },
    });
    expect(inserted(transaction)).toEqual(['1', '2']);
  });

  test('a transaction of the provider itself has no origin, and may be empty', () => {
    const [, second] = transactionsOf(new Assembler(), [
      [begin(1), origin('b'), commit()],
      [begin(2), commit()],
    ]);
    expect(second).toMatchObject({ xid: 2, origin: null, changes: [] });
  });

  test('every kind of change keeps its place and its relation', () => {
    const other = relationOf(['id', 'v'], 2);
    const [key, old, row] = [tupleOf(['1']), tupleOf(['1', 'a']), tupleOf(['2', 'b'])];
    const [transaction] = transactionsOf(new Assembler(), [
      begin(1),
      describeRelation(T),
      describeRelation(other),
      { kind: 'type', xid: 0, id: 3, schema: 's', name: 'mood' },
      { kind: 'update', xid: 0, relationId: 2, oldTuple: old, oldTupleIsKey: false, newTuple: row },
      { kind: 'delete', xid: 0, relationId: 1, oldTuple: key, oldTupleIsKey: true },
      { kind: 'truncate', xid: 0, relationIds: [2, 1], cascade: true, restartIdentity: false },
      message(true),
      commit(),
    ]);
    expect(transaction?.changes).toMatchObject([
      { kind: 'update', relation: other, oldTuple: old, oldTupleIsKey: false, newTuple: row },
      { kind: 'delete', relation: T, oldTuple: key, oldTupleIsKey: true },
      { kind: 'truncate', relations: [other, T], cascade: true, restartIdentity: false },
      { kind: 'message', transactional: true, lsn: 1, prefix: 'p', content: Buffer.from('c') },
    ]);
  });

  test('a change refers to the relation as it was described when the change arrived', () => {
    const wider = relationOf(['id', 'v']);
    const [first, second] = transactionsOf(new Assembler(), [
      [begin(1), describeRelation(T), insert('1'), commit()],
      [begin(2), insert('2'), describeRelation(wider), insert(['3', 'x']), commit()],
    ]);
    expect(first?.changes).toMatchObject([{ relation: T }]);
    expect(second?.changes).toMatchObject([{ relation: T }, { relation: wider }]);
  });

  test('a relation described again without a difference stays the same object', () => {
    const again = relationOf(['id']);
    const [transaction] = transactionsOf(new Assembler(), [
      [begin(1), describeRelation(T), describeRelation(again), insert('1'), commit()],
    ]);
    const [change] = transaction?.changes ?? [];
    expect(change?.kind === 'insert' && change.relation).toBe(T);
  });
});

describe('messages outside transactions', () => {
  test('a non-transactional message comes out at once, wherever it stands', () => {
    const assembler = new Assembler();
    const out = { kind: 'message', message: { prefix: 'p', transactional: false } };
    expect(assembler.push(message(false))).toMatchObject(out);
    assembler.push(begin(1));
    expect(assembler.push(message(false))).toMatchObject(out);
    expect(transactionsOf(assembler, [commit()])).toMatchObject([{ changes: [] }]);
  });
});

describe('streamed transactions', () => {
  test('chunks of several transactions may alternate, with plain transactions between them', () => {
    const transactions = transactionsOf(new Assembler(), [
      [start(1), describeRelation(T, 1), insert('a1', 1), stop],
      [start(2), describeRelation(T, 2), insert('b1', 2), stop],
      [begin(3), describeRelation(T), insert('c1'), commit()],
      [start(1, false), insert('a2', 1), stop],
      [start(2, false), insert('b2', 2), stop, streamCommit(2)],
      [start(1, false), insert('a3', 1), stop, streamCommit(1)],
    ]);
    expect(transactions.map((each) => each.xid)).toEqual([3, 2, 1]);
    expect(transactions.map(inserted)).toEqual([['c1'], ['b1', 'b2'], ['a1', 'a2', 'a3']]);
    expect(transactions[1]).toMatchObject({ commitLsn: 200, endLsn: 208, commitTime: 9 });
  });

  test('the origin, sent in the first chunk only, is remembered for its transaction', () => {
    const transactions = transactionsOf(new Assembler(), [
      [start(1), origin('b'), describeRelation(T, 1), insert('1', 1), stop],
      [start(2), stop],
      [start(1, false), insert('2', 1), stop],
      [streamCommit(2), streamCommit(1)],
    ]);
    expect(transactions.map((each) => each.origin)).toEqual([null, { name: 'b', lsn: 5 }]);
  });

  test('an aborted subtransaction takes its own changes along and no others', () => {
    const [transaction] = transactionsOf(new Assembler(), [
      [start(1), describeRelation(T, 1), insert('a', 1), insert('b', 10), insert('c', 1)],
      [insert('d', 11), insert('e', 10), stop],
      [abort(1, 10)],
      [start(1, false), insert('f', 11), insert('g', 1), insert('h', 12), stop],
      [abort(1, 12), abort(1, 13), streamCommit(1)],
    ]);
    expect(inserted(transaction)).toEqual(['a', 'c', 'd', 'f', 'g']);
  });

  test('an aborted transaction leaves nothing behind, and its id can be used again', () => {
    const assembler = new Assembler();
    const transactions = transactionsOf(assembler, [
      [start(1), describeRelation(T, 1), insert('a', 1), stop, abort(1)],
      [start(1), describeRelation(T, 1), insert('b', 1), stop, streamCommit(1)],
    ]);
    expect(transactions.map(inserted)).toEqual([['b']]);
    expect(assembler.heldBytes).toBe(0);
  });

  test('a table altered in a streamed transaction is new to others only once that has committed', () => {
    const wider = relationOf(['id', 'v']);
    const assembler = new Assembler();
    const transactions = transactionsOf(assembler, [
      [begin(1), describeRelation(T), insert('1'), commit()],
      [start(2), describeRelation(wider, 2), insert(['2', 'x'], 2), stop],
      [begin(3), insert('3'), commit()],
      streamCommit(2),
      [begin(4), insert(['4', 'x']), commit()],
    ]);
    expect(transactions.flatMap((each) => each.changes)).toMatchObject(
      [T, T, wider, wider].map((relation) => ({ relation })),
    );
  });

  test('a later description is not overwritten by an earlier one of a transaction that ends after it', () => {
    const wider = relationOf(['id', 'v']);
    const transactions = transactionsOf(new Assembler(), [
      [start(1), describeRelation(T, 1), insert('1', 1), stop],
      [begin(2), describeRelation(wider), insert(['2', 'x']), commit()],
      streamCommit(1),
      [begin(3), insert(['3', 'x']), commit()],
    ]);
    expect(transactions[2]?.changes).toMatchObject([{ relation: wider }]);
  });

  test('relations of an aborted transaction are unknown to those after it', () => {
    const assembler = new Assembler();
    transactionsOf(assembler, [start(1), describeRelation(T, 1), stop, abort(1), begin(2)]);
    expect(() => assembler.push(insert('1'))).toThrow(/relation 1, which was not described/);
  });

  /** What happens in a stream, step by step; `slot` picks one of three transactions. */
  const step = fc.record({
    slot: fc.nat(2),
    sub: fc.nat(3),
    act: fc.constantFrom('insert', 'insert', 'insert', 'abortSub', 'abort', 'commit'),
  });

  test('any interleaving gives each transaction exactly the changes that were not taken back', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const assembler = new Assembler();
        const model = new Map<number, [xid: number, value: string][]>();
        const [expected, actual]: [unknown[], unknown[]] = [[], []];
        const xids = [100, 200, 300];
        const push = (each: Message) =>
          actual.push(...transactionsOf(assembler, [each]).map(inserted));
        steps.forEach(({ slot, sub, act }, i) => {
          const xid = xids[slot] as number;
          const known = model.get(xid);
          if (act === 'insert') {
            push(start(xid, known === undefined));
            if (known === undefined) push(describeRelation(T, xid));
            push(insert(`${i}`, xid + sub));
            push(stop);
            model.set(xid, [...(known ?? []), [xid + sub, `${i}`]]);
          } else if (known !== undefined && act === 'abortSub' && sub > 0) {
            push(abort(xid, xid + sub));
            model.set(
              xid,
              known.filter(([owner]) => owner !== xid + sub),
            );
          } else if (known !== undefined && act !== 'abortSub') {
            push(act === 'commit' ? streamCommit(xid) : abort(xid));
            if (act === 'commit') expected.push(known.map(([, value]) => value));
            model.delete(xid);
          }
        });
        for (const xid of model.keys()) push(abort(xid));
        expect(actual).toEqual(expected);
        expect(assembler.heldBytes).toBe(0);
      }),
      { numRuns: 500 },
    );
  });
});

describe('held bytes', () => {
  test('grow with each change and return to nothing when all has ended', () => {
    const assembler = new Assembler();
    const held = (...messages: Message[]) => {
      transactionsOf(assembler, messages);
      return assembler.heldBytes;
    };
    const one = held(begin(1), describeRelation(T), insert('x'.repeat(1000)));
    expect(one).toBeGreaterThan(1000);
    expect(held(insert('x'.repeat(1000)))).toBe(2 * one);
    expect(held(commit())).toBe(0);
    expect(held(start(2), insert('y', 2), stop)).toBeGreaterThan(0);
    const before = assembler.heldBytes;
    expect(held(start(2, false), insert('z', 21), stop)).toBeGreaterThan(before);
    expect(held(abort(2, 21))).toBe(before);
    expect(held(streamCommit(2))).toBe(0);
  });

  test('a transaction says how many it held', () => {
    const assembler = new Assembler();
    transactionsOf(assembler, [begin(1), describeRelation(T), insert('1')]);
    const { heldBytes } = assembler;
    expect(transactionsOf(assembler, [commit()])).toMatchObject([{ bytes: heldBytes }]);
  });
});

const prepared = { prepareLsn: lsn(1), endLsn: lsn(2), prepareTime: time(3), xid: 1, gid: 'g' };

test.each<[string, Message[]]>([
  ['a commit without a begin', [commit()]],
  ['a begin inside a transaction', [begin(1), begin(2)]],
  ['a begin inside a chunk', [start(1), begin(2)]],
  ['a commit inside a chunk', [start(1), commit()]],
  ['a commit elsewhere than announced', [begin(1, 100), commit(101)]],
  ['a change outside a transaction', [describeRelation(T), insert('1')]],
  ['a change between chunks', [start(1), describeRelation(T, 1), stop, insert('1', 1)]],
  ['a transactional message outside a transaction', [message(true)]],
  ['an origin outside a transaction', [origin('b')]],
  ['a change of an unknown relation', [begin(1), insert('1')]],
  [
    'a truncate of an unknown relation',
    [
      begin(1),
      { kind: 'truncate', xid: 0, relationIds: [1], cascade: false, restartIdentity: false },
    ],
  ],
  [
    'a tuple with other columns than its relation',
    [begin(1), describeRelation(T), insert(['1', '2'])],
  ],
  ['a chunk inside a chunk', [start(1), start(2)]],
  ['a chunk inside a transaction', [begin(1), start(2)]],
  ['a first chunk that is the second', [start(1), stop, start(1)]],
  ['a later chunk without a first', [start(1, false)]],
  ['the end of a chunk outside one', [stop]],
  ['the end of a chunk in a plain transaction', [begin(1), stop]],
  ['the commit of a transaction that was not streamed', [streamCommit(1)]],
  ['the abort of a transaction that was not streamed', [abort(1)]],
  ['the commit of a streamed transaction inside its chunk', [start(1), streamCommit(1)]],
  ['the abort of a streamed transaction inside its chunk', [start(1), abort(1)]],
  ['begin prepare', [{ kind: 'beginPrepare', ...prepared }]],
  ['prepare', [{ kind: 'prepare', ...prepared }]],
  ['stream prepare', [start(1), stop, { kind: 'streamPrepare', ...prepared }]],
])('%s is a protocol error', (_, messages) => {
  const assembler = new Assembler();
  for (const each of messages.slice(0, -1)) assembler.push(each);
  expect(() => assembler.push(messages.at(-1) as Message)).toThrow(ProtocolError);
});
