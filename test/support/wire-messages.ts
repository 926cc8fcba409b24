import type { Lsn } from '../../src/base/lsn.ts';
import type { PgTime } from '../../src/base/pg-time.ts';
import type { Message } from '../../src/pgoutput/message.ts';
import { tupleOf } from '../../src/pgoutput/tuple-value.ts';

// Messages of a stream, as short as a test can say them.

export const lsn = (value: number) => value as Lsn;
export const time = (value: number) => value as PgTime;

export const begin = (xid: number, at = 100): Message => ({
  kind: 'begin',
  xid,
  finalLsn: lsn(at),
  commitTime: time(7),
});
export const commit = (at = 100): Message => ({
  kind: 'commit',
  commitLsn: lsn(at),
  endLsn: lsn(at + 8),
  commitTime: time(7),
});
export const start = (xid: number, firstChunk = true): Message => ({
  kind: 'streamStart',
  xid,
  firstChunk,
});
export const stop: Message = { kind: 'streamStop' };
export const streamCommit = (xid: number, at = 200): Message => ({
  kind: 'streamCommit',
  xid,
  commitLsn: lsn(at),
  endLsn: lsn(at + 8),
  commitTime: time(9),
});
export const abort = (xid: number, subXid = xid): Message => ({
  kind: 'streamAbort',
  xid,
  subXid,
  abort: null,
});
export const insert = (values: string | string[], xid = 0, relationId = 1): Message => ({
  kind: 'insert',
  xid,
  relationId,
  newTuple: tupleOf([values].flat()),
});
