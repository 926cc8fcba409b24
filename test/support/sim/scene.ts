import type { PgTime } from '../../../src/base/pg-time.ts';
import { Checks } from './checks.ts';
import { ModelJoin } from './join.ts';
import { ModelLink } from './link.ts';
import { Membership } from './membership.ts';
import type { MutantName } from './mutants.ts';
import { ModelNode } from './node.ts';
import { Process, type Processes, type Steps } from './process.ts';
import { Random } from './random.ts';
import { carryOut, type Scope } from './scope.ts';
import { ModelServer, type SavedServer } from './server.ts';
import { UNIQUE_VIOLATION } from './statements.ts';
import { isSent, lastSent, writerOfNode } from './streams.ts';
import { originOf, OWN_ORIGIN, Violation, type World } from './world.ts';

/** A turn waits for a lock: its order is one in which another comes first. */
export const BLOCKED = new Error('blocked');

/** Something that may happen next, without anything in between. */
export interface Turn {
  readonly name: string;
  /** The node whose server it changes; but for a join no other one. */
  readonly node: number;
  readonly run: () => void;
}

/** A node while nothing is under way there. */
interface SavedNode {
  readonly server: SavedServer;
  /** Of its own stream and its links. */
  readonly greatestApplied: readonly PgTime[];
}

/** A state of a scene, to go back to. */
export interface SavedScene {
  readonly time: number;
  readonly done: readonly number[];
  readonly nodes: readonly SavedNode[];
}

/** The nodes of a scope, in which one turn is taken after the other. */
export class Scene implements Processes {
  readonly isHealing = true;
  readonly world: World;
  readonly nodes: readonly ModelNode[];
  readonly scope: Scope;
  /** For each node how much of its script is done, in half transactions. */
  readonly done: number[];
  readonly beats: number[];
  readonly #processes = new Map<string, readonly Process[]>();
  readonly #purges: number[];
  readonly #joining: ModelJoin | undefined;
  /** What a node has, where it was saved since its last turn. */
  readonly #saved: (SavedNode | undefined)[];
  /** Nodes that were gone back to: not all their processes have begun again. */
  readonly #cold = new Set<ModelNode>();

