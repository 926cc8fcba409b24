import { OutboxSender } from '../apply/outbox-sender.ts';
import type { Logger } from '../base/logger.ts';
import { LONG_AGO } from '../base/pg-time.ts';
import { restartOnFailure } from '../base/restart.ts';
import { Wakeup } from '../base/wait.ts';
import { noteClockStep } from '../catalog/clock-steps.ts';
import { markSelfParted, readLocalNode, type LocalNode } from '../catalog/nodes.ts';
import { reportOwnStream } from '../catalog/own-stream.ts';
import type { Endpoints } from '../membership/endpoints.ts';
import { refuseCopy } from '../membership/own-address.ts';
import { askWhetherParted, releaseOwnSlots } from '../membership/part.ts';
import { sameNode, type Node } from '../model/node.ts';
import { endLeftOverSessions, markAgentSession } from '../postgres/advisory.ts';
import { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import { ClockStepRewriter } from './clock-step-rewriter.ts';
import { describeError } from './describe-error.ts';
import { GateKeeper } from './gate-keeper.ts';
import { GroupFacts } from './group-facts.ts';
import { Heartbeats } from './heartbeats.ts';
import { HistoryKeeper } from './history-keeper.ts';
import { IndexBuilder } from './index-builder.ts';
import { JoinService } from './join-service.ts';
import { Links } from './links.ts';
import { LockService } from './lock-service.ts';
import { OwnStream } from './own-stream.ts';
import { PublicationKeeper } from './publication-keeper.ts';
import { Purger, type Horizons } from './purger.ts';
import { RecordKeeper } from './record-keeper.ts';
import { SequenceKeeper } from './sequence-keeper.ts';

const LOOK_INTERVAL_MS = 1000;
/** Between two looks where the node's own DSN leads, while that cannot be told. */
const IDENTITY_INTERVAL_MS = 60_000;
const RETRY = { firstMs: 500, mostMs: 15_000 };

/**
 * One node: the database that it is, its links, its heartbeats, its join. Looks at its catalog once a second, and at once when
 * it is told to, and makes the running links what the catalog says.
 */
export class NodeService {
  readonly #endpoints: Endpoints;
  readonly #log: Logger;
  readonly #random: () => number;
  readonly #stop = new AbortController();
  readonly #wakeup = new Wakeup();
  readonly #group = new GroupFacts();
  readonly #links: Links;
  #done: Promise<void> = Promise.resolve();
  readonly #joining: JoinService;
  readonly #heartbeats: Heartbeats;
  #own: OwnStream | undefined;
  readonly #history: HistoryKeeper;
  readonly #purger: Purger;
  readonly #rewriter: ClockStepRewriter;
  readonly #locks: LockService;
  readonly #indexes: IndexBuilder;
  #records = new RecordKeeper();
  readonly #sequences = new SequenceKeeper();
  readonly #gates: GateKeeper;
  #publications: PublicationKeeper;
  /** What is noted of a step of the clock. */
  #notedStep: string | undefined;
  #partedCheckDue = false;
  #released = false;
  /** When it was looked last whether this is the node, and no copy of it: in which session, and whether that could be told. */
  #identity: { of: Session | undefined; isCertain: boolean; at: number } = {
    of: undefined,
    isCertain: false,
    at: 0,
  };
  /** The call of create or join that all of this belongs to. */
  #call: string | undefined;

  constructor(endpoints: Endpoints, log: Logger, random: () => number = Math.random) {
    this.#endpoints = endpoints;
    this.#log = log;
    this.#random = random;
    this.#heartbeats = new Heartbeats(endpoints.local, log, () => this.#group.appliedUpTo());
    this.#history = new HistoryKeeper(endpoints.local, log);
    this.#purger = new Purger(endpoints.local, log);
    this.#rewriter = new ClockStepRewriter({
      local: endpoints.local,
      log,
      origins: () => this.#group.origins,
      history: this.#history.options,
      random,
    });
    this.#locks = new LockService(endpoints.local, log, random);
    this.#gates = new GateKeeper(log);
    this.#indexes = new IndexBuilder(endpoints.local, log);
    this.#publications = new PublicationKeeper(log);
    this.#links = new Links({
      endpoints,
      group: this.#group,
      log,
      random,
      signal: this.#stop.signal,
      onStartable: () => this.#wakeup.raise(),
      common: () => ({
        recordLimit: this.#records.limit,
        history: this.#history.options,
        onOutdated: () => {
          this.#wakeup.raise();
          this.#locks.wake();
        },
        onOwnBehind: () => {
          this.#heartbeats.hurry();
          this.#own?.hurry();
        },
        onSlotLost: () => {
          this.#partedCheckDue = true;
          this.#wakeup.raise();
        },
      }),
    });
    this.#joining = new JoinService(endpoints, log, random, () => this.#wakeup.raise());
  }

  start(): void {
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wakeup.raise();
    await this.#done;
  }

  #run(): Promise<void> {
    const { signal } = this.#stop;
    return restartOnFailure(() => this.#serve(signal), {
      limits: RETRY,
      random: this.#random,
      signal,
      onFailure: ({ error, retryInMs }) =>
        this.#log.error({ ...describeError(error), retryInMs }, 'node failed'),
    });
  }

  /** One life of the node's own session. */
  async #serve(signal: AbortSignal): Promise<void> {
    await using session = await Session.connect(this.#endpoints.local, {
      applicationName: 'bdr:perdb',
      signal,
      settings: { synchronous_commit: 'local', lock_timeout: '10s' },
    });
    const ended = await endLeftOverSessions(session);
    if (ended > 0)
      this.#log.warn({ sessions: ended }, 'ended sessions that a dead agent left behind');
    await markAgentSession(session);
    // What links had handled may be undone.
    const onLost = () => this.#outdate();
    session.lost.addEventListener('abort', onLost, { once: true });
    await session.listen('bdr', () => {
      this.#wakeup.raise();
      // A transaction that held the global lock may have committed.
      this.#locks.wake();
    });
    const outbox = new OutboxSender(session, (message) =>
      this.#log.warn({ message }, 'a row could not be written again after its kill was sent'),
    );
    try {
      while (!signal.aborted) {
        session.lost.throwIfAborted();
        const local = await readLocalNodeIfThere(session);
        if (local?.call !== this.#call) await this.#beginLife(local);
        // Without one, BDR was removed: the agent ends this service, unless the database joins again before it has noticed.
        if (local) await this.#look(session, local);
        if (local) await outbox.look();
        await this.#wakeup.wait(LOOK_INTERVAL_MS, signal);
      }
    } finally {
      session.lost.removeEventListener('abort', onLost);
      await this.#joining.stop();
      await this.#rewriter.stop();
      await this.#indexes.stop();
      await this.#locks.stop();
      await this.#heartbeats.stop();
      // All of it before anything is told: a session that is lost may not know it yet, and what an error left running would go on
      // beside its successor, and keep its origin, for ever.
      const [own, links] = [this.#own, this.#links.running()];
      await this.#stopOwnStream();
      await this.#links.stop();
      if (!session.lost.aborted) {
        await this.#report(session, own, links).catch((error: unknown) =>
          this.#log.debug(describeError(error), 'what happened last could not be reported'),
        );
      }
    }
  }

  /** Forgets all that belongs to another call of create or join. */
  async #beginLife(local: LocalNode | undefined): Promise<void> {
    await this.#joining.stop();
    this.#heartbeats.pause();
    await this.#rewriter.stop();
    await this.#indexes.stop();
    await this.#locks.stop();
    await this.#stopOwnStream();
    await this.#links.stop();
    this.#links.forget();
    this.#joining.forget();
    this.#partedCheckDue = false;
    this.#released = false;
    this.#records = new RecordKeeper();
    this.#publications = new PublicationKeeper(this.#log);
    this.#notedStep = undefined;
    this.#call = local?.call;
  }

  async #look(session: Session, local: LocalNode): Promise<void> {
    // Before any link is started, which goes by it.
    await this.#history.look(session, this.#stop.signal);
    const { me, isNew } = await this.#group.look(session, local.id);
    if (isNew) await this.#links.tell(me.id);
    if (this.#partedCheckDue && me.status !== 'k') await this.#askWhetherParted(session, me);

    switch (me.status) {
      case 'k':
        this.#joining.abort();
        this.#heartbeats.pause();
        await this.#stopOwnStream();
        await this.#links.stop();
        // What it holds back for locks of the others goes on.
        this.#locks.start(me.id);
        if (!this.#released) await this.#release(session, me);
        return;
      case 'b':
      case 'i':
        this.#joining.progress(me, local, this.#stop.signal);
        return;
      case 'c':
      case 'o':
        this.#joining.progress(me, local, this.#stop.signal);
        break;
      case 'r':
        break;
    }
    await this.#refuseCopy(session, me);
    // As above.
    await this.#records.look(session);
    this.#heartbeats.start();
    this.#startOwnStream(me);
    this.#locks.start(me.id);
    await this.#links.reconcile(session, me, local);
    await this.#report(session, this.#own);
    await this.#rewriter.look(session, this.#stop.signal);
    await this.#sequences.look(session);
    await this.#indexes.look(session, this.#stop.signal);
    await this.#gates.look(session, me.isReadOnly);
    await this.#publications.look(session);
    const isReady = me.status === 'r';
    await this.#purger.look(session, isReady, () => this.#horizons(me), this.#stop.signal);
  }

  /** Once in each session, since the server does not change meanwhile; again after a while where nothing could be told. */
  async #refuseCopy(session: Session, me: Node): Promise<void> {
    const { of, isCertain, at } = this.#identity;
    if (of === session && (isCertain || performance.now() - at < IDENTITY_INTERVAL_MS)) return;
    try {
      const options = { log: this.#log, signal: this.#stop.signal };
      const isKnown = await refuseCopy(session, this.#endpoints, me, options);
      this.#identity = { of: session, isCertain: isKnown, at: performance.now() };
    } catch (error) {
      await this.#links.noteFailure(session, me.id, error);
      throw error;
    }
  }

  #horizons(me: Node): Horizons {
    return {
      ofPeers: this.#group.leastWatermark(me.id),
      own: this.#group.ownWatermark.get(),
      there: this.#links.knownThere(me.id),
      settled: this.#links.settledThere(me.id),
    };
  }

  /** Tells what has happened: of what runs now, or of what ran until now. */
  async #report(
    session: Session,
    own: OwnStream | undefined,
    links = this.#links.running(),
  ): Promise<void> {
    await this.#links.report(session, links);
    if (!own) return;
    await reportOwnStream(session, own.report);
    const { clockStep } = own;
    const known = JSON.stringify(clockStep);
    // Once: people may take the note away.
    if (!clockStep || known === this.#notedStep) return;
    await noteClockStep(session, clockStep);
    this.#notedStep = known;
  }

  #startOwnStream(me: Node): void {
    if (this.#own) return;
    this.#own = new OwnStream({
      local: this.#endpoints.local,
      node: me,
      origins: () => this.#group.origins,
      log: this.#log,
      random: this.#random,
      peersLimit: () => this.#group.leastWatermark(me.id),
      watermark: this.#group.ownWatermark,
      heard: this.#group.ownHeard,
      onApplySession: () => this.#outdate(),
      history: this.#history.options,
      onLockAsk: (content) => this.#locks.hear(content),
    });
    this.#own.start();
  }

  async #stopOwnStream(): Promise<void> {
    const running = this.#own;
    this.#own = undefined;
    await running?.stop();
    this.#group.ownWatermark.set(LONG_AGO);
    this.#group.ownHeard.set(LONG_AGO);
  }

  /** A slot that is gone may mean that this node was parted while it could not hear of it: the peers know. */
  async #askWhetherParted(session: Session, me: Node): Promise<void> {
    this.#partedCheckDue = false;
    const peer = await askWhetherParted(this.#endpoints, me, this.#group.others(me.id), {
      log: this.#log,
      signal: this.#stop.signal,
    });
    if (!peer) return;
    this.#log.warn({ peer: peer.name }, 'this node was parted from the group');
    await markSelfParted(session, me.id);
    this.#wakeup.raise();
  }

  /** A parted node keeps no WAL for peers that will not read it. */
  async #release(session: Session, me: Node): Promise<void> {
    const peers = this.#group.nodes.map(({ id }) => id).filter((id) => !sameNode(id, me.id));
    this.#released = await releaseOwnSlots(session, me.id, peers);
    if (this.#released) this.#log.info({}, 'parted node holds nothing for its peers any more');
  }

  /** Nobody goes by what he knows of the group before it was looked at again. */
  #outdate(): void {
    this.#group.outdate();
    this.#wakeup.raise();
  }
}

/** As readLocalNode(), also while extension bdr is being dropped. */
async function readLocalNodeIfThere(session: Session): Promise<LocalNode | undefined> {
  try {
    return await readLocalNode(session);
  } catch (error) {
    if (hasSqlstate(error, SQLSTATE.undefinedTable, SQLSTATE.invalidSchemaName)) return undefined;
    throw error;
  }
}
