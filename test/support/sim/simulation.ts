import { Checks } from './checks.ts';
import { Faults } from './faults.ts';
import { ModelLink } from './link.ts';
import type { MutantName } from './mutants.ts';
import { ModelNode } from './node.ts';
import { Scheduler } from './process.ts';
import { checkOutcomes } from './policy-outcomes.ts';
import type { PolicyRun } from './policy.ts';
import { Random } from './random.ts';
import { ModelServer } from './server.ts';
import { lastSent, writerOfNode } from './streams.ts';
import { User, type Workload } from './users.ts';
import { originOf, OWN_ORIGIN, Violation, type CheckName, type World } from './world.ts';

export interface RunOptions {
  readonly seed: number;
  /** Else chance decides, from 2 to 5. */
  readonly nodes?: number | undefined;
  readonly mutant?: MutantName | undefined;
  /** With a unique index besides the key. */
  readonly unique?: boolean | undefined;
  /** The table has a conflict policy. */
  readonly policy?: PolicyRun | undefined;
  /** Told of each step that changes something. */
  readonly note?: ((text: string) => void) | undefined;
}

export interface RunResult {
  readonly seed: number;
  readonly nodes: number;
  readonly steps: number;
  /** Undefined when all that must hold held. */
  readonly failure: { readonly check: CheckName; readonly message: string } | undefined;
}

/** A run that has not ended by then waits for something that will not come. */
const MOST_STEPS = 400_000;

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
  return { seed: options.seed, nodes: run.nodes.length, steps: run.steps, failure };
}

class Run {
  readonly world: World;
  readonly nodes: readonly ModelNode[];
  readonly #users: { readonly node: ModelNode; readonly user: User }[] = [];
  readonly #faults: Faults;
  readonly #scheduler: Scheduler;

  constructor({ seed, nodes: wanted, mutant, unique, policy, note }: RunOptions) {
    const random = new Random(seed);
    const count = wanted ?? random.pick([2, 2, 2, 2, 3, 3, 3, 3, 4, 5]);
    const servers: ModelServer[] = [];
    const scheduler = new Scheduler(random, () => (this.world.time += 1));
    this.#scheduler = scheduler;
    this.world = {
      time: 1000,
      random,
      scheduler,
      servers,
      checks: new Checks(
        () => this.world,
        () => this.nodes,
      ),
      isUnique: unique === true,
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
    for (const node of this.nodes) this.#populate(node, workload);
    this.#faults = new Faults(this.world, this.nodes, this.#users, random.pick([60, 300, 2000]));
  }

  get steps(): number {
    return this.#scheduler.steps;
  }

  run(): void {
    const scheduler = this.#scheduler;
    for (const node of this.nodes) {
      scheduler.spawn(`${node.server.index} walwriter`, node.server.walWriter());
      node.start();
    }
    for (const { user } of this.#users) user.start();
    scheduler.spawn('faults', this.#faults.run());
    this.#until('users end', () => this.#users.every(({ user }) => user.isDone));
    this.#faults.heal();
    scheduler.heal();
    const last = Math.max(...this.world.servers.map((server) => server.clock()));
    this.#until('watermarks rise', () => this.nodes.every((node) => hasPassed(node, last)));
    // What is settled late may leave something to settle.
    do {
      for (const node of this.nodes) node.isQuiet = false;
      this.#until('lost values and writes are settled, outboxes empty', () => this.#isSettled());
      for (const node of this.nodes) node.isQuiet = true;
      this.#until('streams are drained', () => this.#isDrained());
    } while (!this.#isSettled());
    this.world.checks.converged();
    if (this.world.policy) checkOutcomes(this.world.policy.policy, this.world.servers);
  }

  #workload(): Workload {
    const { random } = this.world;
    return {
      keys: random.pick([1, 2, 2, 3, 4]) + (this.world.isUnique ? 1 : 0),
      transactions: random.pick([3, 8, 20]),
      mostStatements: random.pick([1, 2, 4]),
      hasKeyChanges: random.chance(0.5),
      hasTruncates: random.chance(0.4),
      hasUnchangedToast: random.chance(0.6),
      asynchronous: random.pick([0, 0.5]),
      values: this.world.isUnique ? random.pick([2, 3, 5]) : 0,
    };
  }

  #populate(node: ModelNode, workload: Workload): void {
    for (const provider of this.world.servers) {
      if (provider !== node.server) node.links.push(new ModelLink(this.world, node, provider));
    }
    const users = this.world.random.pick([1, 2, 2, 3]);
    for (let number = 0; number < users; number++) {
      this.#users.push({ node, user: new User(this.world, node, workload, number) });
    }
  }

  #until(what: string, isSo: () => boolean): void {
    const scheduler = this.#scheduler;
    const most = scheduler.steps + MOST_STEPS;
    while (!isSo()) {
      for (let i = 0; i < 16; i++) scheduler.step();
      if (scheduler.steps > most) {
        const waiting = scheduler.waiting().join(', ');
        throw new Violation('a wait does not end', `${what}: never; there wait ${waiting}`);
      }
    }
  }

  #isSettled(): boolean {
    return this.nodes.every(
      ({ server }) =>
        server.lostValues().length === 0 &&
        server.lostWrites().length === 0 &&
        server.outbox().length === 0,
    );
  }

  /** Nothing is open, and each log is read to its end by all. */
  #isDrained(): boolean {
    return this.nodes.every(
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
