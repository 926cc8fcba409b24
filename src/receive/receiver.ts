import { ProtocolError } from '../base/bytes.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import { changeOf } from '../pgoutput/change-of.ts';
import { Decoder } from '../pgoutput/decode.ts';
import type { XLogData } from '../pgoutput/frame.ts';
import {
  MESSAGE_TYPE,
  type Message,
  type StreamAbortMessage,
  type StreamCommitMessage,
  type StreamStartMessage,
  type StreamStopMessage,
} from '../pgoutput/message.ts';
import { RelationScope } from '../pgoutput/relation-scope.ts';
import type { Change } from '../pgoutput/transaction.ts';
import type { StreamedTransaction, StreamedTransactions } from './streamed-transactions.ts';

/** A transaction begins. */
export interface Begun {
  readonly kind: 'begin';
  readonly xid: number;
  readonly finalLsn: Lsn;
  readonly commitTime: PgTime;
}

/** What a link's stream holds, in order. Changes come between a begin and its commit; a message outside of any is not transactional. */
export type Received =
  Begun | Change | { readonly kind: 'commit'; readonly endLsn: Lsn; readonly commitTime: PgTime };

/** A streamed transaction that has committed: it counts here, in the order of the stream. */
export interface StreamedCommit {
  readonly transaction: StreamedTransaction;
  readonly commit: StreamCommitMessage;
}

/** Follows streamed transactions while they come, in order. What it is told may still be taken back. */
export interface Watcher {
  /** A chunk begins, the first of its transaction or a later one. Returns whether to tell what it brings. */
  begins(xid: number, isFirst: boolean): boolean;
  changes(change: Change): void;
  /** The chunk ends. */
  ends(): void;
  /** All that the transaction, or a subtransaction of it, has brought is taken back, or not to be applied. */
  takenBack(xid: number): void;
}

/** Hands on what was received, in order. */
export type Take = (received: Received) => void;

/**
 * Turns the messages of a stream into what apply works on: joins changes to the relation that was described when they arrived,
 * and leaves out transactions that came to the provider from another node (servers before 16 cannot leave them out themselves)
 * and those that `skips` names. What is streamed before it has committed is kept until then.
 */
export class Receiver {
  readonly #decoder = new Decoder();
  readonly #skips: (transaction: { xid: number; finalLsn: Lsn }) => boolean;
  readonly #streamed: StreamedTransactions | undefined;
  readonly #watcher: Watcher | undefined;
  /** The chunk has begun, and nothing of it has come yet: that may be what tells of a foreign origin. */
  #startOfChunk: StreamStartMessage | undefined;
  /** The watcher is told of the changes in the open chunk. */
  #isWatched = false;
  #relations = new RelationScope();
  /** Counts descriptions of relations. */
  #arrivals = 0;
  /** The transaction of which not all has come. */
  #open: Begun | undefined;
  #skipping = false;
  /** Held back until the message after it, because that may be the one that tells of a foreign origin. */
  #begin: Begun | undefined;

  /** `streamed`: where to keep streamed transactions; without it none may come. `watcher`: who is told of them meanwhile. */
  constructor(
    skips: (transaction: { xid: number; finalLsn: Lsn }) => boolean,
    streamed?: StreamedTransactions,
    watcher?: Watcher,
  ) {
    this.#skips = skips;
    this.#watcher = watcher;
    this.#streamed = streamed;
  }

  /** The transaction of which not all has come; undefined between transactions, and inside of a chunk. */
  get open(): Begun | undefined {
    return this.#open;
  }

  /**
   * Hands on what a frame brings, in order. When that ends a streamed transaction it is returned, and `replay` must hand it on
   * before the next frame is received. Throws ProtocolError.
   */
  receive({ buffer, payloadStart, payloadEnd }: XLogData, take: Take): StreamedCommit | undefined {
    const streamed = this.#streamed;
    if (streamed?.current && this.#isOnlyKept(buffer[payloadStart])) {
      if (!streamed.current.origin) streamed.current.keep(buffer, payloadStart, payloadEnd);
      return undefined;
    }
    const message = this.#decoder.decode(buffer, payloadStart, payloadEnd);
    if (streamed?.current) {
      if (message.kind === 'streamStop') this.#stopChunk(streamed);
      else this.#keep(streamed.current, message, { buffer, payloadStart, payloadEnd }, take);
      return undefined;
    }
    if (streamed && isBetweenChunks(message)) return this.#follow(streamed, message);
    this.#handle(message, take);
    return undefined;
  }

  /** Passes over a streamed transaction that has been applied already. */
  async passOver({ transaction }: StreamedCommit): Promise<void> {
    await using ended = transaction;
    this.#relations.adopt(ended.relations);
  }

  /** Hands on a streamed transaction as if it came now. `room` is waited for now and then: it may be larger than memory. */
  async replay(
    { transaction, commit }: StreamedCommit,
    take: Take,
    room: () => Promise<void>,
  ): Promise<void> {
    await using ended = transaction;
    const { xid, commitLsn, endLsn, commitTime } = commit;
    const relations = this.#relations;
    this.#handle({ kind: 'begin', xid, finalLsn: commitLsn, commitTime }, take);
    if (ended.origin) this.#handle(ended.origin, take);
    // Described again message by message: a table may have changed in the middle of it.
    this.#relations = new RelationScope(ended.relations);
    for await (const messages of ended.read()) {
      for (const message of messages) this.#handle(message, take);
      await room();
    }
    this.#relations = relations;
    relations.adopt(ended.relations);
    this.#handle({ kind: 'commit', commitLsn, endLsn, commitTime }, take);
  }

