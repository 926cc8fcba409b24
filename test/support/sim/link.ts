import type { Lsn } from '../../../src/base/lsn.ts';
import type { PgTime } from '../../../src/base/pg-time.ts';
import { LONG_AGO } from '../../../src/base/pg-time.ts';
import { groupSize, loneRun } from '../../../src/apply/group.ts';
import { PartBuilder, type TransactionPart } from '../../../src/apply/transaction-part.ts';
import { Seen } from '../../../src/model/seen.ts';
import { nodeKey, type NodeId } from '../../../src/model/node.ts';
import { AckLedger } from '../../../src/receive/ack-ledger.ts';
import { settledUpTo, Watermark } from '../../../src/receive/watermark.ts';
import { ModelApplyWorker } from './apply-worker.ts';
import { ModelChangeWriter } from './change-writer.ts';
import { heartbeatIn } from './heartbeat.ts';
import type { ModelNode } from './node.ts';
import type { Process, Steps } from './process.ts';
import type { ModelServer } from './server.ts';
import { ModelLostValues } from './lost-values.ts';
import { ModelLostWrites } from './lost-writes.ts';
import { ModelSetWriter } from './set-writer.ts';
import { isKnown, isSent } from './streams.ts';
import { UNIQUE_VIOLATION } from './statements.ts';
import type { ModelSession, Row, WalRecord } from './transaction.ts';
import { dawdle, originOf, Violation, type World } from './world.ts';

/** So many transactions wait while others are applied. */
const MOST_WAITING = 40;
const CONNECTION_LOST = new Error('connection lost');

/** src/node/link-service.ts and link-stream.ts: one link, in one life of its connections after the other. */
export class ModelLink {
  readonly provider: ModelServer;
  readonly #world: World;
  readonly #node: ModelNode;
  /** Begun anew with each life: a crash of this server may have undone what was handled. */
  watermark = new Watermark();
  /** The greatest commit time that was applied: what some mutants take for a watermark. */
  greatestApplied: PgTime = LONG_AGO;
  /** Up to here the provider knew what this node wrote: LinkState.knownThere. */
  knownThere: PgTime = LONG_AGO;
  /** Up to here the provider had settled what it may still tell of lost rows: LinkState.settledThere. */
  settledThere: PgTime = LONG_AGO;
  /** The network between the two. */
  isCut = false;
  #processes: Process[] = [];
  #session: ModelSession | undefined;
  #policySession: ModelSession | undefined;
  #arrivals: TransactionPart[] = [];
  #seen = new Seen();

  /** It may fall behind by so much. */
  readonly #lag: number;

  constructor(world: World, node: ModelNode, provider: ModelServer) {
    this.#lag = world.random.pick([0, 0, 30, 200]);
    this.#world = world;
    this.#node = node;
    this.provider = provider;
  }

  /** What the provider has told of what it had applied. */
  get seen(): Seen {
    return this.#seen;
  }

  /** Somebody reads the provider's slot. */
  get isReading(): boolean {
    return this.#session !== undefined && !this.isCut;
  }

  get name(): string {
    return `${this.provider.index}->${this.#node.server.index}`;
  }

  start(): void {
    this.#spawn('apply', this.#run());
  }

  /** Its agent or the network is gone: sessions end some time later. */
  abandon(): void {
    this.#kill();
    if (this.#session) this.#node.server.abandon(this.#session);
    this.#session = undefined;
    this.#leavePolicySession();
  }

  #leavePolicySession(): void {
    if (this.#policySession) this.#node.server.abandon(this.#policySession);
    this.#policySession = undefined;
  }

  #spawn(task: string, steps: Steps): void {
    this.#processes.push(this.#world.scheduler.spawn(`${this.name} ${task}`, steps));
  }

  #kill(): void {
    for (const process of this.#processes) this.#world.scheduler.kill(process);
    this.#processes = [];
    this.watermark = new Watermark();
    this.settledThere = LONG_AGO;
    this.greatestApplied = LONG_AGO;
  }

