import { LONG_AGO, type PgTime } from '../../../src/base/pg-time.ts';
import { nodeKey, type NodeStatus } from '../../../src/model/node.ts';
import { ClockWatch } from '../../../src/receive/clock-watch.ts';
import { ModelRewriter } from './clock-steps.ts';
import { heartbeatMessage } from './heartbeat.ts';
import type { ModelJoin } from './join.ts';
import { ModelLink } from './link.ts';
import { ModelOutbox } from './outbox.ts';
import { ModelOwnStream } from './own-stream.ts';
import type { Process, Steps } from './process.ts';
import type { ModelServer } from './server.ts';
import { Statements } from './statements.ts';
import { lastSent } from './streams.ts';
import type { ModelSession, Transaction } from './transaction.ts';
import { originOf, type World } from './world.ts';
import { hasUniqueIndex } from './switches.ts';

/** Of the mutant that groups with a safety margin. */
const MARGIN = 5;

/** A tick is a tenth of a second. */
const MINUTE = 600;

/** At the end a node does not beat while one of its peers is so much of its log behind. */
const MOST_UNHEARD = 300;
/** A join waits for such a distance several times. */
const MOST_UNHEARD_OF_JOIN = 60;

/** One node: its server, and its agent's links, own stream, heartbeats and purge (src/node/node-service.ts). */
export class ModelNode {
  readonly #world: World;
  readonly server: ModelServer;
  readonly statements: Statements;
  readonly links: ModelLink[] = [];
  /** Steps of the clock that its own stream has noticed; kept in tables. */
  readonly clockWatch = new ClockWatch(undefined);
  readonly rewriter: ModelRewriter;
  /** Its way into the group; undefined for a first member. */
  join: ModelJoin | undefined;
  readonly own: ModelOwnStream;
  readonly #heartbeatPause: number;
  readonly #purgePause: number;
  /** Heartbeats and purges end, so that all can be drained. */
  isQuiet = false;
  #processes: Process[] = [];
  #joining: Process | undefined;
  #sessions: ModelSession[] = [];

  constructor(world: World, server: ModelServer) {
    this.#world = world;
    this.server = server;
    this.statements = new Statements(world, server);
    this.own = new ModelOwnStream(world, this);
    this.rewriter = new ModelRewriter(world, this);
    this.#heartbeatPause = world.random.pick([10, 40, 150]);
    this.#purgePause = world.random.pick([20, 150]);
  }

