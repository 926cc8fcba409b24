import { ByteReader } from '../base/bytes.ts';
import { MESSAGE_TYPE, TUPLE_ROLE } from './message.ts';
import type { DeleteMessage, InsertMessage, Message, UpdateMessage } from './message.ts';
import { checkNoFlags, readPrepared } from './decode-prepared.ts';
import { deleteMessage, insertMessage, updateMessage } from './row-message.ts';
import type { Relation, RelationColumn, ReplicaIdentity } from './transaction.ts';
import { readTuple } from './tuple.ts';

/**
 * Decodes the messages of one logical replication stream, protocol versions 1 to 4; manual: "Logical Replication Message
 * Formats". Keep one decoder for a connection: inside a chunk of a streamed transaction messages have one field more, so what
 * a message means depends on the chunk around it.
 *
 * A payload is the bytes of `buffer` from `start` to `end`. Tuples and contents are views of `buffer`, valid as long as anyone
 * holds them, because a receive buffer is never written to again; they also keep the whole of it in memory.
 *
 * Whatever the bytes, `decode` returns a message or throws ProtocolError. After an error the stream is lost: there is no way
 * to know what the next message means.
 */
export class Decoder {
  readonly #reader = new ByteReader(Buffer.alloc(0));
  #inChunk: boolean;

  /** `inChunk`: what is decoded begins inside a chunk of a streamed transaction. */
  constructor({ inChunk = false } = {}) {
    this.#inChunk = inChunk;
  }

