import { Checks } from './checks.ts';
import { Faults } from './faults.ts';
import { SteppingClock } from './clock-steps.ts';
import { ModelJoin } from './join.ts';
import { ModelLink } from './link.ts';
import { Membership } from './membership.ts';
import type { MutantName } from './mutants.ts';
import { ModelNode } from './node.ts';
import { Scheduler, type Steps } from './process.ts';
import { checkOutcomes } from './policy-outcomes.ts';
import type { PolicyRun } from './policy.ts';
import { Random } from './random.ts';
import { ModelServer } from './server.ts';
import { lastSent, writerOfNode } from './streams.ts';
import { hasUniqueIndex, type Switches } from './switches.ts';
import type { WalRecord } from './transaction.ts';
import { ModelPart } from './part.ts';
import { User, type Workload } from './users.ts';
import { originOf, OWN_ORIGIN, Violation, type CheckName, type World } from './world.ts';

export interface RunOptions extends Switches {
  readonly seed: number;
  /** Else chance decides, from 2 to 5. */
  readonly nodes?: number | undefined;
  readonly mutant?: MutantName | undefined;
  /** The table has a conflict policy. */
  readonly policy?: PolicyRun | undefined;
  /** Told of each step that changes something. */
  readonly note?: ((text: string) => void) | undefined;
}

export interface RunResult {
  readonly seed: number;
  readonly nodes: number;
  readonly steps: number;
  /** Of the model's clock, until faults end; see TICKS_OF_AN_HOUR. */
  readonly ticks: number;
  /** Transactions of users that wrote something, and have lasted. */
  readonly commits: number;
  readonly faults: number;
  /** Undefined when all that must hold held. */
  readonly failure: { readonly check: CheckName; readonly message: string } | undefined;
}

/** A run that has not ended by then waits for something that will not come. */
const MOST_STEPS = 400_000;

/**
 * A tick of the model's clock stands for a tenth of a second: a user pauses up to 2 s, heartbeats are 0.5 to 7 s apart, something fails
 * every 3, 15 or 100 s, and stays cut for up to 30 s.
 */
export const TICKS_OF_AN_HOUR = 36_000;

const BEGINS_AT = 1000;

/** Until then a join goes on among faults. */
const LONG_JOIN = 15_000;

/** One run: nodes are written, fail and recover in an order of chance; then all is healed, drained and compared. */
export function simulate(options: RunOptions): RunResult {
  const run = new Run(options);
  let failure: RunResult['failure'];
  try {
    run.run();
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    failure = { check: error.check, message: error.message };
  }
  const { ticks, commits, faults } = run;
  return {
    seed: options.seed,
    nodes: run.nodes.length,
    steps: run.steps,
    ticks,
    commits,
    faults,
    failure,
  };
}

class Run {
  readonly world: World;
  readonly nodes: readonly ModelNode[];
  readonly #users: { readonly node: ModelNode; readonly user: User }[] = [];
  readonly #faults: Faults;
  #part: ModelPart | undefined;
  readonly #clocks: readonly SteppingClock[];
  #healedAt: number | undefined;
  readonly #scheduler: Scheduler;

  constructor({ seed, nodes: wanted, mutant, policy, note, ...switches }: RunOptions) {
    const random = new Random(seed);
    const count = wanted ?? random.pick([2, 2, 2, 2, 3, 3, 3, 3, 4, 5]);
    const servers: ModelServer[] = [];
    const scheduler = new Scheduler(random, () => (this.world.time += 1));
    this.#scheduler = scheduler;
    this.world = {
      time: BEGINS_AT,
      random,
      scheduler,
      servers,
      checks: new Checks(
        () => this.world,
        () => this.nodes,
      ),
      switches,
      note: note && ((text) => note(`[${scheduler.steps}] ${text}`)),
      policy,
      has: (name) => name === mutant,
    };
    const skew = random.pick([0, 0, 3, 100]);
    for (let index = 0; index < count; index++) {
      servers.push(new ModelServer(this.world, index, writerOfNode(index), random.below(skew + 1)));
    }
    this.nodes = servers.map((server) => new ModelNode(this.world, server));
    const workload = this.#workload();
    const members = switches.join ? this.nodes.slice(0, -1) : this.nodes;
    for (const { server } of this.nodes) {
      for (const { server: member } of members) server.statuses.set(member.index, 'r');
    }
    for (const node of this.nodes) this.#populate(node, members, workload);
    const membership = new Membership(this.world, () => this.nodes);
    const joining = this.nodes.at(-1);
    if (joining && switches.join) {
      joining.join = new ModelJoin(this.world, joining, members, membership);
    }
    this.#clocks = switches.clocks
      ? this.nodes.map((node) => new SteppingClock(this.world, node))
      : [];
    if (switches.part && count > 2) this.#part = this.#leaving(membership);
    this.#faults = new Faults(this.world, this.nodes, this.#users, random.pick([60, 300, 2000]));
  }

