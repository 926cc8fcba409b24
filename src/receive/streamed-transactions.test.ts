import os from 'node:os';
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
import type { Lsn } from '../base/lsn.ts';
import { Assembler } from '../pgoutput/assemble.ts';
import { encodeMessage } from '../pgoutput/encode.ts';
import type { Message } from '../pgoutput/message.ts';
import type { Change, Relation } from '../pgoutput/transaction.ts';
import { valuesOf } from '../pgoutput/tuple-value.ts';
import { Receiver, type Received, type Watcher } from './receiver.ts';
import { StreamedTransactions } from './streamed-transactions.ts';

function item(name = 'item', columns: readonly string[] = ['id']): Relation {
  return {
    id: 1,
    schema: 'public',
    name,
    replicaIdentity: 'default',
    columns: columns.map((column, i) => ({
      name: column,
      typeOid: 25,
      typmod: -1,
      isKey: i === 0,
    })),
  };
}

const origin: Message = { kind: 'origin', lsn: lsn(0), name: 'elsewhere' };
const relation = (xid = 0, described = item()): Message => ({
  kind: 'relation',
  xid,
  relation: described,
});
const message = (transactional: boolean, xid = 0): Message => ({
  kind: 'message',
  xid,
  transactional,
  lsn: lsn(50),
  prefix: 'p',
  content: Buffer.from('c'),
});

/** A transaction as it was received: its id and what it did, or a message that belongs to none. */
type Got = { readonly xid: number; readonly did: readonly string[] } | 'message';

/** Receives messages as a link does, and collects what it hands on. */
class Link implements AsyncDisposable {
  readonly got: Got[] = [];
  readonly raw: Received[] = [];
  /** Called where a link would wait for room, while a streamed transaction is handed on. */
  rooms = 0;
  readonly #streamed = new StreamedTransactions(os.tmpdir());
  readonly #receiver: Receiver;
  #open: { xid: number; did: string[] } | undefined;

  constructor(
    skips: (transaction: { xid: number; finalLsn: Lsn }) => boolean = () => false,
    watcher?: Watcher,
  ) {
    this.#receiver = new Receiver(skips, this.#streamed, watcher);
  }

  async receive(messages: readonly (Message | readonly Message[])[]): Promise<Got[]> {
    const take = (received: Received) => this.#take(received);
    for (const each of messages.flat()) {
      const buffer = encodeMessage(each);
      const frame = { payloadStart: 0, payloadEnd: buffer.length, buffer };
      const at = { startLsn: lsn(0), endLsn: lsn(0), sendTime: time(0) };
      const committed = this.#receiver.receive({ kind: 'xlogData', ...at, ...frame }, take);
      if (!committed) continue;
      await this.#receiver.replay(committed, take, () => {
        this.rooms += 1;
        return Promise.resolve();
      });
    }
    await this.#streamed.room();
    return this.got;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#streamed[Symbol.asyncDispose]();
  }

  #take(received: Received): void {
    this.raw.push(received);
    if (received.kind === 'message' && !received.transactional) this.got.push('message');
    else if (received.kind === 'begin') {
      expect(this.#open, 'a transaction begins inside another').toBeUndefined();
      this.#open = { xid: received.xid, did: [] };
    } else if (received.kind === 'commit') {
      if (this.#open) this.got.push(this.#open);
      this.#open = undefined;
    } else this.#open?.did.push(textOf(received));
  }
}

function textOf(change: Change): string {
  if (change.kind !== 'insert') return change.kind;
  return `${change.relation.name}:${valuesOf(change.newTuple).join(',')}`;
}

async function received(...messages: (Message | readonly Message[])[]): Promise<Got[]> {
  await using link = new Link();
  return await link.receive(messages);
}

