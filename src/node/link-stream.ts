import type { ApplyWorker } from '../apply/apply-worker.ts';
import { ApplyPaused } from '../apply/entrance.ts';
import type { EarlyApply } from '../apply/early-apply.ts';
import { groupSize, loneRun } from '../apply/group.ts';
import type { LostValues } from '../apply/lost-values.ts';
import type { DefinitionNotes } from '../apply/definition-notes.ts';
import type { LostWrites } from '../apply/lost-writes.ts';
import { isOwn } from '../apply/table.ts';
import { PartBuilder, type TransactionPart } from '../apply/transaction-part.ts';
import { Seen } from '../model/seen.ts';
import { assert } from '../base/assert.ts';
import { BoundedQueue } from '../base/bounded-queue.ts';
import { formatLsn, ZERO_LSN, type Lsn } from '../base/lsn.ts';
import { LONG_AGO } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';
import { hasDefinition } from '../catalog/definition-notes.ts';
import { recordSkippedSql } from '../catalog/skipped-transactions.ts';
import { temporaryDir } from '../config/paths.ts';
import { nodeKey, othersThan } from '../model/node.ts';
import { FrameDecoder, type Keepalive } from '../pgoutput/frame.ts';
import type { Change, LogicalMessage } from '../pgoutput/transaction.ts';
import { StreamError } from '../postgres/replication-session.ts';
import { snapshotShows } from '../postgres/snapshot-shows.ts';
import { isLockAsk, readDefinitionNote } from '../receive/message-guard.ts';
import { Receiver, type Received, type StreamedCommit, type Take } from '../receive/receiver.ts';
import { SkipFilter, type Skipped } from '../receive/skip-filter.ts';
import { StreamedTransactions } from '../receive/streamed-transactions.ts';
import { parseHeartbeat, settledUpTo } from '../receive/watermark.ts';
import { isFaultOfTransaction, UnsentTransaction } from './failed-transaction.ts';
import { EARLY_LOOK_MS, EarlyStream, type EarlyArrival } from './early-stream.ts';
import { GroupPatience } from './group-patience.ts';
import type { LinkConnections } from './link-connections.ts';
import type { LinkContext } from './link-context.ts';
import { linkLog } from './link-log.ts';
import type { LinkState } from './link-state.ts';
import { createLinkWorkers } from './link-workers.ts';

/** What has arrived and waits to be applied, in the order of the stream. */
type Arrival =
  | { readonly kind: 'part'; readonly part: TransactionPart }
  | { readonly kind: 'message'; readonly message: LogicalMessage }
  /** The provider wants to know how far all is applied. */
  | { readonly kind: 'ask'; readonly keepalive: Keepalive }
  | EarlyArrival
  | Skipped;

/** The life of a link ends: the stream is to begin anew behind a transaction that could not be sent, and is skipped. */
export class UnsentPassed extends Error {
  constructor() {
    super('a transaction that cannot be sent is passed');
    this.name = 'UnsentPassed';
  }
}

/** So many bytes of changes may wait while others are applied. */
const MOST_WAITING_BYTES = 4 * 1024 * 1024;
/** Until something is applied: what is decoded before then keeps the first tables from being looked up, and pays nothing. */
const FIRST_WAITING_BYTES = 512 * 1024;
/** Rows are read again no more often. */
const LOST_VALUES_MS = 1000;
/** So many arrivals make a backlog, for which waiting for other links may pay. */
const LEAST_BACKLOG = 20;
/** How often it is looked whether another link has applied a command. */
const DEFINITION_POLL_MS = 20;
/** About what an arrival costs besides its bytes on the wire. */
const ARRIVAL_BYTES = 200;

/**
 * Receives, applies and counts, in the order of the stream: receive → decode → group → decide → write → acknowledge. While the
 * server works on one group, the next is received; the socket is read no faster than that.
 */