  decode(buffer: Buffer, start = 0, end = buffer.length): Message {
    const reader = this.#reader;
    reader.reset(buffer, start, end);
    const message = readMessage(reader, this.#inChunk);
    reader.finish();
    if (message.kind === 'streamStart') this.#inChunk = true;
    else if (message.kind === 'streamStop') this.#inChunk = false;
    return message;
  }
}

/**
 * Whether the message at `start` is an update that left the replica identity as it was, which has no old row: told without
 * decoding it. `inChunk`: it stands in a chunk of a streamed transaction.
 */
export function isPlainUpdate(buffer: Buffer, start: number, inChunk: boolean): boolean {
  const role = start + TYPE_BYTES + (inChunk ? XID_BYTES : 0) + RELATION_BYTES;
  return buffer[start] === MESSAGE_TYPE.update && buffer[role] === TUPLE_ROLE.new;
}

const TYPE_BYTES = 1;
const XID_BYTES = 4;
const RELATION_BYTES = 4;

function readMessage(reader: ByteReader, inChunk: boolean): Message {
  const type = reader.uint8();
  switch (type) {
    case MESSAGE_TYPE.insert:
      return readInsert(reader, xidOf(reader, inChunk));
    case MESSAGE_TYPE.update:
      return readUpdate(reader, xidOf(reader, inChunk));
    case MESSAGE_TYPE.delete:
      return readDelete(reader, xidOf(reader, inChunk));
    case MESSAGE_TYPE.begin:
      return {
        kind: 'begin',
        finalLsn: reader.lsn(),
        commitTime: reader.pgTime(),
        xid: reader.uint32(),
      };
    case MESSAGE_TYPE.commit:
      checkNoFlags(reader);
      return {
        kind: 'commit',
        commitLsn: reader.lsn(),
        endLsn: reader.lsn(),
        commitTime: reader.pgTime(),
      };
    case MESSAGE_TYPE.relation:
      return { kind: 'relation', xid: xidOf(reader, inChunk), relation: readRelation(reader) };
    case MESSAGE_TYPE.type:
      return {
        kind: 'type',
        xid: xidOf(reader, inChunk),
        id: reader.uint32(),
        schema: readSchema(reader),
        name: reader.cstring(),
      };
    case MESSAGE_TYPE.truncate:
      return readTruncate(reader, xidOf(reader, inChunk));
    case MESSAGE_TYPE.message:
      return {
        kind: 'message',
        xid: xidOf(reader, inChunk),
        transactional: reader.bool(),
        lsn: reader.lsn(),
        prefix: reader.cstring(),
        content: reader.bytes(reader.int32()),
      };
    case MESSAGE_TYPE.origin:
      return { kind: 'origin', lsn: reader.lsn(), name: reader.cstring() };
    case MESSAGE_TYPE.streamStart:
      return { kind: 'streamStart', xid: reader.uint32(), firstChunk: reader.bool() };
    case MESSAGE_TYPE.streamStop:
      return { kind: 'streamStop' };
    case MESSAGE_TYPE.streamCommit: {
      const xid = reader.uint32();
      checkNoFlags(reader);
      return {
        kind: 'streamCommit',
        xid,
        commitLsn: reader.lsn(),
        endLsn: reader.lsn(),
        commitTime: reader.pgTime(),
      };
    }
    case MESSAGE_TYPE.streamAbort:
      return {
        kind: 'streamAbort',
        xid: reader.uint32(),
        subXid: reader.uint32(),
        abort: reader.remaining > 0 ? { lsn: reader.lsn(), time: reader.pgTime() } : null,
      };
    default:
      return (
        readPrepared(reader, type) ?? reader.fail(`unknown message type ${type}`, reader.start)
      );
  }
}

/** The field that only messages inside a chunk have. */
function xidOf(reader: ByteReader, inChunk: boolean): number {
  if (!inChunk) return 0;
  const xid = reader.uint32();
  if (xid === 0) reader.fail('transaction id 0', reader.position - 4);
  return xid;
}

function readInsert(reader: ByteReader, xid: number): InsertMessage {
  const relationId = reader.uint32();
  readNewRole(reader, reader.uint8());
  return insertMessage(xid, relationId, readTuple(reader));
}

function readUpdate(reader: ByteReader, xid: number): UpdateMessage {
  const relationId = reader.uint32();
  const role = reader.uint8();
  const oldTupleIsKey = role === TUPLE_ROLE.key;
  const oldTuple = oldTupleIsKey || role === TUPLE_ROLE.old ? readTuple(reader) : null;
  readNewRole(reader, oldTuple === null ? role : reader.uint8());
  return updateMessage(xid, relationId, oldTuple, oldTupleIsKey, readTuple(reader));
}

function readDelete(reader: ByteReader, xid: number): DeleteMessage {
  const relationId = reader.uint32();
  const role = reader.uint8();
  const oldTupleIsKey = role === TUPLE_ROLE.key;
  if (!oldTupleIsKey && role !== TUPLE_ROLE.old) {
    reader.fail(`old tuple expected, not ${role}`, reader.position - 1);
  }
  return deleteMessage(xid, relationId, readTuple(reader), oldTupleIsKey);
}

function readNewRole(reader: ByteReader, role: number): void {
  if (role !== TUPLE_ROLE.new) reader.fail(`new tuple expected, not ${role}`, reader.position - 1);
}

function readTruncate(reader: ByteReader, xid: number): Message {
  const count = reader.uint32();
  const flags = reader.uint8();
  if (flags > 3) reader.fail(`unknown flags ${flags}`, reader.position - 1);
  const relationIds: number[] = [];
  for (let i = 0; i < count; i++) relationIds.push(reader.uint32());
  return {
    kind: 'truncate',
    xid,
    relationIds,
    cascade: (flags & 1) !== 0,
    restartIdentity: (flags & 2) !== 0,
  };
}

const REPLICA_IDENTITY: Readonly<Record<number, ReplicaIdentity>> = {
  0x64: 'default', // d
  0x6e: 'nothing', // n
  0x66: 'full', // f
  0x69: 'index', // i
};

function readRelation(reader: ByteReader): Relation {
  const id = reader.uint32();
  const schema = readSchema(reader);
  const name = reader.cstring();
  const identity = reader.uint8();
  const replicaIdentity =
    REPLICA_IDENTITY[identity] ??
    reader.fail(`unknown replica identity ${identity}`, reader.position - 1);
  const columnCount = reader.uint16();
  const columns: RelationColumn[] = [];
  for (let i = 0; i < columnCount; i++) {
    columns.push({
      isKey: reader.bool(),
      name: reader.cstring(),
      typeOid: reader.uint32(),
      typmod: reader.int32(),
    });
  }
  return { id, schema, name, replicaIdentity, columns };
}

/** The server leaves the name of pg_catalog out, to save space. */
function readSchema(reader: ByteReader): string {
  return reader.cstring() || 'pg_catalog';
}