  *#run(): Steps {
    const { server } = this.#node;
    const origin = originOf(this.provider.index);
    const waits = !this.#world.has('new agent does not wait for old sessions');
    yield { ready: () => !this.isCut && (!waits || server.isFree(origin)) };
    const session = server.connect(`apply of ${this.name}`, origin, true);
    this.#session = session;
    yield undefined;
    // originProgress(…, flush)
    server.flush();
    const progress = server.position(origin);
    yield undefined;
    this.#check(progress);
    const ledger = new AckLedger(progress);
    this.#arrivals = [];
    this.#seen = new Seen();
    this.#spawn('receive', this.#receive(progress));
    this.#spawn('feedback', this.#feedback(ledger));
    try {
      yield* this.#apply(session, ledger);
    } catch (error) {
      // What apply_failed is: a row was in the way a moment ago. The link begins anew.
      if (error !== UNIQUE_VIOLATION && error !== CONNECTION_LOST) throw error;
    }
    this.#session = undefined;
    server.close(session);
    this.#leavePolicySession();
    this.#kill();
    this.start();
  }

  /** checkProvider(): the slot must not stand ahead of what is durable here. */
  #check(progress: Lsn): void {
    const confirmed = this.provider.confirmed.get(this.#node.server.index) ?? 0;
    if (confirmed <= progress) return;
    const detail = `slot at ${confirmed}, origin at ${progress}`;
    throw new Violation('a link cannot go on', `link ${this.name}: ${detail}`);
  }

  /** Reads what is on the provider's disk; it sends what has no origin (origin 'none'). */
  *#receive(progress: Lsn): Steps {
    const { provider } = this;
    for (let at: number = progress; ;) {
      yield {
        ready: () => provider.flushed > at && !this.isCut && this.#arrivals.length < MOST_WAITING,
      };
      // What is not sent costs no step.
      while (provider.flushed > at && !this.#isTaken(provider.wal[at] as WalRecord, at)) at += 1;
      if (provider.flushed <= at) continue;
      this.#arrive(provider.wal[at] as WalRecord, at as Lsn);
      at += 1;
    }
  }

  /** Whether a record of the provider's log is sent, and not passed over. */
  #isTaken(record: WalRecord, at: number): boolean {
    return isSent(record) && !this.#node.join?.isCopied(this.provider, record, at);
  }

  /** LinkStream.#arrive() */
  #arrive({ xid, time, changes }: WalRecord, commitLsn: Lsn): void {
    const builder = new PartBuilder({ xid, commitTime: time, commitLsn, seen: this.#seen });
    for (const change of changes) builder.add(change);
    this.#arrivals.push(builder.end((commitLsn + 1) as Lsn));
    for (const change of changes) {
      if (change.kind !== 'message') continue;
      const heartbeat = heartbeatIn(change);
      if (!heartbeat) continue;
      this.#seen = new Seen(heartbeat.applied);
      if (this.#world.has('heartbeat counted when received')) {
        this.#handled(() => this.watermark.handled(heartbeat));
      }
    }
  }

  /** LinkStream.#applyParts() */
  *#apply(session: ModelSession, ledger: AckLedger): Steps {
    const world = this.#world;
    const node = this.#node;
    const { statements } = node;
    const writer = new ModelChangeWriter({
      world,
      statements,
      provider: this.provider,
      groupLimit: () => node.groupLimit(this),
      readFromProvider: (key) => this.#readFromProvider(key),
      untilSeen: (xid) => this.#untilSeen(xid),
    });
    const sets = new ModelSetWriter(world, statements, writer);
    const onCommit = (parts: readonly TransactionPart[]) => this.#committed(parts, ledger);
    const worker = new ModelApplyWorker({ world, statements, session, writer, sets, onCommit });
    const lostValues = new ModelLostValues({
      world,
      statements,
      session,
      provider: this.provider,
      watermark: () => this.watermark.time,
      readFromProvider: (key) => this.#readFromProvider(key),
    });
    const lostWrites = world.policy && this.#lostWrites();
    for (;;) {
      const isDue = () => lostValues.isDue || (lostWrites?.isDue ?? false);
      yield { ready: () => this.#arrivals.length > 0 || isDue() };
      yield* dawdle(world, 0.3, this.#lag);
      if (lostWrites?.isDue) yield* lostWrites.settle();
      if (lostValues.isDue) yield* lostValues.settle();
      if (this.#arrivals.length === 0) continue;
      const size = groupSize(this.#arrivals, node.groupLimit(this));
      const lone = size === 1 ? loneRun(this.#arrivals) : [];
      if (lone.length > 0) {
        const applied = yield* worker.applyEach(lone);
        this.#arrivals.splice(0, applied);
      } else yield* worker.apply(this.#arrivals.splice(0, size));
      yield undefined;
    }
  }

  #lostWrites(): ModelLostWrites {
    const { statements, own } = this.#node;
    const lostWrites = new ModelLostWrites({
      world: this.#world,
      statements,
      provider: this.provider,
      ownWatermark: () => own.watermark.time,
    });
    this.#policySession = lostWrites.session;
    return lostWrites;
  }

  /** What the provider has now, once it is on its disk: a crash of the provider must not leave it here alone. */
  *#readFromProvider(key: string): Steps<Row | undefined> {
    yield undefined;
    if (this.isCut) throw CONNECTION_LOST;
    const row = this.provider.latest(key);
    yield undefined;
    if (!this.#world.has('read values may be lost by a crash')) this.provider.flush();
    yield undefined;
    return row;
  }

  /** untilSeen() in src/apply/provider-values.ts */
  *#untilSeen(xid: number): Steps {
    yield { ready: () => this.isCut || this.provider.isSeen(xid) };
    if (this.isCut) throw CONNECTION_LOST;
  }

  /** LinkStream.#countCommit() */
  #committed(parts: readonly TransactionPart[], ledger: AckLedger): void {
    for (const { context, changes, endLsn } of parts) {
      if (endLsn === undefined) continue;
      if (context.commitTime > this.greatestApplied) this.greatestApplied = context.commitTime;
      for (const change of changes) {
        if (change.kind !== 'message') continue;
        const heartbeat = heartbeatIn(change);
        if (!heartbeat) continue;
        this.#handled(() => this.watermark.handled(heartbeat));
        const known = heartbeat.applied.get(nodeKey(this.#node.server.writer.id));
        if (known !== undefined) this.knownThere = known;
        this.settledThere = settledUpTo(heartbeat, this.#others());
      }
      ledger.committed(endLsn);
    }
  }

  /** The nodes that are neither this one nor the provider. */
  #others(): readonly NodeId[] {
    const { server } = this.#node;
    return this.#world.servers
      .filter((one) => one !== server && one !== this.provider)
      .filter(({ index }) => isKnown(server.statuses.get(index)))
      .map(({ writer }) => writer.id);
  }

  #handled(count: () => void): void {
    const before = this.watermark.time;
    count();
    const { time } = this.watermark;
    const { server } = this.#node;
    if (time > before) {
      const position = server.position(originOf(this.provider.index));
      this.#world.checks.watermark(this.name, this.#node, this.provider, position, time);
    }
  }

  /** sendFeedback() */
  *#feedback(ledger: AckLedger): Steps {
    const { server } = this.#node;
    const { provider } = this;
    for (;;) {
      yield { ready: () => ledger.hasUnflushed && !this.isCut };
      const upTo = ledger.applied;
      yield undefined;
      ledger.observed(upTo, {
        insert: server.wal.length as Lsn,
        flush: server.flushed as Lsn,
      });
      yield undefined;
      const early = this.#world.has('acknowledged when applied');
      const position = early ? ledger.applied : ledger.durable;
      this.#world.checks.acknowledged(
        this.name,
        position,
        server.durable(originOf(provider.index)),
      );
      if (position > (provider.confirmed.get(server.index) ?? 0)) {
        provider.confirmed.set(server.index, position);
      }
    }
  }
}
