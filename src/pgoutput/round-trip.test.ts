import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ProtocolError } from '../base/bytes.ts';
import type { Lsn } from '../base/lsn.ts';
import { LONG_AGO } from '../base/pg-time.ts';
import type { PgTime } from '../base/pg-time.ts';
import { Decoder, isPlainUpdate } from './decode.ts';
import { encodeMessage } from './encode.ts';
import { MESSAGE_TYPE } from './message.ts';
import type { Message } from './message.ts';
import type { ReplicaIdentity } from './transaction.ts';
import { Tuple } from './tuple.ts';
import { UNCHANGED, tupleOf, valuesOf } from './tuple-value.ts';
import type { TupleValue } from './tuple-value.ts';

const uint32 = fc.nat(0xffff_ffff);
const lsn = fc.maxSafeInteger().map((n) => Math.abs(n) as Lsn);
const time = fc.oneof(fc.maxSafeInteger(), fc.constant(LONG_AGO)).map((n) => n as PgTime);
/** Characters of one to four bytes, and those that could end or break a string. */
const unit = fc.constantFrom('a', 'Z', '"', "'", '\n', '\u007f', 'é', '€', '\ufffd', '😀');
const text = fc.string({ unit });
const schema = text.map((s) => s || 'pg_catalog');
const content = fc.uint8Array().map((bytes) => Buffer.from(bytes));
const tuple = fc
  .array(fc.oneof(fc.constantFrom<TupleValue>(null, UNCHANGED), text, content), { maxLength: 8 })
  .map(tupleOf);
const relation = fc.record({
  id: uint32,
  schema,
  name: text,
  replicaIdentity: fc.constantFrom<ReplicaIdentity>('default', 'nothing', 'full', 'index'),
  columns: fc.array(
    fc.record({ name: text, typeOid: uint32, typmod: fc.integer(), isKey: fc.boolean() }),
  ),
});
const prepared = { endLsn: lsn, prepareLsn: lsn, prepareTime: time, xid: uint32, gid: text };
const ended = { commitLsn: lsn, endLsn: lsn, commitTime: time };

/** Every message, with `xid` where it has the field of messages inside a chunk. */
function messages(xid: fc.Arbitrary<number>): fc.Arbitrary<Message> {
  const record = <K extends Message['kind'], T extends object>(
    kind: K,
    fields: { [F in keyof T]: fc.Arbitrary<T[F]> },
  ) => fc.record<{ kind: K } & T>({ kind: fc.constant(kind), ...fields } as never);
  const row = { xid, relationId: uint32 };
  return fc.oneof(
    record('begin', { finalLsn: lsn, commitTime: time, xid: uint32 }),
    record('commit', ended),
    record('message', { xid, transactional: fc.boolean(), lsn, prefix: text, content }),
    record('origin', { lsn, name: text }),
    record('relation', { xid, relation }),
    record('type', { xid, id: uint32, schema, name: text }),
    record('insert', { ...row, newTuple: tuple }),
    record('update', { ...row, oldTuple: tuple, oldTupleIsKey: fc.boolean(), newTuple: tuple }),
    record('update', {
      ...row,
      oldTuple: fc.constant(null),
      oldTupleIsKey: fc.constant(false),
      newTuple: tuple,
    }),
    record('delete', { ...row, oldTuple: tuple, oldTupleIsKey: fc.boolean() }),
    record('truncate', {
      xid,
      relationIds: fc.array(uint32),
      cascade: fc.boolean(),
      restartIdentity: fc.boolean(),
    }),
    record('streamStart', { xid: uint32, firstChunk: fc.boolean() }),
    record('streamStop', {}),
    record('streamCommit', { xid: uint32, ...ended }),
    record('streamAbort', {
      xid: uint32,
      subXid: uint32,
      abort: fc.option(fc.record({ lsn, time })),
    }),
    record('beginPrepare', prepared),
    record('prepare', prepared),
    record('streamPrepare', prepared),
    record('commitPrepared', { ...ended, xid: uint32, gid: text }),
    record('rollbackPrepared', {
      prepareEndLsn: lsn,
      rollbackEndLsn: lsn,
      prepareTime: time,
      rollbackTime: time,
      xid: uint32,
      gid: text,
    }),
  );
}

