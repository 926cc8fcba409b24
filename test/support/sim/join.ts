import type { Lsn } from '../../../src/base/lsn.ts';
import type { PgTime } from '../../../src/base/pg-time.ts';
import type { Membership } from './membership.ts';
import type { ModelNode } from './node.ts';
import { LOCK_CONFLICT, type Steps } from './process.ts';
import { hasUniqueIndex } from './switches.ts';
import type { ModelServer } from './server.ts';
import type { LostValue, ModelSession, Row, Transaction, WalRecord } from './transaction.ts';
import { COPY_ORIGIN, originOf, OWN_ORIGIN, type World } from './world.ts';

/** A server that was asked has crashed since: the join begins its state again. */
const JOIN_FAILED = new Error('join failed');

/** What the source shows at one moment; CopyPosition. */
interface Snapshot {
  readonly rows: ReadonlyMap<string, Row>;
  readonly lost: readonly LostValue[];
  readonly takenAt: PgTime;
  /** Whether it shows what a transaction of the source has done. */
  readonly shows: (xid: number) => boolean;
  /** At or after the end of everything that it shows. */
  readonly end: Lsn;
  /** Up to where the source had applied each peer, by its number. */
  readonly applied: ReadonlyMap<number, Lsn>;
}

/** Of a peer: where this node's slot begins, and the clock before it was made. */
interface PeerStart {
  readonly slot: Lsn;
  readonly clock: PgTime;
  /** settledUpTo() there, before the slot was made. */
  readonly settled: PgTime;
}

/** src/membership/join.ts, in its order, with src/snapshot/source-snapshot.ts. A fault begins the state again that the node is in. */
export class ModelJoin {
  readonly #world: World;
  readonly #node: ModelNode;
  readonly #membership: Membership;
  readonly #source: ModelNode;
  readonly #members: readonly ModelNode[];
  readonly #beginsAt: number;
  /** On disk with the state that they belong to. */
  readonly #starts = new Map<ModelNode, PeerStart>();
  #skip: Pick<Snapshot, 'shows' | 'end'> | undefined;
  #sessions: ModelSession[] = [];

  constructor(
    world: World,
    node: ModelNode,
    members: readonly ModelNode[],
    membership: Membership,
    source: ModelNode = world.random.pick(members),
  ) {
    this.#world = world;
    this.#node = node;
    this.#members = members;
    this.#membership = membership;
    this.#source = source;
    this.#beginsAt = world.time + world.random.below(100);
    node.server.statuses.set(node.server.index, 'b');
  }

  get isReady(): boolean {
    return this.#status === 'r';
  }

  /** So many peers have one for it. */
  get slots(): number {
    return this.#starts.size;
  }

