/**
 * The messages of the logical replication protocol, versions 1 to 4; manual: "Logical Replication Message Formats".
 *
 * A message that can stand in a chunk of a streamed transaction has an `xid`: inside a chunk the id of the transaction or
 * subtransaction it belongs to, outside 0, where the message before it named the transaction.
 */
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { LogicalMessage, Relation } from './transaction.ts';
import type { Tuple } from './tuple.ts';

export interface BeginMessage {
  readonly kind: 'begin';
  /** Where the commit record begins. */
  readonly finalLsn: Lsn;
  readonly commitTime: PgTime;
  readonly xid: number;
}

export interface CommitMessage {
  readonly kind: 'commit';
  readonly commitLsn: Lsn;
  readonly endLsn: Lsn;
  readonly commitTime: PgTime;
}

/** A logical decoding message. */
export interface LogicalDecodingMessage extends LogicalMessage {
  readonly xid: number;
}

export interface OriginMessage {
  readonly kind: 'origin';
  /** The commit's position on the origin; 0/0 in a streamed transaction, which has not committed yet. */
  readonly lsn: Lsn;
  readonly name: string;
}

export interface RelationMessage {
  readonly kind: 'relation';
  readonly xid: number;
  readonly relation: Relation;
}

/** Names a type that is not built in, before the relation that uses it; for a domain, its base type's name. */
export interface TypeMessage {
  readonly kind: 'type';
  readonly xid: number;
  readonly id: number;
  readonly schema: string;
  readonly name: string;
}

interface RowMessage {
  readonly xid: number;
  readonly relationId: number;
  /** For `changeOf`, which makes the message the change itself: one object for a row. */
  relation?: Relation | undefined;
}

export interface InsertMessage extends RowMessage {
  readonly kind: 'insert';
  readonly newTuple: Tuple;
}

export interface UpdateMessage extends RowMessage {
  readonly kind: 'update';
  readonly oldTuple: Tuple | null;
  readonly oldTupleIsKey: boolean;
  readonly newTuple: Tuple;
}

export interface DeleteMessage extends RowMessage {
  readonly kind: 'delete';
  readonly oldTuple: Tuple;
  readonly oldTupleIsKey: boolean;
}

export interface TruncateMessage {
  readonly kind: 'truncate';
  readonly xid: number;
  readonly relationIds: readonly number[];
  readonly cascade: boolean;
  readonly restartIdentity: boolean;
}

export interface StreamStartMessage {
  readonly kind: 'streamStart';
  readonly xid: number;
  readonly firstChunk: boolean;
}

export interface StreamStopMessage {
  readonly kind: 'streamStop';
}

export interface StreamCommitMessage {
  readonly kind: 'streamCommit';
  readonly xid: number;
  readonly commitLsn: Lsn;
  readonly endLsn: Lsn;
  readonly commitTime: PgTime;
}

/** The transaction aborted, where `subXid` equals `xid`; else one of its subtransactions. */
export interface StreamAbortMessage {
  readonly kind: 'streamAbort';
  readonly xid: number;
  readonly subXid: number;
  /** Sent only with `streaming 'parallel'`. */
  readonly abort: { readonly lsn: Lsn; readonly time: PgTime } | null;
}

interface PreparedFields {
  readonly xid: number;
  readonly gid: string;
}

export interface BeginPrepareMessage extends PreparedFields {
  readonly kind: 'beginPrepare';
  readonly prepareLsn: Lsn;
  readonly endLsn: Lsn;
  readonly prepareTime: PgTime;
}

export interface PrepareMessage extends PreparedFields {
  readonly kind: 'prepare' | 'streamPrepare';
  readonly prepareLsn: Lsn;
  readonly endLsn: Lsn;
  readonly prepareTime: PgTime;
}

export interface CommitPreparedMessage extends PreparedFields {
  readonly kind: 'commitPrepared';
  readonly commitLsn: Lsn;
  readonly endLsn: Lsn;
  readonly commitTime: PgTime;
}

export interface RollbackPreparedMessage extends PreparedFields {
  readonly kind: 'rollbackPrepared';
  readonly prepareEndLsn: Lsn;
  readonly rollbackEndLsn: Lsn;
  readonly prepareTime: PgTime;
  readonly rollbackTime: PgTime;
}

export type Message =
  | BeginMessage
  | CommitMessage
  | LogicalDecodingMessage
  | OriginMessage
  | RelationMessage
  | TypeMessage
  | InsertMessage
  | UpdateMessage
  | DeleteMessage
  | TruncateMessage
  | StreamStartMessage
  | StreamStopMessage
  | StreamCommitMessage
  | StreamAbortMessage
  | BeginPrepareMessage
  | PrepareMessage
  | CommitPreparedMessage
  | RollbackPreparedMessage;

/** The byte that each message begins with. */
export const MESSAGE_TYPE = {
  begin: 0x42, // B
  commit: 0x43, // C
  message: 0x4d, // M
  origin: 0x4f, // O
  relation: 0x52, // R
  type: 0x59, // Y
  insert: 0x49, // I
  update: 0x55, // U
  delete: 0x44, // D
  truncate: 0x54, // T
  streamStart: 0x53, // S
  streamStop: 0x45, // E
  streamCommit: 0x63, // c
  streamAbort: 0x41, // A
  beginPrepare: 0x62, // b
  prepare: 0x50, // P
  commitPrepared: 0x4b, // K
  rollbackPrepared: 0x72, // r
  streamPrepare: 0x70, // p
} as const satisfies Record<Message['kind'], number>;

/** The byte that says which tuple follows, in insert, update and delete. */
export const TUPLE_ROLE = {
  new: 0x4e, // N
  key: 0x4b, // K
  old: 0x4f, // O
} as const;
