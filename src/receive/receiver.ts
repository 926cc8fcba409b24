import { ProtocolError } from '../base/bytes.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import { Decoder } from '../pgoutput/decode.ts';
import type { XLogData } from '../pgoutput/frame.ts';
import type { Message } from '../pgoutput/message.ts';
import type { Change, LogicalMessage, Relation } from '../pgoutput/transaction.ts';

/** What a link's stream holds, in order. Changes come between a begin and its commit, never outside. */
export type Received =
  | {
      readonly kind: 'begin';
      readonly xid: number;
      readonly finalLsn: Lsn;
      readonly commitTime: PgTime;
    }
  | { readonly kind: 'change'; readonly change: Change; readonly bytes: number }
  | { readonly kind: 'commit'; readonly endLsn: Lsn; readonly commitTime: PgTime }
  /** A message that belongs to no transaction. */
  | { readonly kind: 'message'; readonly message: LogicalMessage };

/**
 * Turns the messages of a stream into what apply works on: joins changes to the relation that was described when they arrived,
 * and leaves out transactions that came to the provider from another node (servers before 16 cannot leave them out themselves)
 * and those that `skips` names.
 */
export class Receiver {
  readonly #decoder = new Decoder();
  readonly #relations = new Map<number, Relation>();
  readonly #skips: (transaction: { xid: number; finalLsn: Lsn }) => boolean;
  #inTransaction = false;
  #skipping = false;
  /** Held back until the message after it, because that may be the one that tells of a foreign origin. */
  #begin: Extract<Received, { kind: 'begin' }> | undefined;

  constructor(skips: (transaction: { xid: number; finalLsn: Lsn }) => boolean) {
    this.#skips = skips;
  }

  /** Hands on what a frame brings, in order. Throws ProtocolError. */
  receive(
    { buffer, payloadStart, payloadEnd }: XLogData,
    take: (received: Received) => void,
  ): void {
    const message = this.#decoder.decode(buffer, payloadStart, payloadEnd);
    if (message.kind === 'begin') {
      if (this.#inTransaction) throw new ProtocolError('transaction begins inside another');
      this.#inTransaction = true;
      this.#skipping = this.#skips(message);
      this.#begin = {
        kind: 'begin',
        xid: message.xid,
        finalLsn: message.finalLsn,
        commitTime: message.commitTime,
      };
      return;
    }
    if (message.kind === 'origin') {
      if (!this.#begin)
        throw new ProtocolError('origin is not the first message of its transaction');
      this.#skipping = true;
      return;
    }
    const received = this.#read(message, payloadEnd - payloadStart);
    if (!received || (this.#skipping && received.kind !== 'message')) {
      if (received?.kind === 'commit') this.#begin = undefined;
      return;
    }
    const begin = received.kind === 'message' ? undefined : this.#begin;
    if (begin) {
      this.#begin = undefined;
      take(begin);
    }
    take(received);
  }

  #read(message: Message, bytes: number): Received | undefined {
    switch (message.kind) {
      case 'relation':
        this.#relations.set(message.relation.id, message.relation);
        return undefined;
      case 'type':
        return undefined;
      case 'commit':
        this.#within();
        this.#inTransaction = false;
        return { kind: 'commit', endLsn: message.endLsn, commitTime: message.commitTime };
      case 'message':
        if (!message.transactional) return { kind: 'message', message };
        this.#within();
        return { kind: 'change', change: message, bytes };
      case 'insert': {
        const relation = this.#relation(message.relationId);
        return {
          kind: 'change',
          change: { kind: 'insert', relation, newTuple: message.newTuple },
          bytes,
        };
      }
      case 'update': {
        const { oldTuple, oldTupleIsKey, newTuple } = message;
        const relation = this.#relation(message.relationId);
        return {
          kind: 'change',
          change: { kind: 'update', relation, oldTuple, oldTupleIsKey, newTuple },
          bytes,
        };
      }
      case 'delete': {
        const { oldTuple, oldTupleIsKey } = message;
        const relation = this.#relation(message.relationId);
        return {
          kind: 'change',
          change: { kind: 'delete', relation, oldTuple, oldTupleIsKey },
          bytes,
        };
      }
      case 'truncate': {
        const { relationIds, cascade, restartIdentity } = message;
        const relations = relationIds.map((id) => this.#relation(id));
        return {
          kind: 'change',
          change: { kind: 'truncate', relations, cascade, restartIdentity },
          bytes,
        };
      }
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
    if (!this.#inTransaction) throw new ProtocolError('a change outside of any transaction');
  }

  #relation(id: number): Relation {
    this.#within();
    const relation = this.#relations.get(id);
    if (!relation) throw new ProtocolError(`relation ${id} was never described`);
    return relation;
  }
}
