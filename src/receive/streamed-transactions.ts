import { ProtocolError } from '../base/bytes.ts';
import { Decoder } from '../pgoutput/decode.ts';
import type {
  Message,
  OriginMessage,
  StreamAbortMessage,
  StreamCommitMessage,
  StreamStartMessage,
} from '../pgoutput/message.ts';
import { RelationScope } from '../pgoutput/relation-scope.ts';
import { Spool } from './spool.ts';

/** A transaction that is streamed before it has ended. */
export class StreamedTransaction implements AsyncDisposable {
  /** What the provider has described in it, which counts for others once it has committed. */
  readonly relations: RelationScope;
  /** Set where it came to the provider from another node: of such a one nothing is kept. */
  origin: OriginMessage | undefined;
  readonly #spool: Spool;
  /** Up to which position of the spool what a subtransaction did is taken back. */
  readonly #aborted = new Map<number, number>();

  constructor(spool: Spool, relations: RelationScope) {
    this.#spool = spool;
    this.relations = relations;
  }

  keep(buffer: Buffer, start: number, end: number): void {
    this.#spool.append(buffer, start, end);
  }

  /** Takes back what a subtransaction did. What it described remains: the provider does not describe it again. */
  abortSubtransaction(xid: number): void {
    this.#aborted.set(xid, this.#spool.position);
  }

  room(): Promise<void> {
    return this.#spool.room();
  }

  /** What was kept and not taken back, a batch for each read of the disk. */
  async *read(): AsyncGenerator<readonly Message[], void, void> {
    const decoder = new Decoder({ inChunk: true });
    for await (const { buffer, bounds, position } of this.#spool.read()) {
      const messages: Message[] = [];
      for (let at = 0; at < bounds.length; at += 2) {
        const [start, end] = [bounds[at] as number, bounds[at + 1] as number];
        const message = decoder.decode(buffer, start, end);
        if (!this.#isAborted(message, position + start)) messages.push(message);
      }
      yield messages;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#spool[Symbol.asyncDispose]();
  }

  #isAborted(message: Message, position: number): boolean {
    if (this.#aborted.size === 0 || !('xid' in message) || message.kind === 'relation')
      return false;
    return position < (this.#aborted.get(message.xid) ?? 0);
  }
}

/**
 * The transactions of one stream that are streamed before they end: large ones, of which the provider holds no more than
 * logical_decoding_work_mem. They come in chunks, between which there may be plain transactions and chunks of others. What has
 * come of them is kept until their commit, the place in which they count (DESIGN 3.3).
 */
export class StreamedTransactions implements AsyncDisposable {
  readonly #directory: string;
  readonly #open = new Map<number, StreamedTransaction>();
  /** The transaction whose chunk is open. */
  #current: StreamedTransaction | undefined;
  /** Files of aborted transactions that are being closed. */
  readonly #ending: Promise<void>[] = [];

  /** `directory`: for what does not fit into memory. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** The transaction whose chunk is open. */
  get current(): StreamedTransaction | undefined {
    return this.#current;
  }

  startChunk({ xid, firstChunk }: StreamStartMessage, relations: RelationScope): void {
    this.#requireNoChunk();
    const known = this.#open.get(xid);
    if (firstChunk === (known !== undefined)) {
      throw new ProtocolError(
        firstChunk ? `transaction ${xid} streamed twice` : `transaction ${xid} has no first chunk`,
      );
    }
    const transaction =
      known ?? new StreamedTransaction(new Spool(this.#directory), new RelationScope(relations));
    this.#open.set(xid, transaction);
    this.#current = transaction;
  }

  stopChunk(): void {
    if (!this.#current) throw new ProtocolError('the end of a chunk outside one');
    this.#current = undefined;
  }

  /** Gives the transaction away, to be read and disposed of. */
  commit({ xid }: StreamCommitMessage): StreamedTransaction {
    const transaction = this.#find(xid);
    this.#open.delete(xid);
    return transaction;
  }

  /**
   * Takes back what a transaction or a subtransaction did. From 18 on a server that comes to a large transaction only after it was rolled
   * back sends nothing of it but the ends of its subtransactions: of these nothing is here.
   */
  abort({ xid, subXid }: StreamAbortMessage): void {
    if (subXid !== xid && !this.#isOpen(xid)) return;
    const transaction = this.#find(xid);
    if (subXid !== xid) return transaction.abortSubtransaction(subXid);
    this.#open.delete(xid);
    this.#ending.push(transaction[Symbol.asyncDispose]());
  }

  /** Resolves when the disk has taken enough of what was kept. Throws BdrError `spool_failed`. */
  async room(): Promise<void> {
    await Promise.all(this.#ending.splice(0));
    for (const transaction of this.#open.values()) await transaction.room();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const open = [...this.#open.values()];
    this.#open.clear();
    await Promise.all([
      ...this.#ending.splice(0),
      ...open.map((transaction) => transaction[Symbol.asyncDispose]()),
    ]);
  }

  #isOpen(xid: number): boolean {
    this.#requireNoChunk();
    return this.#open.has(xid);
  }

  #find(xid: number): StreamedTransaction {
    this.#requireNoChunk();
    const transaction = this.#open.get(xid);
    if (!transaction) throw new ProtocolError(`transaction ${xid} was not streamed`);
    return transaction;
  }

  #requireNoChunk(): void {
    if (this.#current) throw new ProtocolError('a chunk that has not ended');
  }
}
