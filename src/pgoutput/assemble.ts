import { ProtocolError } from '../base/bytes.ts';
import { formatLsn } from '../base/lsn.ts';
import { changeOf, type ChangeMessage } from './change-of.ts';
import type { BeginMessage, CommitMessage, Message, OriginMessage } from './message.ts';
import type { LogicalDecodingMessage, StreamAbortMessage } from './message.ts';
import type { StreamCommitMessage, StreamStartMessage } from './message.ts';
import { PendingTransaction } from './pending-transaction.ts';
import { RelationScope } from './relation-scope.ts';
import {
  bytesOf,
  type Change,
  type LogicalMessage,
  type RemoteTransaction,
} from './transaction.ts';

/** What comes out of the assembler: a whole transaction, or a message that belongs to none. */
export type Assembled =
  | { readonly kind: 'transaction'; readonly transaction: RemoteTransaction }
  | { readonly kind: 'message'; readonly message: LogicalMessage };

/** What a change costs besides its bytes: the objects around it, measured roughly. */
const CHANGE_OVERHEAD_BYTES = 160;

/**
 * Puts the messages of one stream together to transactions; manual: "Logical Streaming Replication Protocol", Logical
 * Replication Protocol Message Flow.
 *
 * A plain transaction is `begin`, changes, `commit`, without a break. A large one may be streamed before it ends: in chunks,
 * each `streamStart`, changes, `streamStop`, between which there may be plain transactions and chunks of others; subtransactions
 * that abort meanwhile are taken back by `streamAbort`, and `streamCommit` or a `streamAbort` of the whole ends it. Transactions
 * come out in the order of their commits on the provider.
 *
 * Messages in an order that the protocol does not allow throw ProtocolError; the stream is lost then.
 */
export class Assembler {
  readonly #relations = new RelationScope();
  #arrivals = 0;
  /** Set between `begin` and `commit`. */
  #begin: BeginMessage | null = null;
  /** The plain transaction that is open, or the streamed one whose chunk is. */
  #current: PendingTransaction | null = null;
  readonly #streamed = new Map<number, PendingTransaction>();
  #heldBytes = 0;

  /** About how much memory is held by transactions that have not ended. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Takes the next message of the stream, and returns what it completes. */
  push(message: Message): Assembled | null {
    switch (message.kind) {
      case 'insert':
      case 'update':
      case 'delete':
      case 'truncate':
        this.#addChange(message);
        return null;
      case 'begin':
        this.#requireNoneOpen(message.kind);
        this.#begin = message;
        this.#current = new PendingTransaction(message.xid, this.#relations);
        return null;
      case 'commit':
        return this.#commit(message);
      case 'relation':
        (this.#current?.relations ?? this.#relations).describe(message.relation, ++this.#arrivals);
        return null;
      case 'type':
        // Types are matched by the columns they stand in, on the subscriber.
        return null;
      case 'message':
        return this.#addMessage(message);
      case 'origin':
        this.#setOrigin(message);
        return null;
      case 'streamStart':
        this.#startChunk(message);
        return null;
      case 'streamStop':
        if (this.#begin !== null) throw outOfOrder(message.kind);
        this.#require(message.kind);
        this.#current = null;
        return null;
      case 'streamCommit':
        return this.#commitStreamed(message);
      case 'streamAbort':
        this.#abortStreamed(message);
        return null;
      case 'beginPrepare':
      case 'prepare':
      case 'commitPrepared':
      case 'rollbackPrepared':
      case 'streamPrepare':
        throw new ProtocolError(`${message.kind}, but two-phase decoding was not asked for`);
    }
  }

  #addChange(message: ChangeMessage): void {
    const pending = this.#require(message.kind);
    this.#add(
      pending,
      message.xid,
      changeOf(message, (id) => pending.relations.find(id)),
    );
  }

  #addMessage(message: LogicalDecodingMessage): Assembled | null {
    const { kind, transactional, lsn, prefix, content } = message;
    const plain: LogicalMessage = { kind, transactional, lsn, prefix, content };
    if (!transactional) return { kind: 'message', message: plain };
    this.#add(this.#require(kind), message.xid, plain);
    return null;
  }

  #add(pending: PendingTransaction, xid: number, change: Change): void {
    const bytes = bytesOf(change) + CHANGE_OVERHEAD_BYTES;
    pending.add(xid, change, bytes);
    this.#heldBytes += bytes;
  }

  #setOrigin({ kind, name, lsn }: OriginMessage): void {
    this.#require(kind).origin = { name, lsn };
  }

  #commit(message: CommitMessage): Assembled {
    const begin = this.#begin;
    if (begin === null) throw outOfOrder(message.kind);
    if (begin.finalLsn !== message.commitLsn) {
      throw new ProtocolError(
        `commit at ${formatLsn(message.commitLsn)}, announced at ${formatLsn(begin.finalLsn)}`,
      );
    }
    const pending = this.#require(message.kind);
    this.#begin = null;
    this.#current = null;
    return this.#complete(pending, message);
  }

  #startChunk({ kind, xid, firstChunk }: StreamStartMessage): void {
    this.#requireNoneOpen(kind);
    const known = this.#streamed.get(xid);
    if (firstChunk === (known !== undefined)) {
      throw new ProtocolError(
        firstChunk ? `transaction ${xid} streamed twice` : `transaction ${xid} has no first chunk`,
      );
    }
    const pending = known ?? new PendingTransaction(xid, new RelationScope(this.#relations));
    this.#streamed.set(xid, pending);
    this.#current = pending;
  }

  #commitStreamed(message: StreamCommitMessage): Assembled {
    const pending = this.#requireStreamed(message);
    this.#streamed.delete(message.xid);
    this.#relations.adopt(pending.relations);
    return this.#complete(pending, message);
  }

  #abortStreamed(message: StreamAbortMessage): void {
    const isOfSubtransaction = message.subXid !== message.xid;
    // From 18 on all that a server sends of a large transaction that it came to only after it was rolled back.
    if (isOfSubtransaction && this.#current === null && !this.#streamed.has(message.xid)) return;
    const pending = this.#requireStreamed(message);
    this.#heldBytes -= pending.bytes;
    if (isOfSubtransaction) {
      pending.abortSubtransaction(message.subXid);
      this.#heldBytes += pending.bytes;
    } else {
      this.#streamed.delete(message.xid);
    }
  }

  #complete(
    pending: PendingTransaction,
    { commitLsn, endLsn, commitTime }: CommitMessage | StreamCommitMessage,
  ): Assembled {
    const { xid, origin, bytes } = pending;
    this.#heldBytes -= bytes;
    const changes = pending.changes();
    const transaction = { xid, commitLsn, endLsn, commitTime, origin, changes, bytes };
    return { kind: 'transaction', transaction };
  }

  #require(kind: Message['kind']): PendingTransaction {
    return this.#current ?? fail(outOfOrder(kind));
  }

  #requireNoneOpen(kind: Message['kind']): void {
    if (this.#current !== null) throw new ProtocolError(`${kind} inside a transaction`);
  }

  #requireStreamed({ kind, xid }: StreamCommitMessage | StreamAbortMessage): PendingTransaction {
    this.#requireNoneOpen(kind);
    return (
      this.#streamed.get(xid) ??
      fail(new ProtocolError(`${kind} of transaction ${xid}, which was not streamed`))
    );
  }
}

function outOfOrder(kind: Message['kind']): ProtocolError {
  return new ProtocolError(`${kind} outside a transaction`);
}

function fail(error: ProtocolError): never {
  throw error;
}
