import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../base/bytes.ts';
import { parseLsn } from '../base/lsn.ts';
import { Decoder } from './decode.ts';
import { encodeMessage } from './encode.ts';
import { UNCHANGED, valuesOf } from './tuple-value.ts';
import type { Message } from './message.ts';
import type { Tuple } from './tuple.ts';

/** Bytes in hex, with text in quotes. */
function bytes(text: string): Buffer {
  const parts = text.split(/'([^']*)'/);
  return Buffer.concat(
    parts.map((part, i) =>
      i % 2 === 1 ? Buffer.from(part) : Buffer.from(part.replaceAll(/\s/g, ''), 'hex'),
    ),
  );
}

const LSN_1 = parseLsn('1/10');
const LSN_2 = parseLsn('1/20');
const LSNS = '0000000100000010 0000000100000020';
const TIME = '00000000000f4240';

const OUTSIDE: [string, string, Message][] = [
  [
    'begin',
    `'B' 0000000100000010 ${TIME} 000002d2`,
    { kind: 'begin', finalLsn: LSN_1, commitTime: 1e6 as never, xid: 722 },
  ],
  [
    'commit',
    `'C' 00 ${LSNS} ${TIME}`,
    { kind: 'commit', commitLsn: LSN_1, endLsn: LSN_2, commitTime: 1e6 as never },
  ],
  [
    'message',
    `'M' 00 0000000100000010 'bdr' 00 00000002 'hi'`,
    {
      kind: 'message',
      xid: 0,
      transactional: false,
      lsn: LSN_1,
      prefix: 'bdr',
      content: Buffer.from('hi'),
    },
  ],
  ['origin', `'O' 0000000100000010 'node_b' 00`, { kind: 'origin', lsn: LSN_1, name: 'node_b' }],
  [
    'relation',
    `'R' 00004000 'public' 00 't' 00 'd' 0002 01 'id' 00 00000017 ffffffff 00 'v' 00 00000413 00000024`,
    {
      kind: 'relation',
      xid: 0,
      relation: {
        id: 16384,
        schema: 'public',
        name: 't',
        replicaIdentity: 'default',
        columns: [
          { name: 'id', typeOid: 23, typmod: -1, isKey: true },
          { name: 'v', typeOid: 1043, typmod: 36, isKey: false },
        ],
      },
    },
  ],
  [
    'type',
    `'Y' 00004001 'public' 00 'mood' 00`,
    { kind: 'type', xid: 0, id: 16385, schema: 'public', name: 'mood' },
  ],
  [
    'truncate',
    `'T' 00000002 03 00004000 ffffffff`,
    {
      kind: 'truncate',
      xid: 0,
      relationIds: [16384, 4294967295],
      cascade: true,
      restartIdentity: true,
    },
  ],
  [
    'stream commit',
    `'c' 000002d2 00 ${LSNS} ${TIME}`,
    { kind: 'streamCommit', xid: 722, commitLsn: LSN_1, endLsn: LSN_2, commitTime: 1e6 as never },
  ],
  [
    'stream abort',
    `'A' 000002d2 000002d3`,
    { kind: 'streamAbort', xid: 722, subXid: 723, abort: null },
  ],
  [
    'stream abort with position and time',
    `'A' 000002d2 000002d3 0000000100000010 ${TIME}`,
    { kind: 'streamAbort', xid: 722, subXid: 723, abort: { lsn: LSN_1, time: 1e6 as never } },
  ],
  [
    'begin prepare',
    `'b' ${LSNS} ${TIME} 000002d2 'gid' 00`,
    {
      kind: 'beginPrepare',
      prepareLsn: LSN_1,
      endLsn: LSN_2,
      prepareTime: 1e6 as never,
      xid: 722,
      gid: 'gid',
    },
  ],
  [
    'prepare',
    `'P' 00 ${LSNS} ${TIME} 000002d2 'gid' 00`,
    {
      kind: 'prepare',
      prepareLsn: LSN_1,
      endLsn: LSN_2,
      prepareTime: 1e6 as never,
      xid: 722,
      gid: 'gid',
    },
  ],
  [
    'stream prepare',
    `'p' 00 ${LSNS} ${TIME} 000002d2 'gid' 00`,
    {
      kind: 'streamPrepare',
      prepareLsn: LSN_1,
      endLsn: LSN_2,
      prepareTime: 1e6 as never,
      xid: 722,
      gid: 'gid',
    },
  ],
  [
    'commit prepared',
    `'K' 00 ${LSNS} ${TIME} 000002d2 'gid' 00`,
    {
      kind: 'commitPrepared',
      commitLsn: LSN_1,
      endLsn: LSN_2,
      commitTime: 1e6 as never,
      xid: 722,
      gid: 'gid',
    },
  ],
  [
    'rollback prepared',
    `'r' 00 ${LSNS} ${TIME} ${TIME} 000002d2 'gid' 00`,
    {
      kind: 'rollbackPrepared',
      prepareEndLsn: LSN_1,
      rollbackEndLsn: LSN_2,
      prepareTime: 1e6 as never,
      rollbackTime: 1e6 as never,
      xid: 722,
      gid: 'gid',
    },
  ],
];

