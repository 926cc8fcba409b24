/**
 * What the CopyData messages of a replication stream hold; manual: "Streaming Replication Protocol", START_REPLICATION.
 * The server sends XLogData and keepalives, the client answers with standby status updates.
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { ZERO_LSN, type Lsn } from '../base/lsn.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';

/** One message of the output plugin, which lies in `buffer` from `payloadStart` to `payloadEnd`. */
export interface XLogData {
  readonly kind: 'xlogData';
  readonly startLsn: Lsn;
  /** The server's end of WAL when it sent this; for logical replication the same as `startLsn`. */
  readonly endLsn: Lsn;
  /** By the server's clock. */
  readonly sendTime: PgTime;
  readonly buffer: Buffer;
  readonly payloadStart: number;
  readonly payloadEnd: number;
}

export interface Keepalive {
  readonly kind: 'keepalive';
  /** How far the server has read its WAL and sent what was in it. */
  readonly walEnd: Lsn;
  readonly sendTime: PgTime;
  /** The server will drop the connection unless it is answered soon. */
  readonly replyRequested: boolean;
}

/** What the server may send. */
export type Frame = XLogData | Keepalive;

/** What the client reports. Each position is the one after the last byte that is written, flushed, applied. */
export interface StatusUpdate {
  readonly writtenLsn: Lsn;
  /** The server may forget everything before this. */
  readonly flushedLsn: Lsn;
  readonly appliedLsn: Lsn;
  readonly sendTime: PgTime;
  /** Asks the server to answer with a keepalive at once. */
  readonly replyRequested: boolean;
}

const XLOG_DATA = 0x77; // w
const KEEPALIVE = 0x6b; // k
const STATUS_UPDATE = 0x72; // r

/** Decodes the frames of one stream. */
export class FrameDecoder {
  readonly #reader = new ByteReader(Buffer.alloc(0));
  /** One for all: an object for each would be most of what it takes to decode them. */
  readonly #data: { -readonly [Field in keyof XLogData]: XLogData[Field] } = {
    kind: 'xlogData',
    startLsn: ZERO_LSN,
    endLsn: ZERO_LSN,
    sendTime: LONG_AGO,
    buffer: this.#reader.buffer,
    payloadStart: 0,
    payloadEnd: 0,
  };

  /**
   * Decodes one CopyData payload, the bytes of `buffer` from `start` to `end`. The frame is a view of them; it is valid until the
   * next call. Throws ProtocolError.
   */
  decode(buffer: Buffer, start = 0, end = buffer.length): Frame {
    const reader = this.#reader;
    reader.reset(buffer, start, end);
    const type = reader.uint8();
    if (type === XLOG_DATA) {
      const data = this.#data;
      data.startLsn = reader.lsn();
      data.endLsn = reader.lsn();
      data.sendTime = reader.pgTime();
      data.buffer = buffer;
      data.payloadStart = reader.position;
      data.payloadEnd = end;
      return data;
    }
    if (type === KEEPALIVE) {
      const walEnd = reader.lsn();
      const sendTime = reader.pgTime();
      const replyRequested = reader.bool();
      reader.finish();
      return { kind: 'keepalive', walEnd, sendTime, replyRequested };
    }
    return reader.fail(`unknown frame type ${type}`, start);
  }
}

export function encodeFrame(frame: Frame): Buffer {
  if (frame.kind === 'keepalive') {
    const writer = new ByteWriter(18).uint8(KEEPALIVE).lsn(frame.walEnd);
    return writer.pgTime(frame.sendTime).bool(frame.replyRequested).toBuffer();
  }
  const payload = frame.buffer.subarray(frame.payloadStart, frame.payloadEnd);
  const writer = new ByteWriter(25 + payload.length).uint8(XLOG_DATA);
  writer.lsn(frame.startLsn).lsn(frame.endLsn).pgTime(frame.sendTime);
  return writer.bytes(payload).toBuffer();
}

export function encodeStatusUpdate(update: StatusUpdate): Buffer {
  const writer = new ByteWriter(34).uint8(STATUS_UPDATE);
  writer.lsn(update.writtenLsn).lsn(update.flushedLsn).lsn(update.appliedLsn);
  return writer.pgTime(update.sendTime).bool(update.replyRequested).toBuffer();
}

export function decodeStatusUpdate(buffer: Buffer, start = 0, end = buffer.length): StatusUpdate {
  const reader = new ByteReader(buffer, start, end);
  const type = reader.uint8();
  if (type !== STATUS_UPDATE) reader.fail(`not a status update but type ${type}`, start);
  const update: StatusUpdate = {
    writtenLsn: reader.lsn(),
    flushedLsn: reader.lsn(),
    appliedLsn: reader.lsn(),
    sendTime: reader.pgTime(),
    replyRequested: reader.bool(),
  };
  reader.finish();
  return update;
}