const outside = messages(fc.constant(0));
const inside = messages(fc.integer({ min: 1, max: 0xffff_ffff }));

function decoderInChunk(): Decoder {
  const decoder = new Decoder();
  decoder.decode(encodeMessage({ kind: 'streamStart', xid: 1, firstChunk: true }));
  return decoder;
}

/** The message with values in place of tuples, which are views of different buffers. */
function plain(message: Message): unknown {
  return Object.fromEntries(
    Object.entries(message).map(([name, value]: [string, unknown]) => [
      name,
      value instanceof Tuple ? valuesOf(value) : value,
    ]),
  );
}

/** Whatever the bytes, there is a message, all of which can be read, or a protocol error. */
function decodesOrRefuses(buffer: Buffer): void {
  for (const decoder of [new Decoder(), decoderInChunk()]) {
    try {
      plain(decoder.decode(buffer));
    } catch (error) {
      expect(error).toBeInstanceOf(ProtocolError);
    }
  }
}

test('decoding an encoded message gives it back', () => {
  fc.assert(
    fc.property(outside, (message) => {
      expect(plain(new Decoder().decode(encodeMessage(message)))).toEqual(plain(message));
    }),
    { numRuns: 1000 },
  );
});

test('decoding a message encoded for a chunk gives it back inside a chunk', () => {
  fc.assert(
    fc.property(inside, (message) => {
      expect(plain(decoderInChunk().decode(encodeMessage(message)))).toEqual(plain(message));
    }),
    { numRuns: 1000 },
  );
});

test('an update without an old row is told without decoding it', () => {
  const isPlain = (message: Message) => message.kind === 'update' && message.oldTuple === null;
  fc.assert(
    fc.property(outside, inside, (first, second) => {
      expect(isPlainUpdate(encodeMessage(first), 0, false)).toBe(isPlain(first));
      const behind = Buffer.concat([Buffer.from('U'), encodeMessage(second)]);
      expect(isPlainUpdate(behind, 1, true)).toBe(isPlain(second));
    }),
    { numRuns: 1000 },
  );
});

test('a message that lost its end is refused, unless what is left is one', () => {
  fc.assert(
    fc.property(outside, fc.nat(), (message, cut) => {
      const bytes = encodeMessage(message);
      const left = bytes.subarray(0, cut % bytes.length);
      if (message.kind !== 'streamAbort') {
        expect(() => new Decoder().decode(left)).toThrow(ProtocolError);
      }
      decodesOrRefuses(left);
    }),
    { numRuns: 1000 },
  );
});

test('a message with one more byte is refused', () => {
  fc.assert(
    fc.property(outside, fc.nat(255), (message, byte) => {
      const bytes = Buffer.concat([encodeMessage(message), Buffer.from([byte])]);
      expect(() => new Decoder().decode(bytes)).toThrow(ProtocolError);
    }),
  );
});

test('a message with damaged bytes gives a message or a protocol error', () => {
  fc.assert(
    fc.property(outside, fc.array(fc.tuple(fc.nat(), fc.nat(255))), (message, damage) => {
      const bytes = encodeMessage(message);
      for (const [at, byte] of damage) bytes[at % bytes.length] = byte;
      decodesOrRefuses(bytes);
    }),
    { numRuns: 1000 },
  );
});

test('random bytes give a message or a protocol error', () => {
  const type = fc.constantFrom(...Object.values(MESSAGE_TYPE));
  const random = fc.uint8Array({ maxLength: 60 });
  fc.assert(
    fc.property(type, random, (first, rest) => decodesOrRefuses(Buffer.from([first, ...rest]))),
    { numRuns: 2000 },
  );
});
