import type { ByteReader } from '../base/bytes.ts';
import { MESSAGE_TYPE } from './message.ts';
import type { Message } from './message.ts';

/**
 * Reads the rest of a message of two-phase commit, protocol version 3; null if `type` is none. We do not ask for them
 * (`two_phase` is off): they are decoded so that their arrival can be reported as what it is.
 */
export function readPrepared(reader: ByteReader, type: number): Message | null {
  switch (type) {
    case MESSAGE_TYPE.beginPrepare:
      return {
        kind: 'beginPrepare',
        prepareLsn: reader.lsn(),
        endLsn: reader.lsn(),
        prepareTime: reader.pgTime(),
        xid: reader.uint32(),
        gid: reader.cstring(),
      };
    case MESSAGE_TYPE.prepare:
    case MESSAGE_TYPE.streamPrepare:
      checkNoFlags(reader);
      return {
        kind: type === MESSAGE_TYPE.prepare ? 'prepare' : 'streamPrepare',
        prepareLsn: reader.lsn(),
        endLsn: reader.lsn(),
        prepareTime: reader.pgTime(),
        xid: reader.uint32(),
        gid: reader.cstring(),
      };
    case MESSAGE_TYPE.commitPrepared:
      checkNoFlags(reader);
      return {
        kind: 'commitPrepared',
        commitLsn: reader.lsn(),
        endLsn: reader.lsn(),
        commitTime: reader.pgTime(),
        xid: reader.uint32(),
        gid: reader.cstring(),
      };
    case MESSAGE_TYPE.rollbackPrepared:
      checkNoFlags(reader);
      return {
        kind: 'rollbackPrepared',
        prepareEndLsn: reader.lsn(),
        rollbackEndLsn: reader.lsn(),
        prepareTime: reader.pgTime(),
        rollbackTime: reader.pgTime(),
        xid: reader.uint32(),
        gid: reader.cstring(),
      };
    default:
      return null;
  }
}

/** Reads the flags that every end of a transaction carries, and that no version uses. */
export function checkNoFlags(reader: ByteReader): void {
  const flags = reader.uint8();
  if (flags !== 0) reader.fail(`unknown flags ${flags}`, reader.position - 1);
}
