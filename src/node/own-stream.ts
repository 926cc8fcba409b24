import { OwnBatch } from '../apply/own-batch.ts';
import { OwnWriter } from '../apply/own-writer.ts';
import type { HistoryOptions } from '../apply/pending-conflicts.ts';
import type { OriginMap } from '../apply/writers.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Logger } from '../base/logger.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { SharedTime } from '../base/shared-time.ts';
import { restartOnFailure } from '../base/restart.ts';
import { pause, Wakeup } from '../base/wait.ts';
import { temporaryDir } from '../config/paths.ts';
import { whileNode } from '../catalog/apply-gate.ts';
import type { ClockStep } from '../catalog/clock-steps.ts';
import { followCommitted } from '../catalog/committed-positions.ts';
import {
  readLastHeartbeat,
  type OwnStreamReport,
  type OwnStreamStatus,
} from '../catalog/own-stream.ts';
import { readMessageSecret } from '../catalog/message-secret.ts';
import { ensureOwnSlot } from '../membership/own-slot.ts';
import { ownOriginName, ownSlotName } from '../model/link.ts';
import type { Node } from '../model/node.ts';
import { isPlainUpdate } from '../pgoutput/decode.ts';
import { FrameDecoder } from '../pgoutput/frame.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import type { Conninfo } from '../postgres/conninfo.ts';
import { originProgress, setUpOrigin } from '../postgres/origins.ts';
import { ReplicationSession } from '../postgres/replication-session.ts';
import { databaseEncoding, serverMajor } from '../postgres/server-facts.ts';
import { Session } from '../postgres/session.ts';
import { AckLedger } from '../receive/ack-ledger.ts';
import { ClockWatch } from '../receive/clock-watch.ts';
import { isLockAsk, MessageGuard } from '../receive/message-guard.ts';
import { MessageKey } from '../receive/message-key.ts';
import { Receiver, type Received } from '../receive/receiver.ts';
import { StreamedTransactions } from '../receive/streamed-transactions.ts';
import { parseHeartbeat, type Heartbeat } from '../receive/watermark.ts';
import { APPLY_SETTINGS } from './apply-settings.ts';
import { describeError } from './describe-error.ts';
import { sendFeedback } from './link-feedback.ts';
import { LinkState } from './link-state.ts';

const RETRY = { firstMs: 250, mostMs: 30_000 };
/** What arrives within this time is written together. */
const GATHER_MS = 10;
const MOST_ROWS = 20_000;
const MOST_BYTES = 16 * 1024 * 1024;

/** What is read and not yet written. */
class Pending {
  readonly batch = new OwnBatch();
  /** Heartbeats of transactions that are complete in here or before. */
  readonly heartbeats: Heartbeat[] = [];
  /** Everything up to here is complete in here or before. */
  end: Lsn | undefined;

  get isEmpty(): boolean {
    return this.batch.rows === 0 && this.end === undefined;
  }

  get isFull(): boolean {
    return this.batch.rows >= MOST_ROWS || this.batch.bytes >= MOST_BYTES;
  }
}

/**
 * The node's own stream (DESIGN 4.4): reads the log of its own server to learn what its users deleted, for as long as it is not
 * stopped. So user tables need no trigger, and deletes pay nothing. What breaks is tried again with growing pauses.
 *
 * One task reads and gathers, another writes what was gathered meanwhile; while that is much, the first waits.
 */
export class OwnStream {
  readonly #local: Conninfo;
  readonly #node: Node;
  readonly #origins: () => OriginMap;
  readonly #log: Logger;
  readonly #random: () => number;
  readonly #peersLimit: () => PgTime;
  readonly #onApplySession: () => void;
  readonly #history: HistoryOptions;
  readonly #onLockAsk: (content: Buffer) => void;
  readonly #stop = new AbortController();
  readonly #state: LinkState;
  readonly #heard: SharedTime;
  #status: OwnStreamStatus = 'down';
  /** From the first life on. */
  #watch: ClockWatch | undefined;
  /** That of the last life. */
  #writer: OwnWriter | undefined;
  #done: Promise<void> = Promise.resolve();

  constructor(options: {
    local: Conninfo;
    node: Node;
    origins: () => OriginMap;
    log: Logger;
    random: () => number;
    /** Up to here everything of every peer is applied: infinity without any. */
    peersLimit: () => PgTime;
    /** Where the stream publishes the commit time up to which every deletion of this node's users is remembered. */
    watermark: SharedTime;
    /** Where it publishes the clock of the last heartbeat that it has come to, whatever that proves. */
    heard: SharedTime;
    /** As LinkContext's, for peersLimit. */
    onApplySession: () => void;
    history: HistoryOptions;
    /** A transaction of this node asks for the global lock. */
    onLockAsk: (content: Buffer) => void;
  }) {
    this.#local = options.local;
    this.#node = options.node;
    this.#origins = options.origins;
    this.#log = options.log.child({ link: `${options.node.name}->itself` });
    this.#random = options.random;
    this.#peersLimit = options.peersLimit;
    this.#state = new LinkState(options.watermark);
    this.#heard = options.heard;
    this.#onApplySession = options.onApplySession;
    this.#history = options.history;
    this.#onLockAsk = options.onLockAsk;
  }

