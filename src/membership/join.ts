import { assert } from '../base/assert.ts';
import { BdrError, messageOf } from '../base/errors.ts';
import { formatLsn, parseLsn, type Lsn } from '../base/lsn.ts';
import type { Logger } from '../base/logger.ts';
import { LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';
import { createLink, readLinkFailure } from '../catalog/links.ts';
import {
  adoptRegistration,
  markSelfParted,
  partedError,
  readLocalNode,
  readNodes,
  registerNode,
  setJoinProgress,
  setJoinState,
  setJoinStep,
  setStatus,
  type JoinProgress,
  type LocalNode,
} from '../catalog/nodes.ts';
import { describeOldestWriter } from '../catalog/open-writers.ts';
import { publishTo, settlePublications } from '../catalog/publications.ts';
import { originName, ownOriginName, slotName } from '../model/link.ts';
import { nodeKey, sameNode, type Node, type NodeId } from '../model/node.ts';
import { originProgress } from '../postgres/origins.ts';
import { serverMajor } from '../postgres/server-facts.ts';
import type { Session } from '../postgres/session.ts';
import { readSnapshot } from '../postgres/snapshot-shows.ts';
import { createSlot, dropSlot, ensureSlot, readSlot } from '../postgres/slots.ts';
import {
  copyDatabase,
  objectsBefore,
  wipeDatabase,
  type Before,
  type CopyPosition,
} from '../snapshot/database-copy.ts';
import { DiskReserve } from '../snapshot/disk-reserve.ts';
import { copyTombstones } from '../snapshot/tombstone-copy.ts';
import type { Endpoints } from './endpoints.ts';
import { JoinChecks } from './join-checks.ts';
import { JoinSessions } from './join-sessions.ts';
import { ensureOwnSlot } from './own-slot.ts';

/**
 * How a database becomes a member. Each step is durable before the next begins, and may be begun again: kill anything at any
 * time and the join goes on where it was (DESIGN 7).
 *
 *   b  check      everything that can be refused is refused before anything is changed anywhere
 *      register   the source writes the node's row and connection, state i: from here on the group knows it
 *   i  slots      on this node for every peer, then on every peer for this node, each when that peer knows the node; a peer's
 *                 clock is read before its slot is made, so whatever committed up to then lies before the slot; and up to when it has
 *                 applied its own peers, because of what it may still tell of rows that have lost there (docs/decisions/0027)
 *      wait       until the source has applied each peer past its slot's start, and shows what lies before the slot on its own log
 *      snapshot   apply on the source is held for the moment in which the snapshot is exported and its positions are read
 *      copy       schema, rows, true versions of rows that changes on their way may still meet, indexes, constraints
 *      tombstones once the source has read its own log past the snapshot; it forgets none while a node is in this state
 *      links      begin at the *source's* applied position of that moment (at the slot's start, replayed deletes would remove
 *                 newer rows); on the source's own stream, what the snapshot shows is passed over by transaction id
 *   c  catch up   to a position fixed on each peer
 *   o  open       until every peer reads from here, and nobody new has turned up meanwhile
 *   r
 *
 * A crash in state i begins the copy again, from an empty schema and with a new snapshot; the slots stay.
 */
export class Join {
  readonly #session: Session;
  readonly #node: Node;
  readonly #call: string;
  readonly #endpoints: Endpoints;
  readonly #sessions: JoinSessions;
  readonly #log: Logger;
  readonly #signal: AbortSignal;
  readonly #nudge: () => void;
  #state: JoinState;
  #step = '';

  constructor(options: {
    /** Of this node's database; used by the join alone. */
    session: Session;
    node: Node;
    local: LocalNode;
    endpoints: Endpoints;
    log: Logger;
    signal: AbortSignal;
    /** Called when links are to be looked at anew. */
    nudge: () => void;
  }) {
    this.#session = options.session;
    this.#node = options.node;
    this.#call = options.local.call;
    this.#state = options.local.joinState as JoinState;
    this.#endpoints = options.endpoints;
    this.#sessions = new JoinSessions(options.endpoints, options.node.name, options.signal);
    this.#log = options.log;
    this.#signal = options.signal;
    this.#nudge = options.nudge;
  }

  /** Runs from the state that the node is in until it is ready. Throws what stops it; running again goes on. */
  async run(): Promise<void> {
    let { status } = this.#node;
    if (status === 'b') {
      await this.#checkAndRegister();
      status = 'i';
    }
    if (status === 'i') {
      await this.#initialise();
      status = 'c';
    }
    this.#nudge();
    if (status === 'c') {
      await this.#catchUp();
      status = 'o';
    }
    if (status === 'o') await this.#open();
    this.#log.info({}, 'node is ready');
  }

  // b ------------------------------------------------------------------------------------------------------------------

  async #checkAndRegister(): Promise<void> {
    await this.#begin('checking');
    const { initFromDsn } = this.#node;
    assert(initFromDsn !== null, 'a joining node has a source');
    const checks = new JoinChecks(
      this.#session,
      this.#node,
      this.#endpoints,
      this.#sessions,
      this.#signal,
    );
    await using source = await checks.run(initFromDsn, this.#state.registering === true);

    await this.#begin('registering');
    // Before the registration, so that a crash after it leaves no doubt whose row that is.
    await this.#save({ ...this.#state, registering: true });
    const registration = await registerNode(
      source,
      { ...this.#node, dsn: this.#node.dsn ?? '' },
      await serverMajor(this.#session),
      (registered) => checks.membership(registered, true),
    );
    // Everything this node writes about itself from here on must be newer than what the source wrote (DESIGN 4.7).
    await this.#waitForClockOf(source);
    await adoptRegistration(this.#session, this.#node.id, registration);
    this.#log.info({ sequence: registration.sequence }, 'node is registered');
  }

  // i ------------------------------------------------------------------------------------------------------------------

  async #initialise(): Promise<void> {
    await using source = await this.#sessions.open(this.#node.initFromDsn ?? '');
    const nodes = await readNodes(source);
    const me = nodes.find(({ id }) => sameNode(id, this.#node.id));
    if (!me || me.status === 'k') {
      await markSelfParted(this.#session, this.#node.id);
      throw partedError();
    }
    const peers = nodes.filter(({ status, id }) => status === 'r' && !sameNode(id, me.id));
    const sourceNode = await readLocalNode(source);
    assert(sourceNode, 'the source is a node');

    if (this.#state.copying) {
      await this.#begin('cleaning up');
      this.#log.warn({}, 'an interrupted copy is begun again');
      assert(this.#state.before, 'what the copy found is known');
      await wipeDatabase(this.#session, this.#state.before);
    }

    await this.#begin('creating slots');
    for (const peer of peers) await this.#ensureLocalSlot(peer.id);
    // What is deleted here from now on is to be remembered.
    await ensureOwnSlot(this.#session, me.id);
    const starts: Record<string, PeerStart> = {};
    for (const peer of peers) starts[nodeKey(peer.id)] = await this.#ensurePeerSlot(peer, me);

    await this.#begin('waiting for the source');
    for (const peer of peers) {
      if (sameNode(peer.id, sourceNode.id)) {
        // It will have to once more, past the snapshot: one that cannot is found out before anything is copied.
        await this.#waitForOwnStream(source, peer.id, await this.#mark(peer));
      } else await this.#waitForSource(source, sourceNode.id, peer);
    }

    await this.#waitForWriters(source);

    await this.#begin('copying');
    const before = this.#state.before ?? (await objectsBefore(this.#session));
    await this.#save({ ...this.#state, copying: true, before });
    const position = await this.#copy(source, sourceNode.id, starts, before);

    await this.#begin('starting links');
    await this.#createLinks(peers, sourceNode.id, starts, position);
    await this.#checkNotParted(source);
    await setStatus(this.#session, me.id, 'c');
  }

  /** Copies what the source has. When that fails, nothing of it is left, as far as the server can be reached. */
  async #copy(
    source: Session,
    sourceId: NodeId,
    starts: Readonly<Record<string, PeerStart>>,
    before: Before,
  ): Promise<CopyPosition> {
    await using reserve = await DiskReserve.take(this.#endpoints.local, this.#signal);
    try {
      const watermark = Math.min(...Object.values(starts).map(startsBehind)) as PgTime;
      const position = await copyDatabase({
        source: this.#endpoints.conninfo(this.#node.initFromDsn ?? ''),
        target: this.#endpoints.local,
        node: this.#node.id,
        sourceNode: sourceId,
        watermark,
        sourceParameters: this.#endpoints.parameters(this.#node.initFromDsn ?? ''),
        environment: this.#endpoints.environment.env,
        now: () => performance.now(),
        signal: this.#signal,
        log: this.#log,
        onStep: async (step) => this.#begin(step),
        onProgress: async (progress) => this.#progress(progress),
      });
      await this.#begin('copying tombstones');
      await this.#waitForOwnStream(source, sourceId, position.sourceLsn);
      await copyTombstones(source, this.#session, this.#signal);
      return position;
    } catch (error) {
      // The copy may have filled the disk: then there is room for the error's own note only when this is done.
      await reserve.free();
      // A join that was given up, or whose node was parted, has no business here any more.
      const isOver = error instanceof BdrError && !error.retry;
      if (!isOver && !this.#signal.aborted) await this.#throwCopyAway(before);
      throw error;
    }
  }

  /** The next try does it as well; until then others on that disk would have no room either. Never throws. The session ends after it. */
  async #throwCopyAway(before: Before): Promise<void> {
    try {
      // Nobody is kept from the error by those who look at what was copied.
      await this.#session.script(`SET lock_timeout = '5s'`);
      await wipeDatabase(this.#session, before);
    } catch (error) {
      this.#log.warn({ reason: messageOf(error) }, 'what was copied could not be removed yet');
    }
  }

  /**
   * A join does not hear of its parting before its links run, and its next status, being newer, would undo it: so it asks right
   * before.
   */
  async #checkNotParted(source: Session): Promise<void> {
    const me = (await readNodes(source)).find(({ id }) => sameNode(id, this.#node.id));
    if (me && me.status !== 'k') return;
    await markSelfParted(this.#session, this.#node.id);
    throw partedError();
  }

  async #createLinks(
    peers: readonly Node[],
    source: NodeId,
    starts: Readonly<Record<string, PeerStart>>,
    position: CopyPosition,
  ): Promise<void> {
    for (const peer of peers) {
      const link = { provider: peer.id, subscriber: this.#node.id };
      const slotStart = parseLsn(starts[nodeKey(peer.id)]?.slot ?? '0/0');
      if (sameNode(peer.id, source)) {
        const skip = { snapshot: position.snapshot, until: position.sourceLsn };
        await createLink(this.#session, link, peer.joinedAt, { start: slotStart, skip });
        continue;
      }
      const applied = position.applied.get(nodeKey(peer.id));
      if (applied === undefined || applied < slotStart) {
        throw new Error(`assertion failed: the source had not applied ${peer.name} past its slot`);
      }
      await createLink(this.#session, link, peer.joinedAt, { start: applied, skip: null });
    }
    await this.#save({ ...this.#state, copying: true, applied: textPositions(position.applied) });
  }

  async #ensureLocalSlot(peer: NodeId): Promise<void> {
    await publishTo(this.#session, peer);
    // The peer, which knows of this node by now, may make it at the same moment: whose it is does not matter.
    await ensureSlot(this.#session, slotName({ provider: this.#node.id, subscriber: peer }));
  }

  /** Makes this node's slot on a peer, once that peer knows this life of the node; asks first how old what it sends may be. */
  async #ensurePeerSlot(peer: Node, me: Node): Promise<PeerStart> {
    const key = nodeKey(peer.id);
    const known = this.#state.slots?.[key];
    await using session = await this.#sessions.openPeer(peer);
    const name = slotName({ provider: peer.id, subscriber: me.id });
    if (known && (await readSlot(session, name))) return known;

    await this.#until(`node ${peer.name} to know this node`, async () =>
      (await readNodes(session)).some(
        ({ id, joinedAt, status }) =>
          sameNode(id, me.id) && joinedAt === me.joinedAt && status !== 'k',
      ),
    );
    await publishTo(session, me.id);
    await this.#until(
      `tables of node ${peer.name} to be published to this node`,
      async () => (await settlePublications(session)).length === 0,
    );
    // One of an earlier life, or of a try that crashed before it was written down.
    if (await readSlot(session, name)) await dropSlot(session, name);
    const [there] = await session.query<{ settled: string | null }>(
      'SELECT bdr.internal_settled_upto() AS settled',
    );
    const settled = there?.settled ? Number(there.settled) : null;
    const start: PeerStart = { slot: formatLsn(await createSlot(session, name)), settled };
    await this.#save({ ...this.#state, slots: { ...this.#state.slots, [key]: start } });
    return start;
  }

  /** Until the source has applied all that the peer had committed when this began. */
  async #waitForSource(source: Session, sourceId: NodeId, peer: Node): Promise<void> {
    const mark = await this.#mark(peer);
    const origin = originName({ provider: peer.id, subscriber: sourceId });
    await this.#until(
      `the source to apply node ${peer.name} up to ${formatLsn(mark)}`,
      async () => (await originProgress(source, origin, false)) >= mark,
    );
  }

  /**
   * Until all transactions that were at work on the source when the slot there had been made have ended. The creation of the slot waits
   * for those that had begun before it. A later one may have its commit on the log before the slot's start, which then does not send it, and be
   * seen long after that, when its commit waits for a standby: the snapshot must show it (found by the simulation). However long they
   * take: so does the creation of the slot.
   */
  async #waitForWriters(source: Session): Promise<void> {
    await this.#begin('waiting for transactions of the source');
    const { xmax } = await readSnapshot(source);
    await this.#until(
      'transactions of the source to end that may lie before the slot',
      async () => (await readSnapshot(source)).xmin >= xmax,
      Infinity,
      () => describeOldestWriter(source),
    );
  }

  /** Until the source remembers all deletions of its own users up to a position. */
  async #waitForOwnStream(source: Session, sourceId: NodeId, upTo: Lsn): Promise<void> {
    await this.#until(
      `the source to read its own log up to ${formatLsn(upTo)}`,
      async () => (await originProgress(source, ownOriginName(sourceId), false)) >= upTo,
    );
  }

  // c, o ---------------------------------------------------------------------------------------------------------------

  async #catchUp(): Promise<void> {
    await this.#begin('catching up');
    for (const peer of await this.#livePeers()) {
      if (peer.status === 'r') await this.#applyUpTo(peer, await this.#mark(peer));
    }
    await this.#askSourceWhetherParted();
    await setStatus(this.#session, this.#node.id, 'o');
    this.#nudge();
  }

  /**
   * Ready means: every peer reads from here, so that no write of this node can be missed. A node that registered meanwhile is
   * found by applying each peer up to a position that it reached after it had begun to read from here.
   */
  async #open(): Promise<void> {
    await this.#begin('waiting for peers');
    const opened = new Set<string>();
    for (;;) {
      const peers = (await this.#livePeers()).filter(({ id }) => !opened.has(nodeKey(id)));
      if (peers.length === 0) break;
      for (const peer of peers) {
        await this.#waitForReader(peer);
        if (peer.status === 'r') await this.#applyUpTo(peer, await this.#mark(peer));
        opened.add(nodeKey(peer.id));
      }
    }
    await this.#askSourceWhetherParted();
    await setStatus(this.#session, this.#node.id, 'r');
    await setJoinStep(this.#session, this.#call, 'ready');
    await setJoinState(this.#session, this.#call, {});
    this.#nudge();
  }

  /** As far as the source can be asked: it may have left for good meanwhile, and is not needed any more. */
  async #askSourceWhetherParted(): Promise<void> {
    let source: Session;
    try {
      source = await this.#sessions.open(this.#node.initFromDsn ?? '');
    } catch (error) {
      this.#signal.throwIfAborted();
      this.#log.warn(
        { reason: messageOf(error) },
        'source cannot be asked whether this node was parted',
      );
      return;
    }
    await using asked = source;
    await this.#checkNotParted(asked);
  }

  async #waitForReader(peer: Node): Promise<void> {
    const name = slotName({ provider: this.#node.id, subscriber: peer.id });
    await this.#until(`node ${peer.name} to read from this node`, async () => {
      if ((await readSlot(this.#session, name))?.active) return true;
      await this.#raiseLinkError(peer);
      return false;
    });
  }

  /** The peer's own word on why it cannot read from here, if it has one and can be asked. */
  async #raiseLinkError(peer: Node): Promise<void> {
    await using session = await this.#sessions.openPeer(peer);
    const error = await readLinkFailure(session, this.#node.id);
    if (error === undefined) return;
    throw new BdrError('connection_failed', {
      message: `node ${peer.name} cannot read from this node: ${error}`,
      hint: 'node_external_dsn must be reachable from the other nodes.',
    });
  }

  async #applyUpTo(peer: Node, mark: Lsn): Promise<void> {
    const origin = originName({ provider: peer.id, subscriber: this.#node.id });
    await this.#until(
      `changes of node ${peer.name} up to ${formatLsn(mark)}`,
      async () => (await originProgress(this.#session, origin, false)) >= mark,
    );
  }

  /** Peers as this node knows them by now. */
  async #livePeers(): Promise<Node[]> {
    return (await readNodes(this.#session)).filter(
      ({ id, status }) => status !== 'k' && status !== 'b' && !sameNode(id, this.#node.id),
    );
  }

  // Tools --------------------------------------------------------------------------------------------------------------

  /** Leaves a transaction in a node's log, and returns a position before its end: who has applied past it has all before it. */
  async #mark(peer: Node): Promise<Lsn> {
    await using session = await this.#sessions.openPeer(peer);
    const [row] = await session.query<{ lsn: string }>(
      `SELECT pg_logical_emit_message(true, 'bdr_mark', '') AS lsn`,
    );
    return parseLsn(row?.lsn ?? '0/0');
  }

  async #waitForClockOf(source: Session): Promise<void> {
    const [there] = await source.query<{ time: string }>(
      `SELECT ${pgTimeSql('clock_timestamp()')} AS time`,
    );
    await this.#until("this server's clock to pass the source's", async () => {
      const [here] = await this.#session.query<{ time: string }>(
        `SELECT ${pgTimeSql('clock_timestamp()')} AS time`,
      );
      return Number(here?.time) > Number(there?.time);
    });
  }

  async #until(
    what: string,
    reached: () => Promise<boolean>,
    mostMs = MOST_WAIT_MS,
    whom: () => Promise<string | undefined> = async () => undefined,
  ): Promise<void> {
    const startedAt = performance.now();
    let told: string | undefined;
    for (let polls = 0; !(await reached()); polls++) {
      this.#signal.throwIfAborted();
      if (polls > 0 && polls % 50 === 0) {
        const one = await whom();
        const text = `waiting for ${what}${one === undefined ? '' : `: ${one}`}`;
        if (text !== told) await this.#progress({ text });
        told = text;
      }
      // Whoever was parted may wait for what never comes.
      if (polls % 20 === 19) await this.#askSourceWhetherParted();
      if (performance.now() - startedAt > mostMs) {
        throw new BdrError('wait_too_long', {
          message: `waited ${mostMs / 1000} s for ${what}`,
          hint: '"bdr status" on the nodes shows which link does not go on, and why.',
        });
      }
      await pause(Math.min(20 + polls * 5, 250), this.#signal);
    }
  }

  async #begin(step: string): Promise<void> {
    this.#signal.throwIfAborted();
    if (step === this.#step) return;
    this.#step = step;
    this.#log.info({ step }, 'join step');
    await setJoinStep(this.#session, this.#call, step);
  }

  async #progress(progress: JoinProgress): Promise<void> {
    this.#log.info({ step: this.#step, ...progress }, 'join progress');
    await setJoinProgress(this.#session, this.#call, progress);
  }

  async #save(state: JoinState): Promise<void> {
    this.#state = state;
    await setJoinState(this.#session, this.#call, state);
  }
}

/** A wait that takes longer is reported as a failure; the next try waits again. */
const MOST_WAIT_MS = 60_000;

interface PeerStart {
  /** Where this node's slot on the peer begins. */
  readonly slot: string;
  /** Up to here nothing that the slot sends can be older, as PgTime: asked before it was made. Null where nobody knows. */
  readonly settled: number | null;
}

function startsBehind({ settled }: PeerStart): PgTime {
  return (settled ?? LONG_AGO) as PgTime;
}

/** What a join must remember through a crash: bdr_local_node.join_state. */
interface JoinState {
  /** The registration may have happened. */
  readonly registering?: boolean;
  readonly slots?: Readonly<Record<string, PeerStart>>;
  /** The copy has begun: what is in the database is to be thrown away by the next try. */
  readonly copying?: boolean;
  /** What the database held before the copy. */
  readonly before?: Before;
  /** The source's applied positions at the snapshot, for nodes that turn up later. */
  readonly applied?: Readonly<Record<string, string>>;
}

function textPositions(positions: ReadonlyMap<string, Lsn>): Record<string, string> {
  return Object.fromEntries([...positions].map(([key, lsn]) => [key, formatLsn(lsn)]));
}