  /** Takes a message that stands between chunks. */
  #follow(streamed: StreamedTransactions, message: BetweenChunks): StreamedCommit | undefined {
    this.#requireNoTransaction();
    switch (message.kind) {
      case 'streamStart':
        streamed.startChunk(message, this.#relations);
        this.#startOfChunk = message;
        return undefined;
      case 'streamAbort':
        streamed.abort(message);
        this.#watcher?.takenBack(message.xid);
        return undefined;
      case 'streamCommit':
        return { transaction: streamed.commit(message), commit: message };
    }
  }

  #stopChunk(streamed: StreamedTransactions): void {
    streamed.stopChunk();
    if (this.#isWatched) this.#watcher?.ends();
    this.#isWatched = false;
    this.#startOfChunk = undefined;
  }

  /** Whether a message of the open chunk is decoded only when it is read again: a change of a row that nobody watches. */
  #isOnlyKept(type: number | undefined): boolean {
    if (this.#isWatched || this.#startOfChunk !== undefined) return false;
    return (
      type === MESSAGE_TYPE.insert || type === MESSAGE_TYPE.update || type === MESSAGE_TYPE.delete
    );
  }

  /** Takes a message of the open chunk. */
  #keep(
    transaction: StreamedTransaction,
    message: Exclude<Message, StreamStopMessage>,
    { buffer, payloadStart, payloadEnd }: Pick<XLogData, 'buffer' | 'payloadStart' | 'payloadEnd'>,
    take: Take,
  ): void {
    const start = this.#startOfChunk;
    this.#startOfChunk = undefined;
    if (start && message.kind !== 'origin' && !transaction.origin) {
      this.#isWatched = this.#watcher?.begins(start.xid, start.firstChunk) ?? false;
    }
    switch (message.kind) {
      case 'origin':
        // In the first chunk only, before anything else.
        transaction.origin = message;
        return;
      case 'message':
        if (!message.transactional) return take(message);
        if (this.#isWatched) this.#watcher?.changes(message);
        break;
      case 'relation':
        transaction.relations.describe(message.relation, ++this.#arrivals);
        break;
      case 'insert':
      case 'update':
      case 'delete':
      case 'truncate':
        if (this.#isWatched) {
          this.#watcher?.changes(changeOf(message, (id) => transaction.relations.find(id)));
        }
        break;
      case 'type':
        break;
      case 'begin':
      case 'commit':
      case 'beginPrepare':
      case 'prepare':
      case 'commitPrepared':
      case 'rollbackPrepared':
      case 'streamStart':
      case 'streamCommit':
      case 'streamAbort':
      case 'streamPrepare':
        throw new ProtocolError(`message "${message.kind}" inside a chunk`);
    }
    if (!transaction.origin) transaction.keep(buffer, payloadStart, payloadEnd);
  }

  #handle(message: Message, take: Take): void {
    if (message.kind === 'begin') {
      this.#requireNoTransaction();
      this.#skipping = this.#skips(message);
      const { xid, finalLsn, commitTime } = message;
      this.#begin = { kind: 'begin', xid, finalLsn, commitTime };
      this.#open = this.#begin;
      return;
    }
    if (message.kind === 'origin') {
      if (!this.#begin)
        throw new ProtocolError('origin is not the first message of its transaction');
      this.#skipping = true;
      return;
    }
    const received = this.#read(message);
    if (!received) return;
    if (received.kind === 'message' && !received.transactional) return take(received);
    if (this.#skipping) {
      if (received.kind === 'commit') this.#begin = undefined;
      return;
    }
    if (this.#begin) {
      take(this.#begin);
      this.#begin = undefined;
    }
    take(received);
  }

  #read(message: Message): Received | undefined {
    switch (message.kind) {
      case 'relation':
        this.#relations.describe(message.relation, ++this.#arrivals);
        return undefined;
      case 'type':
        return undefined;
      case 'commit':
        this.#within();
        this.#open = undefined;
        return { kind: 'commit', endLsn: message.endLsn, commitTime: message.commitTime };
      case 'message':
        if (message.transactional) this.#within();
        return message;
      case 'insert':
      case 'update':
      case 'delete':
      case 'truncate':
        this.#within();
        return changeOf(message, (id) => this.#relations.find(id));
      case 'begin':
      case 'origin':
      case 'beginPrepare':
      case 'prepare':
      case 'commitPrepared':
      case 'rollbackPrepared':
      case 'streamStart':
      case 'streamStop':
      case 'streamCommit':
      case 'streamAbort':
      case 'streamPrepare':
        throw new ProtocolError(`message "${message.kind}" was not asked for`);
    }
  }

  #within(): void {
    if (!this.#open) throw new ProtocolError('a change outside of any transaction');
  }

  #requireNoTransaction(): void {
    if (this.#open) throw new ProtocolError('transaction begins inside another');
  }
}

/** What tells of streamed transactions outside of their chunks. */
type BetweenChunks = StreamStartMessage | StreamAbortMessage | StreamCommitMessage;

function isBetweenChunks(message: Message): message is BetweenChunks {
  const { kind } = message;
  return kind === 'streamStart' || kind === 'streamAbort' || kind === 'streamCommit';
}
