import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ProtocolError } from '../base/bytes.ts';
import { parseLsn } from '../base/lsn.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import { decodeStatusUpdate, encodeFrame, encodeStatusUpdate, FrameDecoder } from './frame.ts';

const decodeFrame = (...where: [buffer: Buffer, start?: number, end?: number]) =>
  new FrameDecoder().decode(...where);
const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const lsn = fc.maxSafeInteger().map((n) => Math.abs(n) as Lsn);
const time = fc.maxSafeInteger() as fc.Arbitrary<number> as fc.Arbitrary<PgTime>;

test('XLogData points at its payload inside the receive buffer', () => {
  const buffer = hex('ee 77 0000000001500028 0000000001500060 0002d8f0a1b2c3d4 4201 ee');
  const frame = decodeFrame(buffer, 1, buffer.length - 1);
  expect(frame).toEqual({
    kind: 'xlogData',
    startLsn: parseLsn('0/1500028'),
    endLsn: parseLsn('0/1500060'),
    sendTime: 0x2d8f0a1b2c3d4,
    buffer,
    payloadStart: 26,
    payloadEnd: 28,
  });
});

test('a keepalive says whether it wants an answer', () => {
  const bytes = '6b 0000000101500028 00000000000003e8';
  const expected = { kind: 'keepalive', walEnd: parseLsn('1/1500028'), sendTime: 1000 };
  expect(decodeFrame(hex(`${bytes} 01`))).toEqual({ ...expected, replyRequested: true });
  expect(decodeFrame(hex(`${bytes} 00`))).toEqual({ ...expected, replyRequested: false });
});

test('a status update is written as the server expects it', () => {
  const update = {
    writtenLsn: parseLsn('1/3'),
    flushedLsn: parseLsn('1/2'),
    appliedLsn: parseLsn('1/1'),
    sendTime: -1 as PgTime,
    replyRequested: true,
  };
  expect(encodeStatusUpdate(update)).toEqual(
    hex('72 0000000100000003 0000000100000002 0000000100000001 ffffffffffffffff 01'),
  );
});

test('a frame of unknown type, a short frame and a long keepalive are protocol errors', () => {
  expect(() => decodeFrame(hex('78'))).toThrow(/unknown frame type 120/);
  expect(() => decodeFrame(Buffer.alloc(0))).toThrow(ProtocolError);
  expect(() => decodeFrame(Buffer.concat([hex('6b'), Buffer.alloc(18)]))).toThrow(/too many/);
  expect(() => decodeStatusUpdate(hex('77'))).toThrow(/not a status update/);
});

test('decoding gives back what was encoded', () => {
  const flag = fc.boolean();
  fc.assert(
    fc.property(lsn, lsn, lsn, time, flag, fc.uint8Array(), (a, b, c, at, asked, content) => {
      const update = {
        writtenLsn: a,
        flushedLsn: b,
        appliedLsn: c,
        sendTime: at,
        replyRequested: asked,
      };
      expect(decodeStatusUpdate(encodeStatusUpdate(update))).toEqual(update);
      const keepalive = {
        kind: 'keepalive',
        walEnd: a,
        sendTime: at,
        replyRequested: asked,
      } as const;
      expect(decodeFrame(encodeFrame(keepalive))).toEqual(keepalive);
      const payload = Buffer.from(content);
      const bytes = encodeFrame({
        kind: 'xlogData',
        startLsn: a,
        endLsn: b,
        sendTime: at,
        buffer: payload,
        payloadStart: 0,
        payloadEnd: payload.length,
      });
      const frame = decodeFrame(bytes);
      expect(frame).toMatchObject({ kind: 'xlogData', startLsn: a, endLsn: b, sendTime: at });
      expect(bytes.subarray(25)).toEqual(payload);
    }),
  );
});

test('random bytes give a frame or a protocol error', () => {
  const bytes = fc
    .tuple(fc.constantFrom(0x77, 0x6b, 0x72, 0x00), fc.uint8Array({ maxLength: 40 }))
    .map(([type, rest]) => Buffer.from([type, ...rest]));
  fc.assert(
    fc.property(bytes, (buffer) => {
      for (const decode of [decodeFrame, decodeStatusUpdate]) {
        try {
          decode(buffer);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }
    }),
  );
});
