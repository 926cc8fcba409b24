import { ByteWriter } from '../base/bytes.ts';
import { MESSAGE_TYPE, TUPLE_ROLE } from './message.ts';
import type { Message, TruncateMessage } from './message.ts';
import type { Relation, ReplicaIdentity } from './transaction.ts';
import type { Tuple } from './tuple.ts';

/**
 * Encodes a message as pgoutput would send it; manual: "Logical Replication Message Formats". The agent only decodes: this is
 * for tests and simulation. A message with an `xid` other than 0 gets the form it has inside a chunk.
 */
export function encodeMessage(message: Message): Buffer {
  const writer = new ByteWriter().uint8(MESSAGE_TYPE[message.kind]);
  switch (message.kind) {
    case 'begin':
      writer.lsn(message.finalLsn).pgTime(message.commitTime).uint32(message.xid);
      break;
    case 'commit':
      writer.uint8(0).lsn(message.commitLsn).lsn(message.endLsn).pgTime(message.commitTime);
      break;
    case 'message':
      writeXid(writer, message.xid);
      writer.bool(message.transactional).lsn(message.lsn).cstring(message.prefix);
      writer.int32(message.content.length).bytes(message.content);
      break;
    case 'origin':
      writer.lsn(message.lsn).cstring(message.name);
      break;
    case 'relation':
      writeXid(writer, message.xid);
      writeRelation(writer, message.relation);
      break;
    case 'type':
      writeXid(writer, message.xid);
      writer.uint32(message.id);
      writeSchema(writer, message.schema);
      writer.cstring(message.name);
      break;
    case 'insert':
      writeXid(writer, message.xid);
      writer.uint32(message.relationId);
      writeTuple(writer, TUPLE_ROLE.new, message.newTuple);
      break;
    case 'update':
      writeXid(writer, message.xid);
      writer.uint32(message.relationId);
      writeOldTuple(writer, message.oldTuple, message.oldTupleIsKey);
      writeTuple(writer, TUPLE_ROLE.new, message.newTuple);
      break;
    case 'delete':
      writeXid(writer, message.xid);
      writer.uint32(message.relationId);
      writeOldTuple(writer, message.oldTuple, message.oldTupleIsKey);
      break;
    case 'truncate':
      writeXid(writer, message.xid);
      writeTruncate(writer, message);
      break;
    case 'streamStart':
      writer.uint32(message.xid).bool(message.firstChunk);
      break;
    case 'streamStop':
      break;
    case 'streamCommit':
      writer.uint32(message.xid).uint8(0);
      writer.lsn(message.commitLsn).lsn(message.endLsn).pgTime(message.commitTime);
      break;
    case 'streamAbort':
      writer.uint32(message.xid).uint32(message.subXid);
      if (message.abort !== null) writer.lsn(message.abort.lsn).pgTime(message.abort.time);
      break;
    case 'beginPrepare':
      writer.lsn(message.prepareLsn).lsn(message.endLsn).pgTime(message.prepareTime);
      writer.uint32(message.xid).cstring(message.gid);
      break;
    case 'prepare':
    case 'streamPrepare':
      writer.uint8(0).lsn(message.prepareLsn).lsn(message.endLsn).pgTime(message.prepareTime);
      writer.uint32(message.xid).cstring(message.gid);
      break;
    case 'commitPrepared':
      writer.uint8(0).lsn(message.commitLsn).lsn(message.endLsn).pgTime(message.commitTime);
      writer.uint32(message.xid).cstring(message.gid);
      break;
    case 'rollbackPrepared':
      writer.uint8(0).lsn(message.prepareEndLsn).lsn(message.rollbackEndLsn);
      writer.pgTime(message.prepareTime).pgTime(message.rollbackTime);
      writer.uint32(message.xid).cstring(message.gid);
      break;
  }
  return writer.toBuffer();
}

function writeXid(writer: ByteWriter, xid: number): void {
  if (xid !== 0) writer.uint32(xid);
}

function writeTuple(writer: ByteWriter, role: number, tuple: Tuple): void {
  writer.uint8(role).bytes(tuple.buffer.subarray(tuple.start, tuple.end));
}

function writeOldTuple(writer: ByteWriter, tuple: Tuple | null, isKey: boolean): void {
  if (tuple !== null) writeTuple(writer, isKey ? TUPLE_ROLE.key : TUPLE_ROLE.old, tuple);
}

function writeTruncate(writer: ByteWriter, message: TruncateMessage): void {
  writer.uint32(message.relationIds.length);
  writer.uint8((message.cascade ? 1 : 0) | (message.restartIdentity ? 2 : 0));
  for (const id of message.relationIds) writer.uint32(id);
}

const REPLICA_IDENTITY: Readonly<Record<ReplicaIdentity, number>> = {
  default: 0x64,
  nothing: 0x6e,
  full: 0x66,
  index: 0x69,
};

function writeRelation(writer: ByteWriter, relation: Relation): void {
  writer.uint32(relation.id);
  writeSchema(writer, relation.schema);
  writer.cstring(relation.name).uint8(REPLICA_IDENTITY[relation.replicaIdentity]);
  writer.uint16(relation.columns.length);
  for (const column of relation.columns) {
    writer.bool(column.isKey).cstring(column.name);
    writer.uint32(column.typeOid).int32(column.typmod);
  }
}

function writeSchema(writer: ByteWriter, schema: string): void {
  writer.cstring(schema === 'pg_catalog' ? '' : schema);
}