  get report(): OwnStreamReport {
    const { error, applied, watermark } = this.#state;
    return { status: this.#status, error, applied, watermark, heartbeat: this.#watch?.greatest };
  }

  /** When the node's clock has stepped back, if it has. */
  get clockStep(): ClockStep | undefined {
    return this.#watch?.step;
  }

  /** A link could group what it has, if this stream were further. */
  hurry(): void {
    this.#writer?.hurry();
  }

  start(): void {
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    await restartOnFailure(
      (failures) => {
        if (failures === 0) this.#status = 'connecting';
        return this.#serve(signal);
      },
      {
        limits: RETRY,
        random: this.#random,
        signal,
        onFailure: ({ error, failures, retryInMs }) => {
          const described = describeError(error);
          this.#status = 'failed';
          this.#state.error = described;
          this.#state.forgetWatermark();
          this.#log.warn({ ...described, failures, retryInMs }, 'own stream failed');
        },
      },
    );
    this.#status = 'down';
  }

  /** One life of the connections: ends by an error, or when the service is stopped. */
  async #serve(outer: AbortSignal): Promise<void> {
    const life = new AbortController();
    const endLife = () => life.abort(outer.reason);
    outer.addEventListener('abort', endLife, { once: true });
    try {
      await this.#connectAndRun(life);
    } finally {
      outer.removeEventListener('abort', endLife);
      life.abort();
    }
  }

  async #connectAndRun(life: AbortController): Promise<void> {
    const { signal } = life;
    const id = this.#node.id;
    await using bookkeeping = await Session.connect(this.#local, {
      applicationName: 'bdr:own',
      signal,
    });
    await markAgentSession(bookkeeping);
    await ensureOwnSlot(bookkeeping, id);
    await using writing = await Session.connect(this.#local, {
      applicationName: 'bdr:own:write',
      signal,
      settings: APPLY_SETTINGS,
    });
    await markAgentSession(writing);
    this.#onApplySession();
    await whileNode(writing, () => setUpOrigin(writing, ownOriginName(id)));
    await followCommitted(writing);
    // Only now: what a dead agent's session still had in flight is in it.
    const progress = await originProgress(bookkeeping, ownOriginName(id), true);
    const key = new MessageKey(await readMessageSecret(bookkeeping), id);
    // The links of the peers tell of forged messages.
    const guard = new MessageGuard(key, () => undefined);
    await using stream = await ReplicationSession.start(
      this.#local,
      {
        slot: ownSlotName(id),
        publications: ['bdr_own'],
        start: progress,
        providerMajor: await serverMajor(bookkeeping),
        streaming: true,
        // There it is UTF-8 or nothing of the kind, and of most rows only the key counts.
        asStored: (await databaseEncoding(bookkeeping)) === 'SQL_ASCII',
      },
      { applicationName: 'bdr:own:send', signal },
    );
    const ledger = new AckLedger(progress);
    const feedback = new Wakeup();
    this.#watch ??= new ClockWatch(await readLastHeartbeat(bookkeeping));
    const watch = this.#watch;
    this.#log.info({ from: formatLsn(progress) }, 'own stream is read');
    this.#status = 'streaming';
    this.#state.error = null;
    this.#state.forgetWatermark();
    const state = this.#state;
    const onLockAsk = this.#onLockAsk;
    const reader = new OwnReader({
      stream,
      guard,
      ledger,
      feedback,
      state,
      heard: this.#heard,
      watch,
      onLockAsk,
      signal,
    });
    const writer = new OwnWriter({
      session: writing,
      origins: this.#origins,
      random: this.#random,
      signal,
      peersLimit: this.#peersLimit,
      history: this.#history,
    });
    this.#writer = writer;
    const endLife = (error: unknown) => life.abort(error);
    writing.lost.addEventListener('abort', () => endLife(writing.lost.reason), { once: true });
    // Whichever fails first ends the others, and its reason is what counts.
    await Promise.all([
      reader
        .read()
        .catch(endLife)
        .finally(() => life.abort()),
      reader.write(writer).catch(endLife),
      sendFeedback({
        stream,
        bookkeeping,
        ledger,
        state: this.#state,
        wakeup: feedback,
        provider: this.#node.name,
        signal,
      }).catch(endLife),
    ]);
    throw signal.reason;
  }
}

/** One life of the stream: what is read, and what is written of it. */
class OwnReader {
  readonly #stream: ReplicationSession;
  readonly #guard: MessageGuard;
  readonly #ledger: AckLedger;
  readonly #feedback: Wakeup;
  readonly #state: LinkState;
  readonly #heard: SharedTime;
  readonly #watch: ClockWatch;
  readonly #onLockAsk: (content: Buffer) => void;
  readonly #signal: AbortSignal;
  readonly #streamed = new StreamedTransactions(temporaryDir());
  readonly #receiver = new Receiver(() => false, this.#streamed);
  readonly #arrived = new Wakeup();
  readonly #drained = new Wakeup();
  #pending = new Pending();
  #transaction: { readonly commitTime: PgTime } | undefined;
  #heartbeat: Heartbeat | undefined;

