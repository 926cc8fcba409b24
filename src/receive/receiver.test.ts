import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../base/bytes.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import { encodeMessage } from '../pgoutput/encode.ts';
import type { Message } from '../pgoutput/message.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import { Receiver, type Received } from './receiver.ts';

const lsn = (value: number) => value as Lsn;

const ITEM: Relation = {
  id: 1,
  schema: 'public',
  name: 'item',
  replicaIdentity: 'default',
  columns: [{ name: 'id', typeOid: 23, typmod: -1, isKey: true }],
};

const begin = (xid: number, finalLsn = 100): Message => ({
  kind: 'begin',
  xid,
  finalLsn: lsn(finalLsn),
  commitTime: 7 as PgTime,
});
const commit = (endLsn = 110): Message => ({
  kind: 'commit',
  commitLsn: lsn(endLsn - 10),
  endLsn: lsn(endLsn),
  commitTime: 7 as PgTime,
});
const relation = (described: Relation = ITEM): Message => ({
  kind: 'relation',
  xid: 0,
  relation: described,
});
const insert = (id: string): Message => ({
  kind: 'insert',
  xid: 0,
  relationId: 1,
  newTuple: tupleOf([id]),
});
const origin: Message = { kind: 'origin', lsn: lsn(5), name: 'elsewhere' };
const message = (transactional: boolean): Message => ({
  kind: 'message',
  xid: 0,
  transactional,
  lsn: lsn(50),
  prefix: 'bdr',
  content: Buffer.from('{}'),
});

function receiverOf(skips: (transaction: { xid: number; finalLsn: Lsn }) => boolean = () => false) {
  const receiver = new Receiver(skips);
  const receive = (...messages: Message[]): Received[] =>
    messages.flatMap((sent) => {
      const buffer = encodeMessage(sent);
      const received: Received[] = [];
      receiver.receive(
        {
          kind: 'xlogData',
          startLsn: lsn(0),
          endLsn: lsn(0),
          sendTime: 0 as PgTime,
          buffer,
          payloadStart: 0,
          payloadEnd: buffer.length,
        },
        (one) => received.push(one),
      );
      return received;
    });
  return receive;
}

const kinds = (received: readonly Received[]) => received.map(({ kind }) => kind);

describe('Receiver', () => {
  test('holds the begin back until something of the transaction comes', () => {
    const receive = receiverOf();
    expect(receive(begin(1), relation())).toEqual([]);
    const received = receive(insert('1'));
    expect(kinds(received)).toEqual(['begin', 'insert']);
    expect(received[0]).toEqual({ kind: 'begin', xid: 1, finalLsn: 100, commitTime: 7 });
    expect(kinds(receive(insert('2'), commit()))).toEqual(['insert', 'commit']);
  });

  test('gives an empty transaction as a begin and a commit', () => {
    expect(receiverOf()(begin(1), commit(120))).toEqual([
      { kind: 'begin', xid: 1, finalLsn: 100, commitTime: 7 },
      { kind: 'commit', endLsn: 120, commitTime: 7 },
    ]);
  });

  test('leaves out a transaction of another origin, and keeps what it described', () => {
    const receive = receiverOf();
    expect(receive(begin(1), origin, relation(), insert('1'), message(true), commit())).toEqual([]);
    expect(kinds(receive(begin(2), insert('2'), commit()))).toEqual(['begin', 'insert', 'commit']);
  });

  test('leaves out transactions that the copied snapshot shows', () => {
    const asked: unknown[] = [];
    const receive = receiverOf(({ xid, finalLsn }) => {
      asked.push([xid, finalLsn]);
      return xid === 1;
    });
    expect(receive(begin(1, 90), relation(), insert('1'), commit())).toEqual([]);
    expect(kinds(receive(begin(2), insert('2'), commit()))).toEqual(['begin', 'insert', 'commit']);
    expect(asked).toEqual([
      [1, 90],
      [2, 100],
    ]);
  });

  test('gives messages outside of transactions at once, one between a begin and its changes too', () => {
    const receive = receiverOf();
    expect(kinds(receive(message(false)))).toEqual(['message']);
    expect(kinds(receive(begin(1), message(false)))).toEqual(['message']);
    expect(kinds(receive(message(true), commit()))).toEqual(['begin', 'message', 'commit']);
    expect(kinds(receive(begin(2), origin, message(false), commit()))).toEqual(['message']);
  });

  test('joins each change to the relation as it was described by then', () => {
    const receive = receiverOf();
    const renamed: Relation = { ...ITEM, name: 'renamed' };
    const received = receive(begin(1), relation(), insert('1'), relation(renamed), insert('2'));
    const names = received.map((one) => (one.kind === 'insert' ? one.relation.name : one.kind));
    expect(names).toEqual(['begin', 'item', 'renamed']);
  });

  test('gives truncates with all their relations', () => {
    const receive = receiverOf();
    const received = receive(begin(1), relation(), {
      kind: 'truncate',
      xid: 0,
      relationIds: [1],
      cascade: true,
      restartIdentity: false,
    });
    expect(received[1]).toMatchObject({
      kind: 'truncate',
      relations: [{ name: 'item' }],
      cascade: true,
    });
  });

  test.each<[string, readonly Message[]]>([
    ['a change outside of any transaction', [relation(), insert('1')]],
    ['a change of a relation that was never described', [begin(1), insert('1')]],
    ['a transaction inside another', [begin(1), begin(2)]],
    ['a commit without a begin', [commit()]],
    ['an origin in the middle', [begin(1), relation(), insert('1'), origin]],
    ['a transactional message outside of any transaction', [message(true)]],
    ['a chunk of a streamed transaction', [{ kind: 'streamStart', xid: 1, firstChunk: true }]],
  ])('refuses %s', (_, messages) => {
    expect(() => receiverOf()(...messages)).toThrow(ProtocolError);
  });
});