  constructor(scope: Scope, mutant: MutantName | undefined) {
    this.scope = scope;
    this.done = scope.scripts.map(() => 0);
    this.beats = scope.scripts.map(() => 0);
    this.#purges = scope.scripts.map(() => 0);
    this.#saved = scope.scripts.map(() => undefined);
    const servers: ModelServer[] = [];
    this.world = {
      time: 1000,
      random: new Random(1),
      scheduler: this,
      servers,
      checks: new Checks(
        () => this.world,
        () => this.nodes,
      ),
      switches: { unique: scope.unique, join: scope.joins !== undefined },
      note: undefined,
      policy: undefined,
      has: (name) => name === mutant,
    };
    for (const index of scope.scripts.keys()) {
      servers.push(new ModelServer(this.world, index, writerOfNode(index), 0));
    }
    this.nodes = servers.map((server) => new ModelNode(this.world, server));
    const source = scope.joins === undefined ? undefined : this.nodes[scope.joins];
    const joining = source && this.nodes.at(-1);
    const members = this.nodes.filter((node) => node !== joining);
    if (joining) {
      const membership = new Membership(this.world, () => this.nodes);
      joining.join = new ModelJoin(this.world, joining, members, membership, source);
      this.#joining = joining.join;
      // It begins some time later.
      this.world.time += 100;
    }
    for (const node of this.nodes) {
      for (const { server } of members) node.server.statuses.set(server.index, 'r');
      for (const { server } of node === joining ? [] : members) {
        if (server !== node.server) node.links.push(new ModelLink(this.world, node, server));
      }
      node.isQuiet = true;
      node.start();
      this.spawn(userOf(node), this.#user(node, 0));
    }
    this.#settle();
  }

  spawn(name: string, steps: Steps): Process {
    const process = new Process(name, steps);
    const others = this.#named(name).filter(({ ended }) => !ended);
    this.#processes.set(name, [...others, process]);
    return process;
  }

  /**
   * What is spawned meanwhile is gone through as well: all stand where they wait for something to do. Nobody acknowledges, since nobody crashes;
   * a join goes on by turns.
   */
  #settle(): void {
    for (const name of this.#processes.keys()) if (!/ (join|feedback)$/.test(name)) this.#go(name);
  }

  kill(process: Process): void {
    process.ended = true;
  }

  /** Whether the node's user has something left to do. */
  isBusy(node: number): boolean {
    return (this.done[node] ?? 0) < (this.scope.scripts[node]?.length ?? 0) * 2;
  }

  turns(): Turn[] {
    return this.nodes.flatMap((node) => [
      ...this.#userTurns(node),
      ...this.#heartbeatTurns(node),
      ...this.#purgeTurns(node),
      ...this.#joinTurns(node),
      ...node.links.flatMap((link) => this.#linkTurns(node, link)),
      ...this.#ownTurns(node),
      ...(this.scope.hasSteps ? this.#ownSteps(node) : []),
      ...(this.scope.crashes === node.server.index ? this.#crashTurns(node) : []),
      ...this.#outboxTurns(node),
    ]);
  }

  take({ node, run }: Turn): void {
    this.#saved[node] = undefined;
    run();
    this.#spreadNews();
    if (this.scope.crashes === undefined) this.#flush();
  }

  #flush(): void {
    for (const { server } of this.nodes) server.flush();
  }

  /** What a node says of its state all others hear at once. */
  #spreadNews(): void {
    for (const name of this.#processes.keys()) if (name.includes(' hears of ')) this.#go(name);
  }

  /** Lets all that is left happen, and compares. */
  drain(): void {
    this.#flush();
    this.#wakeAll();
    this.#saved.fill(undefined);
    // Some may stand in the middle.
    for (const { server } of this.nodes) this.#go(`${server.index} own write`);
    for (let round = 0; round < 100; round++) {
      // Lost values wait for heartbeats.
      const isNoted = this.nodes.some(({ server }) => server.lostValues().length > 0);
      const isJoining = this.#joining?.isReady === false;
      for (const node of isNoted || isJoining ? this.nodes : []) this.#beat(node);
      if (isJoining) this.#goOnJoining();
      const turns = this.nodes.flatMap((node) => [
        ...node.links.flatMap((link) => this.#linkTurns(node, link)),
        ...this.#ownTurns(node),
        ...this.#outboxTurns(node),
      ]);
      if (turns.length === 0 && !isJoining) {
        this.world.checks.converged();
        this.world.checks.losersAreKept();
        return;
      }
      for (const { run } of turns) run();
      this.#flush();
    }
    throw new Violation('a wait does not end', 'streams are not drained');
  }

  #userTurns(node: ModelNode): Turn[] {
    const { index } = node.server;
    const half = this.done[index] ?? 0;
    if (half >= (this.scope.scripts[index]?.length ?? 0) * 2) return [];
    const turn = (halves: number, name: string): Turn => ({
      name: `${index} ${name}`,
      node: index,
      run: () => {
        this.#wake(userOf(node), () =>
          this.spawn(userOf(node), this.#user(node, Math.floor(half / 2))),
        );
        this.done[index] = half + halves;
        this.#go(userOf(node));
        this.world.time += 1;
      },
    });
    if (half % 2 === 1) return [turn(1, 'commits')];
    return [
      turn(2, 'writes'),
      ...(this.scope.heldWhen && index === (this.scope.heldAt ?? 0)
        ? [turn(1, 'takes its time')]
        : []),
    ];
  }

  #heartbeatTurns(node: ModelNode): Turn[] {
    const { index } = node.server;
    const beats = this.beats[index] ?? 0;
    if (beats >= this.scope.heartbeats) return [];
    return [
      {
        name: `${index} beats`,
        node: index,
        run: () => {
          this.beats[index] = beats + 1;
          this.#beat(node);
        },
      },
    ];
  }

  #beat(node: ModelNode): void {
    this.world.time += 1;
    this.#once(node, 'heartbeat');
  }

  #purgeTurns(node: ModelNode): Turn[] {
    const { index } = node.server;
    const purges = this.#purges[index] ?? 0;
    if (purges >= (this.scope.purges ?? 0)) return [];
    const run = () => {
      this.#purges[index] = purges + 1;
      this.#once(node, 'purge');
    };
    return [{ name: `${index} purges`, node: index, run }];
  }