describe('streamed transactions', () => {
  test('are handed on at their commit, with its position and time, whole', async () => {
    await using link = new Link();
    await link.receive([start(1), relation(1), insert('a', 1), stop]);
    expect(link.raw).toEqual([]);
    await link.receive([start(1, false), insert('b', 2), message(true, 1), stop, streamCommit(1)]);
    expect(link.raw.map(({ kind }) => kind)).toEqual([
      'begin',
      'insert',
      'insert',
      'message',
      'commit',
    ]);
    expect(link.raw[0]).toEqual({ kind: 'begin', xid: 1, finalLsn: 200, commitTime: 9 });
    expect(link.raw.at(-1)).toEqual({ kind: 'commit', endLsn: 208, commitTime: 9 });
    expect(link.got).toEqual([{ xid: 1, did: ['item:a', 'item:b', 'message'] }]);
  });

  test('alternate, with plain transactions between them that wait for nobody', async () => {
    expect(
      await received(
        [start(1), relation(1), insert('a1', 1), stop],
        [start(2), relation(2), insert('b1', 2), stop],
        [begin(3), relation(), insert('c1'), commit()],
        [start(1, false), insert('a2', 1), stop],
        [start(2, false), insert('b2', 2), stop, streamCommit(2)],
        [start(1, false), insert('a3', 1), stop, streamCommit(1)],
      ),
    ).toEqual([
      { xid: 3, did: ['item:c1'] },
      { xid: 2, did: ['item:b1', 'item:b2'] },
      { xid: 1, did: ['item:a1', 'item:a2', 'item:a3'] },
    ]);
  });

  test('lose what their aborted subtransactions did, nested ones too, and nothing else', async () => {
    expect(
      await received(
        [start(1), relation(1), insert('a', 1), insert('b', 10), insert('c', 1)],
        [insert('d', 11), insert('e', 10), insert('f', 12), stop],
        // A subtransaction and the one inside it; one that has sent nothing.
        [abort(1, 12), abort(1, 10), abort(1, 77)],
        [start(1, false), insert('g', 11), insert('h', 13), stop, streamCommit(1)],
      ),
    ).toEqual([{ xid: 1, did: ['item:a', 'item:c', 'item:d', 'item:g', 'item:h'] }]);
  });

  test('keep what an aborted subtransaction has described: it is not described again', async () => {
    expect(
      await received(
        [start(1), relation(10), insert('a', 10), stop, abort(1, 10)],
        [start(1, false), insert('b', 1), stop, streamCommit(1)],
      ),
    ).toEqual([{ xid: 1, did: ['item:b'] }]);
  });

  test('are gone when they abort', async () => {
    expect(
      await received(
        [start(1), relation(1), insert('a', 1), stop, abort(1)],
        [start(2), relation(2), insert('b', 2), stop, streamCommit(2)],
      ),
    ).toEqual([{ xid: 2, did: ['item:b'] }]);
  });

  test('of another origin, which only the first chunk names, are left out', async () => {
    expect(
      await received(
        [start(1), origin, relation(1), insert('a', 1), stop],
        [start(2), relation(2), insert('b', 2), stop],
        [start(1, false), insert('c', 1), stop, streamCommit(1), streamCommit(2)],
        // What it described is known from its commit on.
        [begin(3), insert('d'), commit()],
      ),
    ).toEqual([
      { xid: 2, did: ['item:b'] },
      { xid: 3, did: ['item:d'] },
    ]);
  });

  test('that a copied snapshot shows are left out by their commit', async () => {
    const asked: unknown[] = [];
    await using link = new Link(({ xid, finalLsn }) => {
      asked.push([xid, finalLsn]);
      return xid === 1;
    });
    const got = await link.receive([
      [start(1), relation(1), insert('a', 1), stop, streamCommit(1, 90)],
      [begin(2), insert('b'), commit()],
    ]);
    expect(got).toEqual([{ xid: 2, did: ['item:b'] }]);
    expect(asked).toEqual([
      [1, 90],
      [2, 100],
    ]);
  });

  test('see each table as it was described when the change came, and so do others after their commit', async () => {
    const renamed = item('renamed');
    const later = item('later', ['id', 'v']);
    expect(
      await received(
        [begin(1), relation(), insert('a'), commit()],
        [start(2), relation(2), insert('b', 2), relation(2, renamed), insert('c', 2), stop],
        [begin(3), insert('d'), commit()],
        streamCommit(2),
        [begin(4), insert('e'), commit()],
        // A later description stands, whoever commits last.
        [start(5), relation(5), insert('f', 5), stop],
        [begin(6), relation(0, later), insert(['g', 'v']), commit()],
        streamCommit(5),
        [begin(7), insert(['h', 'v']), commit()],
      ),
    ).toEqual([
      { xid: 1, did: ['item:a'] },
      { xid: 3, did: ['item:d'] },
      { xid: 2, did: ['item:b', 'renamed:c'] },
      { xid: 4, did: ['renamed:e'] },
      { xid: 6, did: ['later:g,v'] },
      { xid: 5, did: ['item:f'] },
      { xid: 7, did: ['later:h,v'] },
    ]);
  });

  test('let messages of no transaction pass at once, inside a chunk too', async () => {
    await using link = new Link();
    await link.receive([
      start(1),
      message(false, 1),
      relation(1),
      insert('a', 1),
      stop,
      message(false),
    ]);
    expect(link.got).toEqual(['message', 'message']);
    expect(await link.receive([streamCommit(1)])).toHaveLength(3);
  });

  test('are told to who watches as they come, until that is taken back; of other origins nothing', async () => {
    const told: string[] = [];
    await using link = new Link(() => false, {
      begins: (xid, isFirst) => {
        told.push(`begins ${xid} ${isFirst}`);
        return xid !== 2;
      },
      changes: (change) => told.push(textOf(change)),
      ends: () => told.push('ends'),
      takenBack: (xid) => told.push(`taken back ${xid}`),
    });
    await link.receive([
      [start(1), relation(1), insert('a', 1), stop],
      [start(2), relation(2), insert('b', 2), stop],
      [start(3), origin, relation(3), insert('c', 3), stop, start(3, false), insert('d', 3), stop],
      [start(1, false), message(true, 1), message(false, 1), insert('e', 10), stop],
      [abort(1, 10), streamCommit(1), streamCommit(2), streamCommit(3)],
    ]);
    expect(told).toEqual([
      'begins 1 true',
      'item:a',
      'ends',
      'begins 2 true',
      'begins 1 false',
      'message',
      'item:e',
      'ends',
      'taken back 1',
    ]);
    expect(link.got).toEqual([
      'message',
      { xid: 1, did: ['item:a', 'message'] },
      { xid: 2, did: ['item:b'] },
    ]);
  });

  test('larger than what is read at once wait for room in between', async () => {
    await using link = new Link();
    const large = 'x'.repeat(10_000);
    await link.receive([
      start(1),
      relation(1),
      Array.from({ length: 300 }, () => insert(large, 1)),
      stop,
    ]);
    await link.receive([streamCommit(1)]);
    expect(link.rooms).toBeGreaterThan(5);
    expect(link.got).toMatchObject([{ did: { length: 300 } }]);
  });

  /** What happens in a stream, step by step; `slot` picks one of three transactions. */
  const step = fc.record({
    slot: fc.nat(2),
    sub: fc.nat(3),
    size: fc.constantFrom(1, 1, 1, 90_000),
    act: fc.constantFrom('insert', 'insert', 'insert', 'plain', 'abortSub', 'abort', 'commit'),
  });

  test('in any interleaving give what the assembler gives, and what the same without streaming gives', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        await using streaming = new Link();
        await using plain = new Link();
        const assembler = new Assembler();
        const assembled: Got[] = [];
        const model = new Map<number, [xid: number, value: string][]>();
        const send = async (...messages: Message[]) => {
          await streaming.receive(messages);
          for (const each of messages) {
            const out = assembler.push(each);
            if (out?.kind !== 'transaction') continue;
            const { xid, changes } = out.transaction;
            assembled.push({ xid, did: changes.map(textOf) });
          }
        };
        const sendPlain = (xid: number, values: readonly string[]) =>
          plain.receive([begin(xid), relation(), values.map((value) => insert(value)), commit()]);
        for (const [i, { slot, sub, size, act }] of steps.entries()) {
          const xid = (slot + 1) * 100;
          const known = model.get(xid);
          const value = `${i}${'x'.repeat(size)}`;
          if (act === 'insert') {
            await send(start(xid, known === undefined));
            if (known === undefined) await send(relation(xid));
            await send(insert(value, xid + sub), stop);
            model.set(xid, [...(known ?? []), [xid + sub, value]]);
          } else if (act === 'plain') {
            await send(begin(i + 1), relation(), insert(value), commit());
            await sendPlain(i + 1, [value]);
          } else if (act === 'abortSub' && sub > 0) {
            // Of a transaction that was rolled back before the server came to it nothing else is sent.
            await send(abort(xid, xid + sub));
            const left = known?.filter(([owner]) => owner !== xid + sub);
            if (left) model.set(xid, left);
          } else if (known !== undefined && act !== 'abortSub') {
            await send(act === 'commit' ? streamCommit(xid) : abort(xid));
            model.delete(xid);
            if (act === 'commit') {
              const values = known.map(([, each]) => each);
              await sendPlain(xid, values);
            }
          }
        }
        expect(streaming.got).toEqual(plain.got);
        expect(assembled).toEqual(plain.got);
      }),
      { numRuns: 150 },
    );
  });

  test.each<[string, readonly Message[]]>([
    ['a chunk inside a chunk', [start(1), start(2)]],
    ['a chunk inside a transaction', [begin(1), start(2)]],
    ['a first chunk that is the second', [start(1), stop, start(1)]],
    ['a later chunk without a first', [start(1, false)]],
    ['the end of a chunk outside one', [stop]],
    ['a transaction inside a chunk', [start(1), begin(2)]],
    ['a commit inside a chunk', [start(1), commit()]],
    ['the commit of a transaction that was not streamed', [streamCommit(1)]],
    ['the abort of a transaction that was not streamed', [abort(1)]],
    ['the commit of a streamed transaction inside its chunk', [start(1), streamCommit(1)]],
    [
      'the commit of a streamed transaction inside another',
      [start(1), stop, begin(2), streamCommit(1)],
    ],
    ['the abort of a streamed transaction inside another', [start(1), stop, begin(2), abort(1)]],
    ['a change between chunks', [start(1), relation(1), stop, insert('a')]],
    [
      'a change of a table that was never described',
      [start(1), insert('a', 1), stop, streamCommit(1)],
    ],
  ])('refuse %s', async (_, messages) => {
    await expect(received(...messages)).rejects.toThrow(ProtocolError);
  });
});
