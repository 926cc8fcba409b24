import { OutboxSender } from '../apply/outbox-sender.ts';
import type { OriginMap } from '../apply/writers.ts';
import { backoffMs } from '../base/backoff.ts';
import { BdrError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { parseLsn, type Lsn } from '../base/lsn.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { restartOnFailure } from '../base/restart.ts';
import { SharedTime } from '../base/shared-time.ts';
import { Wakeup } from '../base/wait.ts';
import {
  createLink,
  deleteLink,
  noteLinkFailure,
  readLinks,
  reportLink,
  type LinkRecord,
  type SkipRequest,
} from '../catalog/links.ts';
import { markSelfParted, readLocalNode, readNodes, type LocalNode } from '../catalog/nodes.ts';
import { reportOwnStream } from '../catalog/own-stream.ts';
import { publishTo } from '../catalog/publications.ts';
import { noteClockStep } from '../catalog/clock-steps.ts';
import { copyOriginName, ownSlotName, providerOfOrigin, slotName } from '../model/link.ts';
import { nodeKey, sameNode, type Node, type NodeId } from '../model/node.ts';
import type { Endpoints } from '../membership/endpoints.ts';
import { releaseParted } from '../membership/part.ts';
import { endLeftOverSessions, markAgentSession } from '../postgres/advisory.ts';
import { readOrigins } from '../postgres/origins.ts';
import { Session } from '../postgres/session.ts';
import { dropSlot, ensureSlot, readSlot } from '../postgres/slots.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import { ClockStepRewriter } from './clock-step-rewriter.ts';
import { describeError } from './describe-error.ts';
import { Edition } from './edition.ts';
import { GateKeeper } from './gate-keeper.ts';
import type { GroupView } from './group-view.ts';
import { Heartbeats } from './heartbeats.ts';
import { HistoryKeeper } from './history-keeper.ts';
import { IndexBuilder } from './index-builder.ts';
import { JoinService } from './join-service.ts';
import { LinkThread } from './link-thread.ts';
import { LockService } from './lock-service.ts';
import { OwnStream } from './own-stream.ts';
import { PublicationKeeper } from './publication-keeper.ts';
import { Purger, type Horizons } from './purger.ts';
import { RecordKeeper } from './record-keeper.ts';
import { SequenceKeeper } from './sequence-keeper.ts';

const LOOK_INTERVAL_MS = 1000;
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
  readonly #links = new Map<string, RunningLink>();
  readonly #linking = new Map<string, { failures: number; notBefore: number }>();
  #done: Promise<void> = Promise.resolve();
  readonly #joining: JoinService;
  readonly #heartbeats: Heartbeats;
  #nodes: readonly Node[] = [];
  #origins: OriginMap | undefined;
  #own: OwnStream | undefined;
  /** What the links were told last, and the edition in which; see #tellLinks(). */
  #told = { facts: '', number: -1 };
  readonly #edition = new Edition();
  readonly #ownWatermark = new SharedTime();
  readonly #ownHeard = new SharedTime();
  readonly #history: HistoryKeeper;
  readonly #purger: Purger;
  readonly #rewriter: ClockStepRewriter;
  readonly #locks: LockService;
  readonly #indexes: IndexBuilder;
  #records = new RecordKeeper();
  readonly #sequences = new SequenceKeeper();
  readonly #gates: GateKeeper;
  #publications: PublicationKeeper;
  /** Of the links, by nodeKey() of their providers, whether they run or not. */
  readonly #watermarks = new Map<string, SharedTime>();
  /** Up to when peers know what this node wrote, by nodeKey(), as their links have reported it. */
  readonly #knownAtPeers = new Map<string, PgTime>();
  /** What is noted of a step of the clock. */
  #notedStep: string | undefined;
  #partedCheckDue = false;
  #released = false;
  /** The call of create or join that all of this belongs to. */
  #call: string | undefined;

  constructor(endpoints: Endpoints, log: Logger, random: () => number = Math.random) {
    this.#endpoints = endpoints;
    this.#log = log;
    this.#random = random;
    this.#heartbeats = new Heartbeats(endpoints.local, log, () => this.#appliedUpTo());
    this.#history = new HistoryKeeper(endpoints.local, log);
    this.#purger = new Purger(endpoints.local, log);
    this.#rewriter = new ClockStepRewriter({
      local: endpoints.local,
      log,
      origins: () => this.#origins as OriginMap,
      history: this.#history.options,
      random,
    });
    this.#locks = new LockService(endpoints.local, log, random);
    this.#gates = new GateKeeper(log);
    this.#indexes = new IndexBuilder(endpoints.local, log);
    this.#publications = new PublicationKeeper(log);
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
      const last = { own: this.#own, links: [...this.#links.values()] };
      await this.#stopOwnStream();
      await this.#stopLinks();
      if (!session.lost.aborted) {
        await this.#report(session, last).catch((error: unknown) =>
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
    await this.#stopLinks();
    this.#linking.clear();
    this.#knownAtPeers.clear();
    this.#joining.forget();
    this.#partedCheckDue = false;
    this.#released = false;
    this.#records = new RecordKeeper();
    this.#publications = new PublicationKeeper(this.#log);
    this.#notedStep = undefined;
    this.#call = local?.call;
  }

  async #look(session: Session, local: LocalNode): Promise<void> {
    const edition = this.#edition.number;
    this.#nodes = await readNodes(session);
    const me = this.#nodes.find(({ id }) => sameNode(id, local.id));
    if (!me)
      throw new BdrError('invalid_membership', {
        message: 'bdr.bdr_nodes has no row for this node',
      });
    // Before any link is started, which goes by it.
    await this.#history.look(session, this.#stop.signal);
    this.#origins = await this.#readOrigins(session, me);
    await this.#tellLinks(edition, me, this.#origins);
    if (this.#partedCheckDue && me.status !== 'k') await this.#askWhetherParted(session, me);

    switch (me.status) {
      case 'k':
        this.#joining.abort();
        this.#heartbeats.pause();
        await this.#stopOwnStream();
        await this.#stopLinks();
        // What it holds back for locks of the others goes on.
        this.#locks.start(me.id);
        if (!this.#released) await this.#releaseOwnSlots(session, me);
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
    // As above.
    await this.#records.look(session);
    this.#heartbeats.start();
    this.#startOwnStream(me);
    this.#locks.start(me.id);
    await this.#reconcileLinks(session, me, local);
    await this.#report(session, { own: this.#own, links: this.#links.values() });
    await this.#rewriter.look(session, this.#stop.signal);
    await this.#sequences.look(session);
    await this.#indexes.look(session, this.#stop.signal);
    await this.#gates.look(session, me.isReadOnly);
    await this.#publications.look(session);
    const isReady = me.status === 'r';
    await this.#purger.look(session, isReady, () => this.#horizons(me), this.#stop.signal);
  }

  #horizons(me: Node): Horizons {
    const peers = this.#nodes.filter(({ id, status }) => status !== 'k' && !sameNode(id, me.id));
    const known = peers.map(({ id }) => this.#knownAtPeers.get(nodeKey(id)) ?? LONG_AGO);
    return {
      ofPeers: this.#leastWatermark([me.id]),
      own: this.#ownWatermark.get(),
      there: Math.min(...known) as PgTime,
    };
  }

  // Links --------------------------------------------------------------------------------------------------------------

  async #reconcileLinks(session: Session, me: Node, local: LocalNode): Promise<void> {
    const records = await readLinks(session);
    const recordOf = (node: Node) => records.find(({ provider }) => sameNode(provider, node.id));
    for (const node of this.#nodes) {
      if (sameNode(node.id, me.id) || node.status === 'b') continue;
      const key = nodeKey(node.id);
      const record = recordOf(node);
      const running = this.#links.get(key);
      if (node.status === 'k') {
        await this.#stopLink(key, session);
        if (record) await deleteLink(session, node.id);
        await releaseParted(session, { provider: me.id, subscriber: node.id });
        continue;
      }
      if (record && record.start !== null && record.providerJoinedAt !== node.joinedAt) {
        // The provider was removed and has joined again: what is known of its former life does not hold.
        await this.#stopLink(key, session);
        await deleteLink(session, node.id);
        continue;
      }
      if (node.dsn === null) continue;
      const changed =
        running &&
        (running.dsn !== node.dsn ||
          running.provider.applyDelayMs !== node.applyDelayMs ||
          askedOtherwise(running, record?.skipRequest ?? null));
      if (changed) await this.#stopLink(key, session);
      else if (running) continue;
      if (record && record.start !== null) this.#startLink(me, node, record);
      else await this.#establish(session, me, node, local);
    }
    // Nodes that were parted and whose name was given to another, all while this node did not look.
    for (const { provider } of records) {
      if (this.#nodes.some(({ id }) => sameNode(id, provider))) continue;
      await this.#stopLink(nodeKey(provider), session);
      if (await releaseParted(session, { provider: me.id, subscriber: provider }))
        await deleteLink(session, provider);
    }
  }

  /** Makes the slot and the origin of a new link. Tried again, with growing pauses, while the provider cannot be reached. */
  async #establish(session: Session, me: Node, node: Node, local: LocalNode): Promise<void> {
    const key = nodeKey(node.id);
    const tries = this.#linking.get(key) ?? { failures: 0, notBefore: 0 };
    if (performance.now() < tries.notBefore) return;
    const link = { provider: node.id, subscriber: me.id };
    try {
      await using peer = await Session.connect(this.#endpoints.conninfo(node.dsn ?? ''), {
        applicationName: `${me.name}:mkslot`,
        signal: this.#stop.signal,
        connectTimeoutMs: 5000,
      });
      await publishTo(peer, me.id);
      const start = await slotStart(peer, slotName(link));
      const copied = (local.joinState['applied'] as Record<string, string> | undefined)?.[key];
      const position = copied === undefined ? start : later(start, parseLsn(copied));
      await createLink(session, link, node.joinedAt, { start: position, skip: null });
      this.#linking.delete(key);
      this.#log.info({ provider: node.name }, 'link is established');
      this.#wakeup.raise();
    } catch (error) {
      const failures = tries.failures + 1;
      const waitMs = backoffMs(failures, RETRY, this.#random);
      this.#linking.set(key, { failures, notBefore: performance.now() + waitMs });
      this.#log.warn(
        { provider: node.name, ...describeError(error), retryInMs: waitMs },
        'link cannot be established',
      );
      await noteLinkFailure(session, link, describeError(error));
    }
  }

  #startLink(me: Node, provider: Node, record: LinkRecord): void {
    if (!this.#origins || provider.dsn === null) return;
    const known = [...this.#origins.providers.values()].some(({ id }) => sameNode(id, provider.id));
    // Made since the origins were read: the next look has it.
    if (!known) return this.#wakeup.raise();
    const service = new LinkThread({
      localNode: me,
      provider,
      record,
      endpoints: this.#endpoints,
      edition: this.#edition,
      watermark: this.#watermarkOf(provider.id),
      recordLimit: this.#records.limit,
      group: this.#viewFor(provider, me, this.#origins),
      history: this.#history.options,
      log: this.#log,
      random: this.#random,
      onOutdated: () => {
        this.#wakeup.raise();
        this.#locks.wake();
      },
      onOwnBehind: () => this.#heartbeats.hurry(),
      onSlotLost: () => {
        this.#partedCheckDue = true;
        this.#wakeup.raise();
      },
    });
    const { skipRequest } = record;
    this.#links.set(nodeKey(provider.id), { service, provider, dsn: provider.dsn, skipRequest });
    service.start();
  }

  async #stopLink(key: string, session?: Session): Promise<void> {
    const running = this.#links.get(key);
    if (!running) return;
    this.#links.delete(key);
    await running.service.stop();
    if (session) await this.#reportLink(session, running);
  }

  async #stopLinks(): Promise<void> {
    for (const { service } of this.#links.values()) void service.stop();
    for (const key of this.#links.keys()) await this.#stopLink(key);
  }

  /** Tells what has happened: of what runs now, or of what ran until now. */
  async #report(
    session: Session,
    { own, links }: { own: OwnStream | undefined; links: Iterable<RunningLink> },
  ): Promise<void> {
    for (const link of links) await this.#reportLink(session, link);
    if (!own) return;
    await reportOwnStream(session, own.report);
    const { clockStep } = own;
    const known = JSON.stringify(clockStep);
    // Once: people may take the note away.
    if (!clockStep || known === this.#notedStep) return;
    await noteClockStep(session, clockStep);
    this.#notedStep = known;
  }

  async #reportLink(session: Session, { service, provider }: RunningLink): Promise<void> {
    const report = await service.takeReport();
    this.#knownAtPeers.set(nodeKey(provider.id), report.knownThere);
    await reportLink(session, provider.id, report);
  }

  // The own stream -----------------------------------------------------------------------------------------------------

  #startOwnStream(me: Node): void {
    if (this.#own) return;
    this.#own = new OwnStream({
      local: this.#endpoints.local,
      node: me,
      origins: () => this.#origins as OriginMap,
      log: this.#log,
      random: this.#random,
      peersLimit: () => this.#leastWatermark([me.id]),
      watermark: this.#ownWatermark,
      heard: this.#ownHeard,
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
    this.#ownWatermark.set(LONG_AGO);
    this.#ownHeard.set(LONG_AGO);
  }

  // Being parted -------------------------------------------------------------------------------------------------------

  /** A slot that is gone may mean that this node was parted while it could not hear of it: the peers know. */
  async #askWhetherParted(session: Session, me: Node): Promise<void> {
    this.#partedCheckDue = false;
    for (const peer of this.#nodes) {
      if (sameNode(peer.id, me.id) || peer.status !== 'r' || peer.dsn === null) continue;
      try {
        await using asked = await Session.connect(this.#endpoints.conninfo(peer.dsn), {
          applicationName: `${me.name}:check`,
          signal: this.#stop.signal,
          connectTimeoutMs: 5000,
        });
        const mine = (await readNodes(asked)).find(({ id }) => sameNode(id, me.id));
        if (mine?.status !== 'k') continue;
        this.#log.warn({ peer: peer.name }, 'this node was parted from the group');
        await markSelfParted(session, me.id);
        this.#wakeup.raise();
        return;
      } catch (error) {
        this.#log.debug({ peer: peer.name, ...describeError(error) }, 'peer could not be asked');
      }
    }
  }

  /** A parted node keeps no WAL for peers that will not read it. */
  async #releaseOwnSlots(session: Session, me: Node): Promise<void> {
    let left = 0;
    for (const peer of this.#nodes) {
      if (sameNode(peer.id, me.id)) continue;
      const link = { provider: me.id, subscriber: peer.id };
      if (!(await releaseParted(session, link))) left += 1;
    }
    const own = await readSlot(session, ownSlotName(me.id));
    // The end of its reader is noticed a moment later.
    if (own?.active) left += 1;
    else if (own) await dropSlot(session, own.name);
    this.#released = left === 0;
    if (this.#released) this.#log.info({}, 'parted node holds nothing for its peers any more');
  }

  // What links share ---------------------------------------------------------------------------------------------------

  async #readOrigins(session: Session, me: Node): Promise<OriginMap> {
    const sequenceOf = new Map(this.#nodes.map((node) => [nodeKey(node.id), node.sequence]));
    const providers = new Map<number, { id: Node['id']; sequence: number | null }>();
    const copies = new Set<number>();
    const copyPrefix = copyOriginName(me.id, 0).slice(0, -1);
    for (const { number, name } of await readOrigins(session)) {
      const id = providerOfOrigin(name, me.id.dboid);
      if (id) providers.set(number, { id, sequence: sequenceOf.get(nodeKey(id)) ?? null });
      else if (name.startsWith(copyPrefix)) copies.add(number);
    }
    return { local: { id: me.id, sequence: me.sequence }, providers, copies };
  }

  /**
   * Tells the links who the nodes are, read since `begun` was the edition's number. Returns when all of them go by it: no link is
   * started before, so that rows of a new origin are never taken for the node's own.
   */
  async #tellLinks(begun: number, me: Node, origins: OriginMap): Promise<void> {
    const { local, providers, copies } = origins;
    const facts = JSON.stringify([this.#nodes, local, [...providers], [...copies]]);
    const isNew = facts !== this.#told.facts;
    if (!isNew && begun === this.#told.number) return;
    this.#told = { facts, number: isNew ? this.#edition.replace(begun) : begun };
    const telling = [...this.#links.values()].map(({ service, provider }) =>
      service.tell(this.#viewFor(provider, me, origins)),
    );
    await Promise.all(telling);
  }

  #viewFor(provider: Node, me: Node, origins: OriginMap): GroupView {
    const others = this.#watermarksWithout([me.id, provider.id]);
    return {
      number: this.#told.number,
      nodes: this.#nodes,
      origins,
      own: this.#ownWatermark.shared,
      ownHeard: this.#ownHeard.shared,
      others: others.map(({ shared }) => shared),
    };
  }

  /** Nobody goes by what he knows of the group before it was looked at again. */
  #outdate(): void {
    this.#edition.outdate();
    this.#wakeup.raise();
  }

  #watermarksWithout(except: readonly NodeId[]): SharedTime[] {
    return this.#nodes
      .filter(({ id, status }) => status !== 'k' && !except.some((one) => sameNode(one, id)))
      .map(({ id }) => this.#watermarkOf(id));
  }

  #watermarkOf(id: NodeId): SharedTime {
    const known = this.#watermarks.get(nodeKey(id)) ?? new SharedTime();
    this.#watermarks.set(nodeKey(id), known);
    return known;
  }

  /** By nodeKey(): up to which commit time this node has applied each other node. */
  #appliedUpTo(): Record<string, PgTime> {
    const entries = [...this.#watermarks]
      .map(([key, time]) => [key, time.get()] as const)
      .filter(([, time]) => time > LONG_AGO);
    return Object.fromEntries(entries);
  }

  /** Up to here everything of every node but `except` is applied: infinity without any, LONG_AGO while one is unknown. */
  #leastWatermark(except: readonly NodeId[]): PgTime {
    const times = this.#watermarksWithout(except).map((time) => time.get());
    // There may be one more.
    if (this.#told.number !== this.#edition.number) return LONG_AGO;
    return Math.min(...times) as PgTime;
  }
}

interface RunningLink {
  readonly service: LinkThread;
  readonly provider: Node;
  readonly dsn: string;
  readonly skipRequest: SkipRequest | null;
}

/** Whether a link is to skip something else than it knows of. That it is done with a request is no reason to begin it anew. */
function askedOtherwise({ service, skipRequest }: RunningLink, now: SkipRequest | null): boolean {
  if (now?.at === skipRequest?.at) return false;
  return now !== null || service.status === 'failed';
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

/** The start of a slot for this node on a provider, made if it is not there: a joining provider makes it itself beforehand. */
async function slotStart(peer: Session, name: string): Promise<Lsn> {
  const start = await ensureSlot(peer, name);
  if (start === null) {
    throw new BdrError('join_in_progress', {
      message: `replication slot "${name}" is still being made`,
    });
  }
  return start;
}

function later(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}