  /** What the agent does now and then. */
  #once(node: ModelNode, task: 'heartbeat' | 'purge'): void {
    const name = `${node.server.index} ${task}`;
    // To where it pauses.
    this.#go(name);
    node.isQuiet = false;
    this.#resume(name);
    node.isQuiet = true;
    this.#go(name);
  }

  /** A join goes on by one step: others come between. */
  #joinTurns({ server: { index: node } }: ModelNode): Turn[] {
    const name = `${node} join`;
    const isReady = this.#named(name).some(({ ended, wait }) => !ended && wait?.ready() !== false);
    if (!isReady) return [];
    const run = () => {
      this.world.time += 1;
      this.#resume(name);
    };
    return [{ name: `${node} joins`, node, run }];
  }

  #goOnJoining(): void {
    for (const node of this.nodes) this.#go(`${node.server.index} join`);
    this.#spreadNews();
  }

  #linkTurns({ server, join }: ModelNode, link: ModelLink): Turn[] {
    const { provider, name } = link;
    const origin = originOf(provider.index);
    const position = server.position(origin);
    const { index: node } = server;
    const again: Turn = {
      name: `${name} again`,
      node,
      run: () => {
        this.#wakeLink(link);
        this.#go(`${name} apply`);
      },
    };
    const isNoted = server.lostValues().some(({ writer }) => writer === origin);
    if (position >= lastSent(provider, true)) return isNoted ? [again] : [];
    const waiting = provider.wal
      .slice(position)
      .filter((one, at) => isSent(one) && !join?.isCopied(provider, one, position + at)).length;
    const taking = Array.from({ length: waiting }, (_, more) =>
      this.#taking(server, link, more + 1),
    );
    return [...taking, ...(isNoted ? [again] : [])];
  }

  /** A link gets so many transactions, then applies them. */
  #taking({ index: node }: ModelServer, link: ModelLink, count: number): Turn {
    const { name } = link;
    const run = () => {
      this.#wakeLink(link);
      for (let i = 0; i < count; i++) this.#resume(`${name} receive`);
      this.#go(`${name} apply`);
    };
    return { name: count === 1 ? name : `${name} by ${count}`, node, run };
  }

  #ownTurns({ server, own }: ModelNode): Turn[] {
    const { index } = server;
    if (server.position(OWN_ORIGIN) >= lastSent(server, true)) return [];
    return [
      {
        name: `${index} own`,
        node: index,
        run: () => {
          this.#wake(`${index} own write`, () => own.start());
          this.#go(`${index} own write`);
          this.#go(`${index} own read`);
          this.#go(`${index} own write`);
        },
      },
    ];
  }

  #ownSteps({ server: { index: node } }: ModelNode): Turn[] {
    const [reading, writing] = [`${node} own read`, `${node} own write`];
    const run = () => {
      this.#go(reading);
      this.#resume(writing);
    };
    return [{ name: `${node} own steps`, node, run }];
  }

  #crashTurns(node: ModelNode): Turn[] {
    const { server } = node;
    const { index } = server;
    const readers = this.nodes
      .flatMap(({ links }) => links)
      .filter((one) => one.provider === server);
    const crash = () => {
      for (const link of readers) link.abandon();
      node.abandon();
      server.crash();
      node.start();
      for (const link of readers) link.start();
      this.#settle();
    };
    const flush = () => server.flush();
    return [
      { name: `${index} flushes`, node: index, run: flush },
      { name: `${index} crashes`, node: index, run: crash },
    ];
  }

  #outboxTurns({ server }: ModelNode): Turn[] {
    if (server.outbox().length === 0) return [];
    const { index } = server;
    return [{ name: `${index} sends`, node: index, run: () => this.#go(`${index} outbox`) }];
  }

  // Going back ---------------------------------------------------------------------------------------------------------

  /** Whether it can be gone back to a state: where nothing stands in the middle of something, or knows what is in no table. */
  get isPlain(): boolean {
    const { heartbeats, heldWhen, unique, joins, purges, hasSteps, crashes } = this.scope;
    return (
      heartbeats === 0 &&
      heldWhen === undefined &&
      !unique &&
      joins === undefined &&
      !purges &&
      !hasSteps &&
      crashes === undefined
    );
  }

  /** The state as it is. */
  save(): SavedScene {
    for (const [at, node] of this.nodes.entries()) this.#saved[at] ??= saveNode(node);
    const nodes = this.#saved as readonly SavedNode[];
    return { time: this.world.time, done: [...this.done], nodes: [...nodes] };
  }

  /** Goes back to a state. Processes do not: they begin anew when it is their turn, as after a crash of the agent. */
  restore({ time, done, nodes }: SavedScene): void {
    this.world.time = time;
    for (const [at, halves] of done.entries()) this.done[at] = halves;
    for (const [at, saved] of nodes.entries()) {
      if (saved === this.#saved[at]) continue;
      const node = this.nodes[at] as ModelNode;
      node.server.restore(saved.server);
      this.#end(node, saved.greatestApplied);
      this.#saved[at] = saved;
      this.#cold.add(node);
    }
  }

  #end(node: ModelNode, greatestApplied: readonly PgTime[]): void {
    node.abandon();
    for (const process of this.#named(userOf(node))) this.kill(process);
    for (const [at, one] of [node.own, ...node.links].entries()) {
      one.greatestApplied = greatestApplied[at] as PgTime;
    }
  }

  /** A process of a node that was gone back to begins. */
  #wake(name: string, start: () => void): void {
    if (this.#named(name).some(({ ended }) => !ended)) return;
    start();
    this.#go(name);
  }

  #wakeLink(link: ModelLink): void {
    this.#wake(`${link.name} apply`, () => link.start());
    const isReading = this.#named(`${link.name} receive`).some(({ ended }) => !ended);
    if (!isReading) this.#go(`${link.name} apply`);
    // To where it waits for a record: from there on each step takes one.
    for (const process of this.#named(`${link.name} receive`)) {
      if (!process.ended && !process.wait) this.#step(process);
    }
  }

  /** All of the agents. */
  #wakeAll(): void {
    for (const node of this.#cold) {
      // The few that have begun would else be there twice.
      const { server, greatestApplied } = saveNode(node);
      node.server.restore(server);
      this.#end(node, greatestApplied);
      node.start();
    }
    if (this.#cold.size > 0) this.#settle();
    this.#cold.clear();
  }

  #named(name: string): readonly Process[] {
    return this.#processes.get(name) ?? [];
  }

  /** Lets processes of a name go on until they wait for something else than time. */
  #go(name: string): void {
    for (const process of this.#named(name)) {
      while (!process.ended) {
        if (process.wait && !process.wait.ready()) {
          if (process.wait.isLock) throw BLOCKED;
          if (!this.#passes(process)) break;
        }
        this.#step(process);
      }
    }
  }

  /** One step of each. */
  #resume(name: string): void {
    for (const process of this.#named(name)) {
      if (!process.ended && (!process.wait || process.wait.ready())) this.#step(process);
    }
  }

  #step(process: Process): void {
    const { done, value } = process.steps.next();
    if (done) process.ended = true;
    else process.wait = value as Process['wait'];
  }

  /** Whether it only waits for the clock: a transaction is applied when that has passed it. */
  #passes({ wait }: Process): boolean {
    const { time } = this.world;
    for (let i = 0; i < 3; i++) {
      this.world.time += 1;
      if (wait?.ready()) return true;
    }
    this.world.time = time;
    return false;
  }

  /** Carries out the script from so far on. */
  *#user(node: ModelNode, from: number): Steps {
    const { server } = node;
    const { index } = server;
    const session = server.connect(`user ${index}`);
    for (const [number, operation] of (this.scope.scripts[index] ?? []).entries()) {
      if (number < from) continue;
      yield { ready: () => (this.done[index] ?? 0) > number * 2 };
      const transaction = server.begin(session);
      try {
        yield* carryOut(node, transaction, operation, this.done[index] ?? 0);
      } catch (error) {
        if (error !== UNIQUE_VIOLATION) throw error;
        server.rollback(session);
        continue;
      }
      const isHeld = (this.done[index] ?? 0) === number * 2 + 1;
      const committing = server.commit(session);
      committing.next();
      if (isHeld && this.scope.heldWhen === 'written') committing.next();
      if (isHeld) yield { ready: () => (this.done[index] ?? 0) > number * 2 + 1 };
      yield* committing;
    }
  }
}

function userOf({ server }: ModelNode): string {
  return `user ${server.index}`;
}

function saveNode({ server, own, links }: ModelNode): SavedNode {
  const greatestApplied = [own, ...links].map((one) => one.greatestApplied);
  return { server: server.save(), greatestApplied };
}