test.each(OUTSIDE)('%s is decoded and encoded byte for byte', (_, text, message) => {
  expect(new Decoder().decode(bytes(text))).toEqual(message);
  expect(encodeMessage(message)).toEqual(bytes(text));
});

describe('changes of rows', () => {
  const values = (tuple: Tuple | null | undefined) => tuple && valuesOf(tuple);

  test('an insert has a new tuple', () => {
    const text = `'I' 00004000 'N' 0002 'b' 00000004 00000001 'n'`;
    const message = new Decoder().decode(bytes(text));
    expect(message).toMatchObject({ kind: 'insert', xid: 0, relationId: 16384 });
    expect(message.kind === 'insert' && values(message.newTuple)).toEqual([
      bytes('00000001'),
      null,
    ]);
    expect(encodeMessage(message)).toEqual(bytes(text));
  });

  test.each([
    ['no old tuple', '', null, false],
    ['the old key', `'K' 0002 't' 00000001 '1' 'n'`, ['1', null], true],
    ['the old row', `'O' 0002 't' 00000001 '1' 't' 00000001 'a'`, ['1', 'a'], false],
  ])('an update may come with %s', (_, old, expected, isKey) => {
    const text = `'U' 00004000 ${old} 'N' 0002 't' 00000001 '2' 'u'`;
    const message = new Decoder().decode(bytes(text));
    expect(message).toMatchObject({ kind: 'update', relationId: 16384, oldTupleIsKey: isKey });
    if (message.kind !== 'update') return;
    expect(values(message.oldTuple)).toEqual(expected);
    expect(values(message.newTuple)).toEqual(['2', UNCHANGED]);
    expect(encodeMessage(message)).toEqual(bytes(text));
  });

  test.each([
    ['K', true],
    ['O', false],
  ])('a delete has an old tuple of kind %s', (role, isKey) => {
    const text = `'D' 00004000 '${role}' 0001 't' 00000001 '7'`;
    const message = new Decoder().decode(bytes(text));
    expect(message).toMatchObject({ kind: 'delete', relationId: 16384, oldTupleIsKey: isKey });
    expect(message.kind === 'delete' && values(message.oldTuple)).toEqual(['7']);
    expect(encodeMessage(message)).toEqual(bytes(text));
  });
});

test('messages carry a transaction id between stream start and stream stop, and only there', () => {
  const decoder = new Decoder();
  const decode = (text: string) => decoder.decode(bytes(text));
  expect(decode(`'S' 000002d2 01`)).toEqual({ kind: 'streamStart', xid: 722, firstChunk: true });
  expect(decode(`'O' 0000000000000000 'o' 00`)).toEqual({ kind: 'origin', lsn: 0, name: 'o' });
  expect(decode(`'Y' 000002d2 00004001 00 'x' 00`)).toMatchObject({
    xid: 722,
    schema: 'pg_catalog',
  });
  expect(decode(`'R' 000002d2 00004000 'public' 00 't' 00 'f' 0000`)).toMatchObject({ xid: 722 });
  expect(decode(`'I' 000002d3 00004000 'N' 0000`)).toMatchObject({ xid: 723, relationId: 16384 });
  expect(decode(`'U' 000002d3 00004000 'N' 0000`)).toMatchObject({ xid: 723 });
  expect(decode(`'D' 000002d3 00004000 'K' 0000`)).toMatchObject({ xid: 723 });
  expect(decode(`'T' 000002d2 00000001 00 00004000`)).toMatchObject({ xid: 722 });
  expect(decode(`'M' 000002d2 01 ${'00'.repeat(8)} 00 00000000`)).toMatchObject({ xid: 722 });
  expect(() => decode(`'T' 00000000 00000001 00 00004000`)).toThrow(/transaction id 0/);
  expect(decode(`'E'`)).toEqual({ kind: 'streamStop' });
  expect(decode(`'T' 00000001 00 00004000`)).toMatchObject({ xid: 0, relationIds: [16384] });
});

test('a message is decoded from its part of a larger buffer', () => {
  const buffer = bytes(`ffff 'E' ffff`);
  expect(new Decoder().decode(buffer, 2, 3)).toEqual({ kind: 'streamStop' });
});

test.each([
  ['no type', ''],
  ['an unknown type', `'Z'`],
  ['bytes behind its end', `'E' 00`],
  ['flags in a commit', `'C' 01 ${LSNS} ${TIME}`],
  ['unknown flags in a truncate', `'T' 00000000 04`],
  ['more relations in a truncate than bytes', `'T' ffffffff 00 00004000`],
  ['an unknown replica identity', `'R' 00004000 00 't' 00 'x' 0000`],
  ['fewer columns in a relation than counted', `'R' 00004000 00 't' 00 'd' 0001`],
  ['an insert of an old tuple', `'I' 00004000 'O' 0000`],
  ['a delete of a new tuple', `'D' 00004000 'N' 0000`],
  ['an update with a key only', `'U' 00004000 'K' 0000`],
  ['an update to an old tuple', `'U' 00004000 'K' 0000 'O' 0000`],
  ['a content of negative length', `'M' 00 ${'00'.repeat(8)} 00 ffffffff`],
])('a message with %s is a protocol error', (_, text) => {
  expect(() => new Decoder().decode(bytes(text))).toThrow(ProtocolError);
});