  get steps(): number {
    return this.#scheduler.steps;
  }

  get ticks(): number {
    return (this.#healedAt ?? this.world.time) - BEGINS_AT;
  }

  get commits(): number {
    const ofUsers = ({ origin, changes }: WalRecord) =>
      origin === 0 && changes.some(({ kind }) => kind !== 'message');
    return this.nodes.reduce((sum, { server }) => sum + server.wal.filter(ofUsers).length, 0);
  }

  get faults(): number {
    return this.#faults.count;
  }

  run(): void {
    const scheduler = this.#scheduler;
    for (const node of this.nodes) {
      scheduler.spawn(`${node.server.index} walwriter`, node.server.walWriter());
      node.start();
    }
    const joining = this.nodes.at(-1)?.join;
    for (const { node, user } of this.#users) {
      if (node.join)
        scheduler.spawn(`${node.server.index} opens`, this.#startWhenReady(node, user));
      else if (joining && this.world.switches.dense && this.world.random.chance(0.7)) {
        scheduler.spawn(`${node.server.index} waits`, this.#startInJoin(joining, user));
      } else user.start();
    }
    scheduler.spawn('faults', this.#faults.run());
    for (const clock of this.#clocks) scheduler.spawn('clock', clock.run());
    if (this.#part) scheduler.spawn('part', this.#part.run());
    const areDone = () => this.#users.every(({ user }) => user.isDone);
    this.#until('users end', () => areDone() || this.#joinsNoMore());
    this.#healedAt = this.world.time;
    this.#faults.heal();
    for (const clock of this.#clocks) clock.heal();
    scheduler.heal();
    this.#until(
      'users of a joined node end, a node has left',
      () => areDone() && this.#part?.isOver !== false,
    );
    this.#until(
      'steps of clocks are dealt with',
      () =>
        this.#clocks.length === 0 ||
        (this.#clocks.every(({ isNoticed }) => isNoticed) &&
          this.nodes.every(({ rewriter }) => rewriter.isDone)),
    );
    const last = Math.max(...this.world.servers.map((server) => server.clock()));
    this.#until('watermarks rise', () => this.#staying.every((node) => hasPassed(node, last)));
    // What is settled late may leave something to settle.
    do {
      for (const node of this.nodes) node.isQuiet = false;
      this.#until('lost values, writes and steps of clocks are settled, outboxes empty', () =>
        this.#isSettled(),
      );
      for (const node of this.nodes) node.isQuiet = true;
      this.#until('streams are drained', () => this.#isDrained());
    } while (!this.#isSettled());
    this.world.checks.converged(this.#part);
    this.world.checks.losersAreKept(this.#part);
    if (this.world.policy) checkOutcomes(this.world.policy.policy, this.world.servers);
  }

  /** One of the first members; not the only one. */
  #leaving(membership: Membership): ModelPart {
    const node = this.world.random.pick(this.nodes.filter(({ join }) => join === undefined));
    const others = this.nodes.filter((other) => other !== node);
    const users = this.#users.filter((one) => one.node === node).map(({ user }) => user);
    return new ModelPart(this.world, node, others, users, membership);
  }

  /** Those that are compared at the end. */
  get #staying(): readonly ModelNode[] {
    return this.nodes.filter((node) => node !== this.#part?.node);
  }

  *#startWhenReady({ join }: ModelNode, user: User): Steps {
    yield { ready: () => join?.isReady === true };
    user.start();
  }

  /** When so many slots have been made for a joining node, so that users write while it copies. */
  *#startInJoin(join: ModelJoin, user: User): Steps {
    const count = this.world.random.below(this.nodes.length);
    yield { ready: () => join.slots >= count || join.isReady };
    user.start();
  }

  /** Faults have come faster than a join gets on: it goes on without them. */
  #joinsNoMore(): boolean {
    if (this.#scheduler.steps < LONG_JOIN) return false;
    return this.#users.every(({ node, user }) => node.join !== undefined || user.isDone);
  }

  #workload(): Workload {
    const { random, switches } = this.world;
    // So that users are at work while a node comes or goes.
    const more = switches.join || switches.part ? 2 : 1;
    return {
      keys: random.pick([1, 2, 2, 3, 4]) + (hasUniqueIndex(this.world.switches) ? 1 : 0),
      transactions: random.pick([3, 8, 20]) * more,
      mostStatements: random.pick([1, 2, 4]),
      hasKeyChanges: random.chance(0.5),
      hasTruncates: random.chance(0.4),
      hasUnchangedToast: random.chance(0.6),
      asynchronous: random.pick([0, 0.5]),
      values: hasUniqueIndex(this.world.switches) ? random.pick([2, 3, 5]) : 0,
      mostPause: 20,
      ...(switches.dense ? this.#denseWorkload() : {}),
    };
  }

  /** So little that what goes wrong is not written over before the end. */
  #denseWorkload(): Partial<Workload> {
    const { random } = this.world;
    return {
      keys: random.pick([1, 1, 2, 3]) + (hasUniqueIndex(this.world.switches) ? 1 : 0),
      transactions: random.pick([2, 4, 8]),
      asynchronous: random.pick([0, 1]),
      mostPause: random.pick([2, 5, 20]),
    };
  }

  #populate(node: ModelNode, members: readonly ModelNode[], workload: Workload): void {
    for (const { server: provider } of members.includes(node) ? members : []) {
      if (provider !== node.server) node.links.push(new ModelLink(this.world, node, provider));
    }
    const users = this.world.random.pick([1, 2, 2, 3]);
    for (let number = 0; number < users; number++) {
      this.#users.push({ node, user: new User(this.world, node, workload, number) });
    }
  }

  #until(what: string, isSo: () => boolean): void {
    const scheduler = this.#scheduler;
    // Clocks that have stepped apart are waited for.
    const most = scheduler.steps + MOST_STEPS * (this.world.switches.clocks ? 4 : 1);
    while (!isSo()) {
      for (let i = 0; i < 16; i++) scheduler.step();
      if (scheduler.steps > most) {
        const waiting = scheduler.waiting().join(', ');
        throw new Violation('a wait does not end', `${what}: never; there wait ${waiting}`);
      }
    }
  }

  #isSettled(): boolean {
    return this.#staying.every(
      ({ server, rewriter }) =>
        (!this.world.switches.clocks || rewriter.isDone) &&
        server.lostValues().length === 0 &&
        server.lostWrites().length === 0 &&
        server.outbox().length === 0 &&
        (this.world.has('asks to a parted node are left open') ||
          server.openAsks().every(({ writer }) => writer !== this.#part?.node.server.writer)),
    );
  }

  /** Nothing is open, and each log is read to its end by all. */
  #isDrained(): boolean {
    return this.#staying.every(
      ({ server, links }) =>
        server.open.size === 0 &&
        server.flushed === server.wal.length &&
        server.position(OWN_ORIGIN) >= lastSent(server, false) &&
        links.every(
          ({ provider }) => server.position(originOf(provider.index)) >= lastSent(provider, true),
        ),
    );
  }
}

function hasPassed({ links, own }: ModelNode, time: number): boolean {
  return [...links, own].every(({ watermark }) => watermark.time > time);
}