  /** The agent's life, from its start on. */
  start(): void {
    if (this.server.statuses.get(this.server.index) === 'k') return;
    if (this.join && !this.join.isReady) this.#startJoin(this.join);
    if (!this.#isCopying) this.#startServices();
  }

  #startServices(): void {
    const { index } = this.server;
    const { scheduler } = this.#world;
    this.#sessions = [this.server.connect('heartbeat'), this.server.connect('perdb')];
    const [beating, looking] = this.#sessions as [ModelSession, ModelSession];
    this.#processes = [
      scheduler.spawn(`${index} heartbeat`, this.#heartbeats(beating)),
      scheduler.spawn(`${index} purge`, this.#purges(looking)),
    ];
    if (hasUniqueIndex(this.#world.switches)) this.#startOutbox();
    if (this.#world.switches.clocks) {
      this.#processes.push(scheduler.spawn(`${index} clock`, this.rewriter.run()));
    }
    this.own.start();
    for (const link of this.links) link.start();
  }

  #startJoin(join: ModelJoin): void {
    const name = `${this.server.index} join`;
    this.#joining = this.#world.scheduler.spawn(name, join.run());
  }

  get #isCopying(): boolean {
    const status = this.server.statuses.get(this.server.index);
    return status === 'b' || status === 'i';
  }

  /** NodeService.#look(): a node's state is known here by now. */
  groupChanged(about: number, status: NodeStatus): void {
    if (about === this.server.index) {
      if (status === 'c') this.#begin();
      if (status === 'k') this.abandon();
      return;
    }
    if (status === 'k') return this.#release(about);
    if (status === 'i' && !this.#isCopying) this.#establish(about);
  }

  /** The copy is complete: the rest of the agent begins. */
  #begin(): void {
    for (const provider of this.#world.servers) {
      if (provider !== this.server) this.links.push(new ModelLink(this.#world, this, provider));
    }
    this.#startServices();
  }

  /** #establish(): a link from a node that joins. */
  #establish(about: number): void {
    const provider = this.#world.servers[about] as ModelServer;
    this.server.beginAt(originOf(about), provider.ensureSlot(this.server.index));
    const link = new ModelLink(this.#world, this, provider);
    this.links.push(link);
    link.start();
  }

  /** The link from a node that was parted ends. */
  #release(about: number): void {
    const at = this.links.findIndex(({ provider }) => provider.index === about);
    if (at < 0) return;
    this.links[at]?.abandon();
    if (!this.#world.has('a parted node’s link holds the watermarks')) this.links.splice(at, 1);
  }

  #startOutbox(): void {
    const { index } = this.server;
    const session = this.server.connect('outbox');
    this.#sessions.push(session);
    const outbox = new ModelOutbox(this.#world, this.statements, session);
    this.#processes.push(this.#world.scheduler.spawn(`${index} outbox`, outbox.run()));
  }

  /** The agent is killed: its sessions live on for a while. */
  abandon(): void {
    if (this.#joining) this.#world.scheduler.kill(this.#joining);
    this.join?.abandon();
    for (const process of this.#processes) this.#world.scheduler.kill(process);
    for (const session of this.#sessions) this.server.abandon(session);
    this.rewriter.abandon();
    this.own.abandon();
    for (const link of this.links) link.abandon();
  }

  // Limits -------------------------------------------------------------------------------------------------------------

  /** LinkContext.groupLimit */
  groupLimit(link: ModelLink): PgTime {
    const world = this.#world;
    if (world.has('group without a limit')) return Infinity as PgTime;
    const others = this.links.filter((one) => one !== link);
    if (world.has('group without the own stream')) return least(others.map(watermarkOf));
    const all = [...others, this.own];
    if (world.has('group up to the last time seen')) return least(all.map(lastSeen));
    if (world.has('group with a margin of time')) {
      return (least(all.map(lastSeen)) - MARGIN) as PgTime;
    }
    return least(all.map(watermarkOf));
  }

  /** NodeService.#leastWatermark([me]) */
  peersLimit(): PgTime {
    return least(this.links.map(watermarkOf));
  }

  /** NodeService.#purge() */
  #purgeLimit(): PgTime {
    const world = this.#world;
    if (world.has('tombstones forgotten without the own stream')) return this.peersLimit();
    const all = [...this.links, this.own];
    return least(
      all.map(world.has('tombstones forgotten by the last time seen') ? lastSeen : watermarkOf),
    );
  }

  /** Deletions are remembered until all peers know of them, too: purgeTombstones(). */
  #policyPurgeLimit(): PgTime {
    const limit = this.#purgeLimit();
    if (this.#world.policy?.mutant === 'deletions forgotten as without a policy') return limit;
    if (this.server.lostWrites().length > 0) return LONG_AGO;
    return least([limit, ...this.links.map(({ knownThere }) => knownThere)]);
  }

  *#purges(session: ModelSession): Steps {
    for (;;) {
      yield* this.#pause(this.#purgePause);
      const limit = this.#world.policy ? this.#policyPurgeLimit() : this.#purgeLimit();
      if (limit === LONG_AGO) continue;
      yield undefined;
      const transaction = this.server.begin(session);
      if (this.join) this.statements.forgetVersions(transaction, this.#versionsLimit());
      if (!this.#isHeld()) this.statements.forget(transaction, limit);
      this.#forgetLostValuesOfParted(transaction);
      this.#forgetSettledAsks(transaction, limit);
      yield undefined;
      yield* this.server.commit(session);
    }
  }

  /** forgetLostValuesOfParted() */
  #forgetLostValuesOfParted(transaction: Transaction): void {
    const { server } = this;
    if (this.#world.has('long values are asked of a parted node for ever')) return;
    for (const [about, status] of server.statuses) {
      if (status !== 'k') continue;
      const noted = server.lostValues().filter(({ writer }) => writer === originOf(about));
      transaction.settled.push(...noted);
      if (noted.length > 0) server.xidOf(transaction);
    }
  }

  /** forgetSettledAsks(): what the node that was asked has sent in the minute after the ask is here. */
  #forgetSettledAsks(transaction: Transaction, limit: PgTime): void {
    const { server } = this;
    const settled = server.openAsks().filter(({ writer, askedAt }) => {
      const index = this.#world.servers.findIndex((one) => one.writer === writer);
      const knownToAll = least([limit, ...this.links.map(({ knownThere }) => knownThere)]);
      return server.statuses.get(index) !== 'k' && askedAt + MINUTE <= knownToAll;
    });
    transaction.answered.push(...settled);
    if (settled.length > 0) server.xidOf(transaction);
  }

  /** Nothing is forgotten while a node copies. */
  #isHeld(): boolean {
    if (this.#world.has('tombstones forgotten while a node copies')) return false;
    return [...this.server.statuses.values()].some((status) => status === 'b' || status === 'i');
  }

  // Heartbeats ---------------------------------------------------------------------------------------------------------

  /** bdr.internal_heartbeat() */
  *#heartbeats(session: ModelSession): Steps {
    const { server } = this;
    const world = this.#world;
    let told = LONG_AGO;
    let before: { readonly xid: number; readonly startedAt: number } | undefined;
    for (;;) {
      yield* this.#pause(this.#heartbeatPause);
      if (world.scheduler.isHealing && !this.#isHeard()) yield { ready: () => this.#isHeard() };
      // Two that tell the same would count as a step.
      if (world.switches.clocks) yield { ready: () => server.clock() !== told };
      const applied = Object.fromEntries(
        this.links
          .filter(({ watermark }) => watermark.time > LONG_AGO)
          .map(({ provider, watermark }) => [nodeKey(provider.writer.id), watermark.time]),
      );
      const startedAt = world.time;
      yield undefined;
      const transaction = server.begin(session);
      const first = server.clock();
      told = first;
      const xmax = server.xmax;
      yield undefined;
      const own = server.xidOf(transaction);
      yield undefined;
      const xid = world.has('heartbeat with the snapshot’s xmax') ? xmax : own;
      // Watermark takes one off.
      const more = world.has('watermark at the clock itself') ? 1 : 0;
      const clock = (world.has('heartbeat reads the clock last') ? server.clock() : first) + more;
      const untold = this.#untold();
      const heartbeat = { clock, xid, xmin: this.#oldestWriter(own), applied, untold };
      transaction.changes.push(heartbeatMessage(heartbeat));
      if (world.switches.clocks) {
        this.rewriter.told(before?.xid ?? xid, clock, before && world.time - before.startedAt);
      }
      before = { xid, startedAt };
      yield undefined;
      yield* server.commit(session);
    }
  }

  /**
   * Whether who reads here is not far behind. At the end nobody pauses, and five nodes beat faster than each of them can apply what
   * the others tell: agents have a tenth of a second from one to the next.
   */
  #isHeard(): boolean {
    // What waits for the clock is not waited for.
    if (this.server.isBehind) return true;
    const { index, statuses } = this.server;
    const end = lastSent(this.server, true);
    const most = this.#world.switches.join ? MOST_UNHEARD_OF_JOIN : MOST_UNHEARD;
    return this.#world.servers.every(
      (peer) =>
        peer === this.server ||
        statuses.get(peer.index) !== 'r' ||
        end - peer.position(originOf(index)) <= most,
    );
  }

  /** bdr.internal_untold() */
  #untold(): PgTime | null {
    const times = this.server
      .outbox()
      .filter(({ kind }) => kind === 'kill')
      .map(({ version }) => version.time);
    return times.length > 0 ? least(times) : null;
  }

  /** bdr.internal_settled_upto() */
  settledUpTo(): PgTime {
    const applied = this.links
      .filter(({ provider }) => hasCopied(this.server.statuses.get(provider.index)))
      .map(watermarkOf);
    return least([...applied, this.#untold() ?? (Infinity as PgTime)]);
  }

  /** Horizons.versions */
  #versionsLimit(): PgTime {
    const limit = this.peersLimit();
    if (this.#world.has('versions forgotten before all have heard of the row')) return limit;
    return least([limit, ...this.links.map(({ settledThere }) => settledThere)]);
  }

  /** bdr.internal_oldest_writer(): what applies is left out. */
  #oldestWriter(own: number): number {
    let oldest = Math.min(own, this.server.xmax);
    for (const { xid, session } of this.server.open) {
      if (xid !== undefined && !session.isApply && xid < oldest) oldest = xid;
    }
    return oldest;
  }

  *#pause(length: number): Steps {
    const world = this.#world;
    const until = world.time + 1 + world.random.below(length);
    const isOver = () => world.time >= until || world.scheduler.isHealing;
    yield { ready: () => isOver() && !this.isQuiet };
  }
}

/** Whether a node may have users who write, as far as somebody knows who has `status` for it. */
function hasCopied(status: NodeStatus | undefined): boolean {
  return status === 'c' || status === 'o' || status === 'r';
}

interface Watched {
  readonly watermark: { readonly time: PgTime };
  readonly greatestApplied: PgTime;
}

function watermarkOf({ watermark }: Watched): PgTime {
  return watermark.time;
}

/** What takes the place of the watermark in some mutants. */
function lastSeen({ greatestApplied }: Watched): PgTime {
  return greatestApplied;
}

function least(times: readonly PgTime[]): PgTime {
  return Math.min(...times) as PgTime;
}