export class LinkStream {
  readonly #context: LinkContext;
  readonly #connections: LinkConnections;
  readonly #state: LinkState;
  readonly #worker: ApplyWorker;
  readonly #lostValues: LostValues;
  /** They were looked after then. */
  #lostValuesAt = -Infinity;
  readonly #lostWrites: LostWrites;
  readonly #definitionNotes: DefinitionNotes;
  readonly #receiver: Receiver;
  readonly #streamed = new StreamedTransactions(temporaryDir());
  readonly #skips: SkipFilter;
  readonly #arrivals = new BoundedQueue<Arrival>(FIRST_WAITING_BYTES, memoryOf);
  readonly #early: EarlyStream;
  readonly #earlyApply: EarlyApply;
  /** The transaction that is being received. */
  #builder: PartBuilder | undefined;
  /** From the last heartbeat that was received. */
  #seen = new Seen();
  #heartbeat: Buffer | undefined;
  /** Of a transaction only some parts are applied. */
  #open = false;
  /** So many arrivals are handled. */
  #handled = 0;
  /** With so many handled, all is that the provider had when it said that it had no more. */
  #caughtUpWith = Infinity;
  readonly #patience: GroupPatience;

  constructor(context: LinkContext, connections: LinkConnections, state: LinkState) {
    this.#context = context;
    this.#connections = connections;
    this.#state = state;
    this.#patience = new GroupPatience(context, () => state.watermark);
    const { worker, early, lostValues, lostWrites, definitionNotes } = createLinkWorkers(
      context,
      connections,
      state,
      {
        onCommit: (parts) => this.#countCommit(parts),
        onRollback: () => {
          state.rollbacks += 1;
          // What is applied early may be in the way, and waits for nobody. A failure is seen by who uses its session next.
          this.#early.giveUp('another transaction could not be applied').catch(() => undefined);
        },
      },
    );
    this.#worker = worker;
    this.#lostValues = lostValues;
    this.#lostWrites = lostWrites;
    this.#definitionNotes = definitionNotes;
    this.#earlyApply = early;
    const { skip, skipRequest } = context.record;
    this.#skips = new SkipFilter(skipRequest?.upto);
    this.#early = new EarlyStream(
      this.#earlyApply,
      (arrival) => this.#arrivals.push(arrival),
      // Not what may have to be left out, or must wait: that is known at the commit.
      () =>
        skipRequest === null &&
        context.applyDelayMs === 0 &&
        (skip === null || (state.received ?? ZERO_LSN) >= skip.until),
      linkLog(context),
    );
    this.#receiver = new Receiver(
      ({ xid, finalLsn }) =>
        skip !== null && finalLsn < skip.until && snapshotShows(skip.snapshot, xid),
      this.#streamed,
      this.#early,
    );
  }

  /** Runs until the stream ends; throws what ends it. */
  async run(): Promise<void> {
    const ended = new AbortController();
    const signal = AbortSignal.any([this.#connections.signal, ended.signal]);
    const receiving = this.#receive(signal).then(
      () => this.#arrivals.close(new Error('the stream has ended')),
      (error: unknown) => this.#arrivals.close(this.#endOf(error)),
    );
    try {
      await this.#apply(signal);
    } catch (error) {
      // It may be told here first: what is applied early looks once a second.
      if (error instanceof ApplyPaused) await this.#early.giveUp(error.message);
      throw error;
    } finally {
      ended.abort();
      // Ends the wait for the next bytes as well.
      await this.#connections.stream[Symbol.asyncDispose]();
      await receiving;
      await this.#streamed[Symbol.asyncDispose]();
      await this.#earlyApply[Symbol.asyncDispose]();
      await this.#lostWrites[Symbol.asyncDispose]();
      await this.#definitionNotes[Symbol.asyncDispose]();
    }
  }

  /** Reads the socket and puts what arrives in line. */
  async #receive(signal: AbortSignal): Promise<void> {
    const { stream } = this.#connections;
    const state = this.#state;
    const frames = new FrameDecoder();
    state.isApplying = false;
    state.waitingSince = performance.now();
    const take = (received: Received) => {
      const passed = this.#connections.guard.pass(received);
      const left = passed && this.#skips.pass(passed);
      if (left) this.#arrive(left);
    };
    for await (const { buffer, bounds } of stream.batches()) {
      state.waitingSince = undefined;
      for (let at = 0; at < bounds.length; at += 2) {
        const frame = frames.decode(buffer, bounds[at], bounds[at + 1]);
        if (frame.kind === 'keepalive') {
          // One that asks for an answer may come in the middle of what there is to send.
          if (frame.replyRequested) this.#arrivals.push({ kind: 'ask', keepalive: frame });
          else this.#hasNoMore();
          continue;
        }
        if (state.received === null || frame.endLsn > state.received) state.received = frame.endLsn;
        const committed = this.#receiver.receive(frame, take);
        if (committed) await this.#commitStreamed(committed, take, signal);
      }
      await this.#streamed.room();
      await this.#arrivals.room(signal);
      state.waitingSince = performance.now();
    }
  }

  async #commitStreamed(committed: StreamedCommit, take: Take, signal: AbortSignal): Promise<void> {
    let isApplied: boolean;
    try {
      isApplied = await this.#early.committed(committed.commit, signal);
    } catch (error) {
      // The stream ends before its turn has come: nobody else has its file any more.
      await committed.transaction[Symbol.asyncDispose]();
      throw error;
    }
    if (isApplied) await this.#receiver.passOver(committed);
    else await this.#receiver.replay(committed, take, () => this.#arrivals.room(signal));
  }

  /** What ends the stream where the provider cannot go on with a transaction; that is passed over first if it is to be skipped. */
  #endOf(error: unknown): unknown {
    if (!(error instanceof StreamError) || !isFaultOfTransaction(error)) return error;
    const { open } = this.#receiver;
    const skipped = open && this.#skips.passUnsent(open);
    if (skipped) {
      this.#arrivals.push(skipped);
      return new UnsentPassed();
    }
    const failed = open && {
      xid: open.xid,
      commitLsn: open.finalLsn,
      commitTime: open.commitTime,
    };
    return new UnsentTransaction(this.#context.provider.name, error, failed);
  }

  #arrive(received: Received | Skipped): void {
    switch (received.kind) {
      case 'begin': {
        const { xid, commitTime, finalLsn } = received;
        this.#heartbeat = undefined;
        const context = { xid, commitTime, commitLsn: finalLsn, seen: this.#seen };
        this.#builder = new PartBuilder(context);
        return;
      }
      case 'commit': {
        this.#put(this.#builder?.end(received.endLsn));
        this.#builder = undefined;
        // What follows in the stream was written after the heartbeat told what its node had seen.
        const heartbeat = this.#heartbeat && parseHeartbeat(this.#heartbeat);
        if (heartbeat) {
          this.#seen = new Seen(heartbeat.applied);
          this.#early.heard(heartbeat);
        }
        return;
      }
      case 'skipped':
        this.#arrivals.push(received);
        return;
      case 'message':
        if (!received.transactional) {
          // Any role may emit any others, as many as it likes.
          if (received.prefix === 'bdr')
            this.#arrivals.push({ kind: 'message', message: received });
          return;
        }
        if (isHeartbeat(received)) this.#heartbeat = received.content;
        break;
      case 'insert':
      case 'update':
      case 'delete':
      case 'truncate':
        break;
    }
    this.#put(this.#builder?.add(received));
  }

  /**
   * A keepalive says that the provider had no more to send. It does so each time that it waits for more, behind every transaction
   * while somebody writes: so keepalives have no place in line, where each would end a group.
   */
  #hasNoMore(): void {
    this.#caughtUpWith = Math.min(this.#caughtUpWith, this.#arrivals.pushed);
    this.#lookWhetherCaughtUp();
  }

  #lookWhetherCaughtUp(): void {
    if (this.#handled < this.#caughtUpWith) return;
    this.#caughtUpWith = Infinity;
    this.#state.caughtUp = true;
  }

  #put(part: TransactionPart | undefined): void {
    if (part) this.#arrivals.push({ kind: 'part', part });
  }

  /** Takes what has arrived, as much at once as may share a local transaction, and applies it. */
  async #apply(signal: AbortSignal): Promise<void> {
    const state = this.#state;
    // Before anything else: a policy that cannot be carried out stops the link here.
    await this.#lostWrites.settle();
    for (;;) {
      await this.#arrivals.filled(signal, this.#early.isOpen ? EARLY_LOOK_MS : Infinity);
      state.progressAt = performance.now();
      state.isApplying = true;
      await this.#early.look();
      const { first } = this.#arrivals;
      if (first?.kind === 'part') {
        this.#handled += await this.#applyParts(signal);
        if (first.part.changes.some(isOfUser)) this.#arrivals.widen(MOST_WAITING_BYTES);
      } else {
        const some = this.#arrivals.take(1);
        await this.#handle(some[0], signal);
        this.#handled += some.length;
      }
      this.#lookWhetherCaughtUp();
      await this.#settleLostValues();
      if (!this.#open) await this.#lostWrites.settle();
      signal.throwIfAborted();
      state.isApplying = false;
      // Silence counts from here: until now nothing was asked for.
      if (state.waitingSince !== undefined) state.waitingSince = performance.now();
    }
  }

  /** Between two transactions. To be called often. */
  async #settleLostValues(): Promise<void> {
    const now = performance.now();
    const { watermark } = this.#state;
    if (this.#open || watermark === LONG_AGO || now - this.#lostValuesAt < LOST_VALUES_MS) return;
    this.#lostValuesAt = now;
    await this.#lostValues.settle(watermark);
  }

  /** Returns how many it has applied. */
  async #applyParts(signal: AbortSignal): Promise<number> {
    await this.#waitForOthers(signal);
    const size = this.#groupSize();
    const lone = size === 1 ? loneRun(partsIn(this.#arrivals.items())) : [];
    if (lone.length > 0) {
      const applied = await this.#worker.applyEach(lone);
      this.#arrivals.take(applied);
      return applied;
    }
    const group = [...partsIn(this.#arrivals.take(size))];
    this.#open = group.at(-1)?.endLsn === undefined;
    await this.#worker.apply(group, () => this.#nextGroup());
    return group.length;
  }

  /** What may share a local transaction behind the one that is being applied, as far as it has arrived. */
  #nextGroup(): TransactionPart[] {
    const size = this.#groupSize();
    return size > 1 ? [...partsIn(this.#arrivals.peek(size))] : [];
  }

  #groupSize(): number {
    return groupSize(partsIn(this.#arrivals.items()), this.#context.groupLimit());
  }

  async #waitForOthers(signal: AbortSignal): Promise<void> {
    const { first, length } = this.#arrivals;
    if (length < LEAST_BACKLOG || first?.kind !== 'part') return;
    const { isFirst, isAlone, context } = first.part;
    if (isFirst && !isAlone) await this.#patience.wait(context.commitTime, signal);
  }

  async #handle(arrival: Arrival | undefined, signal: AbortSignal): Promise<void> {
    switch (arrival?.kind) {
      case undefined:
      case 'part':
        return;
      case 'early part':
      case 'early abort':
      case 'early commit':
        return this.#handleEarly(arrival);
      case 'ask':
        return this.#answer(arrival.keepalive);
      case 'skipped':
        return this.#passOver(arrival);
      case 'message':
        if (isLockAsk(arrival.message.content)) return;
        await this.#waitForDefinition(arrival.message.content, signal);
        // Somebody over there waits for this position to be durable here.
        await this.#worker.moveTo(arrival.message.lsn);
        this.#committed(arrival.message.lsn);
    }
  }

  /**
   * What follows was written with a command of a third node applied over there: it waits until that is applied here. Who waits so
   * waits for something that was committed before, so that nobody waits in a circle.
   */
  async #waitForDefinition(content: Buffer, signal: AbortSignal): Promise<void> {
    const note = readDefinitionNote(content);
    if (!note) return;
    while (!(await hasDefinition(this.#connections.apply, note))) {
      // What is applied early may be in that command's way.
      await this.#early.look();
      this.#state.progressAt = performance.now();
      await pause(DEFINITION_POLL_MS, signal);
      signal.throwIfAborted();
    }
  }

  async #handleEarly(arrival: EarlyArrival): Promise<void> {
    this.#arrivals.widen(MOST_WAITING_BYTES);
    const commit = await this.#early.handle(arrival);
    if (!commit) return;
    this.#state.appliedCommitTime = commit.commitTime;
    this.#state.commits += 1;
    this.#state.lastChange = commit.endLsn;
    this.#committed(commit.endLsn);
  }

  /**
   * A provider that shuts down waits until all that it has sent is confirmed, the end of its log too. The origin moves there
   * before it is confirmed, so that this node's own position never lies behind what the provider was told.
   */
  async #answer({ walEnd }: Keepalive): Promise<void> {
    if (!this.#open && walEnd > this.#connections.ledger.applied) {
      await this.#worker.moveTo(walEnd);
      this.#committed(walEnd);
    }
    this.#connections.feedback.raise();
  }

  /** Counts what a local commit has brought; it may be a part of what was asked for. */
  #countCommit(parts: readonly TransactionPart[]): void {
    let position: Lsn | undefined;
    for (const { context, changes, endLsn, isAlone, isFirst } of parts) {
      if (endLsn === undefined) continue;
      position = endLsn;
      this.#state.applying = null;
      this.#state.appliedCommitTime = context.commitTime;
      if (!isFirst || changes.some(isOfUser)) this.#state.commits += 1;
      if (!isFirst || !changes.every(isHeartbeat)) this.#state.lastChange = endLsn;
      if (isAlone && !changes.every(isOfUser)) this.#context.onMembershipChange();
      this.#hearAll(changes);
    }
    if (position !== undefined) this.#committed(position);
  }

  /** A transaction that a user wants skipped: what is committed of it is the position, and the record of that. */
  async #passOver(skipped: Skipped): Promise<void> {
    const { provider, record, log } = this.#context;
    const { skipRequest } = record;
    assert(skipRequest, 'what is skipped was asked for');
    const { xid, commitLsn, contents } = skipped;
    const noted = contents === null || contents.changes > 0;
    await this.#worker.moveTo(
      skipped.endLsn,
      noted ? recordSkippedSql(provider.id, skipped, skipRequest) : '',
    );
    this.#committed(skipped.endLsn);
    if (!noted) return;
    this.#state.lastChange = skipped.endLsn;
    const changes = contents?.changes ?? null;
    const fields = { provider: provider.name, xid, commitLsn: formatLsn(commitLsn), changes };
    log.warn({ ...fields, askedBy: skipRequest.by }, 'transaction is skipped');
  }

  #committed(position: Lsn): void {
    const { failed } = this.#state;
    if (failed && failed.commitLsn < position) this.#state.failed = null;
    this.#connections.ledger.committed(position);
    this.#state.applied = position;
    this.#connections.feedback.raise();
  }

  /** Takes note of a transaction's heartbeats. Only where everything before it is committed. */
  #hearAll(changes: readonly Change[]): void {
    const { localNode, provider, nodes } = this.#context;
    for (const change of changes) {
      const heartbeat = isHeartbeat(change) && parseHeartbeat(change.content);
      if (!heartbeat) continue;
      this.#state.handled(heartbeat);
      const known = heartbeat.applied.get(nodeKey(localNode.id));
      if (known !== undefined) this.#state.knownThere = known;
      const others = othersThan([localNode.id, provider.id], nodes());
      this.#state.settledThere = settledUpTo(
        heartbeat,
        others.map(({ id }) => id),
      );
    }
  }
}

/** About how many bytes it keeps. */
function memoryOf(arrival: Arrival): number {
  if ('part' in arrival) return arrival.part.bytes + ARRIVAL_BYTES;
  return arrival.kind === 'message'
    ? arrival.message.content.length + ARRIVAL_BYTES
    : ARRIVAL_BYTES;
}

/** Whether a change is one of the user's tables. */
function isOfUser(change: Change): boolean {
  if (change.kind === 'message') return false;
  return change.kind === 'truncate' || !isOwn(change.relation);
}

/** Other messages may be marks: somebody may wait for their position. */
function isHeartbeat(change: Change): change is LogicalMessage {
  return change.kind === 'message' && change.prefix === 'bdr';
}

/** The parts up to the first arrival that is something else. */
function* partsIn(arrivals: Iterable<Arrival>): Generator<TransactionPart, void, void> {
  for (const arrival of arrivals) {
    if (arrival.kind !== 'part') return;
    yield arrival.part;
  }
}