  constructor(options: {
    stream: ReplicationSession;
    guard: MessageGuard;
    ledger: AckLedger;
    feedback: Wakeup;
    state: LinkState;
    heard: SharedTime;
    watch: ClockWatch;
    onLockAsk: (content: Buffer) => void;
    signal: AbortSignal;
  }) {
    this.#stream = options.stream;
    this.#guard = options.guard;
    this.#ledger = options.ledger;
    this.#feedback = options.feedback;
    this.#state = options.state;
    this.#heard = options.heard;
    this.#watch = options.watch;
    this.#onLockAsk = options.onLockAsk;
    this.#signal = options.signal;
  }

  async read(): Promise<void> {
    try {
      await this.#read();
    } finally {
      await this.#streamed[Symbol.asyncDispose]();
    }
  }

  async #read(): Promise<void> {
    const state = this.#state;
    const frames = new FrameDecoder();
    state.waitingSince = performance.now();
    const take = (received: Received) => {
      const passed = this.#guard.pass(received);
      if (passed) this.#take(passed);
    };
    for await (const { buffer, bounds } of this.#stream.batches()) {
      state.waitingSince = undefined;
      state.progressAt = performance.now();
      for (let at = 0; at < bounds.length; at += 2) {
        const frame = frames.decode(buffer, bounds[at], bounds[at + 1]);
        if (frame.kind === 'keepalive') {
          // A server that shuts down waits until the end of its log is confirmed.
          if (frame.replyRequested) this.#reached(frame.walEnd);
          continue;
        }
        if (state.received === null || frame.endLsn > state.received) state.received = frame.endLsn;
        // Most of what users do, and nothing that deletions have to do with.
        if (isPlainUpdate(buffer, frame.payloadStart, this.#streamed.current !== undefined))
          continue;
        const committed = this.#receiver.receive(frame, take);
        if (committed) await this.#receiver.replay(committed, take, () => this.#room());
      }
      await this.#streamed.room();
      await this.#room();
      state.waitingSince = performance.now();
    }
  }

  /** Has what was read written, and waits while that is much. */
  async #room(): Promise<void> {
    this.#arrived.raise();
    while (this.#pending.isFull) {
      await this.#drained.wait(1000, this.#signal);
      this.#signal.throwIfAborted();
      this.#state.progressAt = performance.now();
    }
  }

  /** Writes what was gathered, again and again, each time all of it. */
  async write(writer: OwnWriter): Promise<void> {
    for (;;) {
      await this.#arrived.wait(1000, this.#signal);
      if (!this.#pending.isFull) await pause(GATHER_MS, this.#signal);
      this.#signal.throwIfAborted();
      const { batch, end, heartbeats, isEmpty } = this.#pending;
      if (isEmpty) continue;
      this.#pending = new Pending();
      this.#drained.raise();
      await writer.write(batch, end);
      if (end === undefined) continue;
      this.#ledger.committed(end);
      this.#state.applied = end;
      this.#feedback.raise();
      // Only here, where everything before them is committed.
      for (const heartbeat of heartbeats) this.#state.reach(heartbeat);
      const last = heartbeats.at(-1);
      if (!last) continue;
      await this.#lookBelow(writer);
      this.#heard.set(last.clock);
    }
  }

  /** What users' transactions made below deletions of other nodes goes before anybody relies on their being seen. */
  async #lookBelow(writer: OwnWriter): Promise<void> {
    const upTo = this.#state.reached;
    if (upTo > this.#state.watermark) await writer.lookBelow(upTo);
    this.#state.publish();
  }

  #take(received: Received): void {
    switch (received.kind) {
      case 'begin':
        this.#transaction = received;
        this.#heartbeat = undefined;
        return;
      case 'commit':
        this.#transaction = undefined;
        this.#pending.end = received.endLsn;
        if (!this.#heartbeat) return;
        this.#pending.heartbeats.push(this.#heartbeat);
        this.#watch.heard(this.#heartbeat);
        return;
      case 'message':
        if (received.prefix !== 'bdr') return;
        if (received.transactional) this.#heartbeat = parseHeartbeat(received.content);
        else {
          if (isLockAsk(received.content)) this.#onLockAsk(received.content);
          // Somebody may wait for every slot to pass it.
          this.#reached(received.lsn);
        }
        return;
      case 'insert':
      case 'update':
      case 'delete':
      case 'truncate':
        if (!this.#transaction) return;
        this.#pending.batch.add(
          received,
          this.#transaction.commitTime,
          this.#watch.lateAfter(this.#transaction.commitTime),
        );
    }
  }

  /** A position between transactions. */
  #reached(position: Lsn): void {
    if (this.#transaction || position <= (this.#pending.end ?? this.#ledger.applied)) {
      return this.#feedback.raise();
    }
    this.#pending.end = position;
  }
}