  get #status() {
    return this.#node.server.statuses.get(this.#node.server.index);
  }

  /** On the source's stream what the copy shows is passed over. */
  isCopied(provider: ModelServer, { xid }: WalRecord, at: number): boolean {
    if (provider !== this.#source.server || !this.#skip) return false;
    return at < this.#skip.end && this.#skip.shows(xid);
  }

  /** The agent is gone. */
  abandon(): void {
    for (const session of this.#sessions) this.#serverOf(session).abandon(session);
    this.#sessions = [];
  }

  *run(): Steps {
    yield { ready: () => this.#world.time >= this.#beginsAt };
    for (;;) {
      try {
        if (this.#status === 'b') yield* this.#register();
        if (this.#status === 'i') yield* this.#initialise();
        if (this.#status === 'c') yield* this.#catchUp();
        if (this.#status === 'o') yield* this.#open();
        return;
      } catch (error) {
        if (error !== JOIN_FAILED && error !== LOCK_CONFLICT) throw error;
        this.abandon();
      }
      yield undefined;
    }
  }

  *#register(): Steps {
    const { server } = this.#node;
    const there = this.#source.server.clock();
    yield { ready: () => server.clock() > there };
    this.#membership.announce(this.#source, server.index, 'i');
    server.statuses.set(server.index, 'i');
  }

  // i ------------------------------------------------------------------------------------------------------------------

  *#initialise(): Steps {
    const { server } = this.#node;
    for (const { server: peer } of this.#members) server.ensureSlot(peer.index);
    yield undefined;
    for (const peer of this.#members) yield* this.#ensurePeerSlot(peer);
    for (const peer of this.#members) {
      if (peer === this.#source) yield* this.#until(this.#source, this.#ownStreamPasses());
      else yield* this.#until(this.#source, this.#applies(this.#source, peer));
    }
    yield* this.#writersEnd();
    const snapshot = yield* this.#takeSnapshot();
    yield* this.#copy(snapshot);
    if (!this.#world.has('tombstones copied before the source has read its own log')) {
      yield* this.#until(this.#source, this.#ownStreamPasses(snapshot.end));
    }
    yield* this.#copyTombstones();
    server.flush();
    yield undefined;
    this.#createLinks(snapshot);
    this.#membership.announce(this.#node, server.index, 'c');
  }

  /** Makes this node's slot on a peer that knows it: it begins where all have ended that were writing. The clock is read before. */
  *#ensurePeerSlot(peer: ModelNode): Steps {
    if (this.#starts.has(peer)) return;
    const { server } = peer;
    const { index } = this.#node.server;
    yield { ready: () => server.statuses.has(index) };
    const { crashes } = server;
    let clock = server.clock();
    const { switches } = this.#world;
    // Without such an index nobody tells of deaths: the clock alone must do.
    const byClock = !hasUniqueIndex(switches) || this.#world.has('rows copied by the clock alone');
    const settled = byClock ? (Infinity as PgTime) : peer.settledUpTo();
    yield undefined;
    const writing = [...server.open].filter(({ xid }) => xid !== undefined);
    if (!this.#world.has('slot does not wait for who is writing')) {
      yield { ready: () => writing.every(({ phase }) => phase === 'ended') };
    }
    if (server.crashes !== crashes) throw JOIN_FAILED;
    if (this.#world.has('clock read when the slot is made')) clock = server.clock();
    this.#starts.set(peer, { slot: server.ensureSlot(index), clock, settled });
    yield undefined;
  }

  /** waitForWriters(): what lies before the slot on the source's log, and is not seen yet, must be in the snapshot. */
  *#writersEnd(): Steps {
    if (this.#world.has('snapshot without what is not seen yet')) return;
    const writing = [...this.#source.server.open].filter(({ xid }) => xid !== undefined);
    yield* this.#until(this.#source, () => writing.every(({ phase }) => phase === 'ended'));
  }

  /** takeSourceSnapshot(): with apply held, so that what the snapshot shows and what has been applied are the same. */
  *#takeSnapshot(): Steps<Snapshot> {
    const { server, statements } = this.#source;
    const { crashes } = server;
    const holder = this.#connect(server, 'hold');
    const isHeld = !this.#world.has('snapshot taken while apply goes on');
    const transaction = server.begin(holder);
    if (isHeld) yield* statements.lockGate(transaction, 'exclusive');
    yield undefined;
    const inProgress = new Set([...server.open].map(({ xid }) => xid));
    const { xmax } = server;
    const shown = {
      rows: server.rows(),
      lost: server.lostValues(),
      takenAt: server.clock(),
      shows: (xid: number) => xid < xmax && !inProgress.has(xid),
    };
    yield undefined;
    const applied = new Map(
      this.#members.map(({ server: { index } }) => [index, server.position(originOf(index))]),
    );
    const end = server.wal.length as Lsn;
    this.#close(holder);
    yield undefined;
    if (!this.#world.has('what the copy shows may be lost by a crash')) server.flush();
    if (server.crashes !== crashes) throw JOIN_FAILED;
    return { ...shown, applied, end };
  }

  /** copyDatabase(): in the place of what an interrupted copy has left. */
  *#copy({ rows, lost, takenAt }: Snapshot): Steps {
    const { server } = this.#node;
    // What a killed agent's session has in flight is there, or is not: this copy takes its place.
    if (!server.isFree(COPY_ORIGIN)) yield { ready: () => server.isFree(COPY_ORIGIN) };
    const session = this.#connect(server, 'copy', COPY_ORIGIN);
    const transaction = server.begin(session);
    for (const key of server.keys()) transaction.rows.set(key, undefined);
    for (const [key, row] of rows) {
      transaction.rows.set(key, { ...row, chain: server.newChain() });
    }
    for (const key of transaction.rows.keys()) server.lock(transaction, key);
    transaction.settled.push(...server.lostValues());
    if (!this.#world.has('noted lost values are not copied')) {
      transaction.lost.push(...lost.filter(({ writer }) => writer !== originOf(server.index)));
    }
    this.#copyVersions(transaction, rows, lost);
    server.xidOf(transaction);
    yield undefined;
    session.setup = { position: 0 as Lsn, time: takenAt };
    yield* server.commit(session);
    this.#close(session);
  }

  /** copyRowVersions(): of rows that a change on its way may be older than, and of those that are to be read again. */
  #copyVersions(
    transaction: Transaction,
    rows: ReadonlyMap<string, Row>,
    lost: readonly LostValue[],
  ): void {
    transaction.forgottenVersions = [...this.#node.server.versions()];
    if (this.#world.has('rows are copied without their true versions')) return;
    const watermark = Math.min(
      ...[...this.#starts.values()].flatMap(({ clock, settled }) => [clock, settled]),
    );
    for (const [key, row] of rows) {
      const isNoted =
        !this.#world.has('versions of noted rows are not copied') &&
        lost.some((one) => one.key === key);
      if (row.time <= watermark && !isNoted) continue;
      const local = this.#source.statements.localRow(undefined, row, row.time);
      if (local.kind === 'versioned') transaction.versions.push({ key, ...local.version });
    }
  }

  *#copyTombstones(): Steps {
    const { server } = this.#node;
    if (this.#world.has('tombstones are not copied')) return;
    const remembered = this.#source.server.remembered();
    const session = this.#connect(server, 'tombstones');
    const transaction = server.begin(session);
    transaction.forgotten = [...server.remembered()];
    transaction.tombstones.push(...remembered);
    server.xidOf(transaction);
    yield undefined;
    yield* server.commit(session);
    this.#close(session);
  }

  #createLinks({ applied, shows, end }: Snapshot): void {
    const { server } = this.#node;
    this.#skip = { shows, end };
    for (const [peer, { slot }] of this.#starts) {
      const { index } = peer.server;
      const isSlots = peer === this.#source || this.#world.has('links begin at their slots');
      server.beginAt(originOf(index), isSlots ? slot : (applied.get(index) ?? slot));
    }
  }

  // c, o ---------------------------------------------------------------------------------------------------------------

  *#catchUp(): Steps {
    for (const peer of this.#members) yield { ready: this.#applies(this.#node, peer) };
    this.#membership.announce(this.#node, this.#node.server.index, 'o');
  }

  *#open(): Steps {
    for (const peer of this.#members) {
      const theirs = () => peer.links.find(({ provider }) => provider === this.#node.server);
      yield { ready: () => theirs()?.isReading === true };
      yield { ready: this.#applies(this.#node, peer) };
    }
    this.#membership.announce(this.#node, this.#node.server.index, 'r');
  }

  // Tools --------------------------------------------------------------------------------------------------------------

  /** Until a node has applied what a peer commits next: all before it is applied, too. */
  #applies(by: ModelNode, { server: peer }: ModelNode): () => boolean {
    const from = peer.wal.length;
    return () => by.server.position(originOf(peer.index)) > from;
  }

  /** Until the source has read its own log up to a position. */
  #ownStreamPasses(upTo: number = this.#source.server.wal.length): () => boolean {
    const { server } = this.#source;
    return () => server.position(OWN_ORIGIN) >= upTo || !hasOwn(server, upTo);
  }

  /** Waits, unless the server that is asked crashes. */
  *#until({ server }: ModelNode, isSo: () => boolean): Steps {
    const { crashes } = server;
    yield { ready: () => isSo() || server.crashes !== crashes };
    if (server.crashes !== crashes) throw JOIN_FAILED;
  }

  #connect(server: ModelServer, name: string, origin = 0): ModelSession {
    const session = server.connect(`${name} of ${this.#node.server.index}`, origin, true);
    this.#sessions.push(session);
    return session;
  }

  #close(session: ModelSession): void {
    this.#serverOf(session).close(session);
    this.#sessions = this.#sessions.filter((one) => one !== session);
  }

  #serverOf(session: ModelSession): ModelServer {
    const { server } = this.#source;
    return server.sessions.has(session) ? server : this.#node.server;
  }
}

/** Whether there is anything below a position that the own stream has not read. */
function hasOwn(server: ModelServer, upTo: number): boolean {
  return server.wal.slice(server.position(OWN_ORIGIN), upTo).some(({ origin }) => origin === 0);
}
