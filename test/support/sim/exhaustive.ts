import { readValues } from '../../../src/apply/row-values.ts';
import type { PgTime } from '../../../src/base/pg-time.ts';
import type { Change } from '../../../src/pgoutput/transaction.ts';
import { tupleOf, UNCHANGED } from '../../../src/pgoutput/tuple-value.ts';
import { ITEM } from '../item-relation.ts';
import { Checks } from './checks.ts';
import { ModelLink } from './link.ts';
import type { MutantName } from './mutants.ts';
import { ModelNode } from './node.ts';
import { Process, type Processes, type Steps } from './process.ts';
import { Random } from './random.ts';
import { ModelServer } from './server.ts';
import { UNIQUE_VIOLATION } from './statements.ts';
import { lastSent, writerOfNode } from './streams.ts';
import type { Row, Transaction } from './transaction.ts';
import { originOf, OWN_ORIGIN, Violation, type CheckName, type World } from './world.ts';

/** What one transaction does. A statement that finds no row does nothing. `touch` and `move` leave the long value alone. */
export type Operation =
  | { readonly kind: 'insert' | 'update' | 'touch' | 'delete'; readonly key: string }
  | { readonly kind: 'move'; readonly key: string; readonly to: string }
  /** Inserts a row with that value of the unique index, or gives it to the row that is there. */
  | { readonly kind: 'take'; readonly key: string; readonly v: string }
  | { readonly kind: 'truncate' };

/** What users do on each node, in this order; everything else may happen in any. */
export interface Scope {
  /** For each node its transactions. */
  readonly scripts: readonly (readonly Operation[])[];
  /** Heartbeats of each node. */
  readonly heartbeats: number;
  /** The first node's commits may be held when they have taken their time, or when they are on the log and not seen yet. */
  readonly heldWhen: 'stamped' | 'written' | undefined;
  /** Column `v` has a unique index. */
  readonly unique?: true;
}

export interface ScopeResult {
  readonly states: number;
  /** The order of turns that leads there. */
  readonly failure:
    { readonly check: CheckName; readonly message: string; readonly turns: string } | undefined;
  /** Not all orders were tried. */
  readonly isCut: boolean;
}

/**
 * Tries every order of a small scope: in each turn a user's transaction, a heartbeat, a link's next transaction or all of its
 * backlog, or the own stream, each without anything in between; what interleaves within them is for `simulate`. A state that was
 * met before is not gone on from. Ends with the first failure, and after `most` states.
 */
export function exhaust(scope: Scope, most: number, mutant?: MutantName): ScopeResult {
  const met = new Set<string>();
  const path: Choice[] = [];
  for (;;) {
    const failure = follow(new Scene(scope, mutant), path, met);
    if (failure) return { states: met.size, failure, isCut: false };
    if (met.size >= most) return { states: met.size, failure: undefined, isCut: true };
    if (!turnAside(path)) return { states: met.size, failure: undefined, isCut: false };
  }
}

/** Takes the turns of that name, one after the other, then lets all that is left happen; says what goes wrong. */
export function tryOrder(
  scope: Scope,
  turns: readonly string[],
  mutant?: MutantName,
): string | undefined {
  const scene = new Scene(scope, mutant);
  try {
    for (const name of turns) {
      const choice = scene.turns().findIndex((turn) => turn.name === name);
      if (choice < 0) throw new Error(`there is no turn "${name}"`);
      scene.take(choice);
    }
    scene.drain();
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return error.check;
  }
  return undefined;
}

/** Which turn was taken, of how many. */
interface Choice {
  readonly taken: number;
  readonly of: number;
}

/** Takes the turns of a path, and from its end on the first each time, until there is none or a state is met again. */
function follow(scene: Scene, path: Choice[], met: Set<string>): ScopeResult['failure'] {
  const names: string[] = [];
  try {
    for (const { taken } of path) names.push(scene.take(taken));
    for (;;) {
      const state = scene.state();
      if (met.has(state)) return undefined;
      met.add(state);
      const turns = scene.turns().length;
      if (turns === 0) {
        scene.drain();
        return undefined;
      }
      path.push({ taken: 0, of: turns });
      names.push(scene.take(0));
    }
  } catch (error) {
    if (error === BLOCKED) return undefined;
    if (!(error instanceof Violation)) throw error;
    return { check: error.check, message: error.message, turns: names.join(', ') };
  }
}

/** The path to the next order: the last turn that has a sibling takes it. Says whether there is one. */
function turnAside(path: Choice[]): boolean {
  for (;;) {
    const last = path.pop();
    if (!last) return false;
    if (last.taken + 1 >= last.of) continue;
    path.push({ taken: last.taken + 1, of: last.of });
    return true;
  }
}

/** A turn waits for a lock: its order is one in which another comes first. */
const BLOCKED = new Error('blocked');

interface Turn {
  readonly name: string;
  readonly run: () => void;
}

/** What a change does, so that two that do not do the same differ. */
function describe(change: Change): string {
  if (change.kind === 'message') return change.content.toString();
  if (change.kind === 'truncate') return change.kind;
  const tuples = [
    'oldTuple' in change ? change.oldTuple : null,
    'newTuple' in change ? change.newTuple : null,
  ];
  const values = tuples.map((tuple) => tuple && readValues(tuple).map(String).join(' '));
  return [change.kind, change.relation.name, ...values].join(' ');
}

class Scene implements Processes {
  readonly isHealing = true;
  readonly world: World;
  readonly #nodes: readonly ModelNode[];
  readonly #processes = new Map<string, readonly Process[]>();
  readonly #scope: Scope;
  /** For each node how much of its script is done, in half transactions. */
  readonly #done: number[];
  readonly #beats: number[];

  constructor(scope: Scope, mutant: MutantName | undefined) {
    this.#scope = scope;
    this.#done = scope.scripts.map(() => 0);
    this.#beats = scope.scripts.map(() => 0);
    const servers: ModelServer[] = [];
    this.world = {
      time: 1000,
      random: new Random(1),
      scheduler: this,
      servers,
      checks: new Checks(
        () => this.world,
        () => this.#nodes,
      ),
      switches: { unique: scope.unique },
      note: undefined,
      policy: undefined,
      has: (name) => name === mutant,
    };
    for (const index of scope.scripts.keys()) {
      servers.push(new ModelServer(this.world, index, writerOfNode(index), 0));
    }
    this.#nodes = servers.map((server) => new ModelNode(this.world, server));
    for (const node of this.#nodes) {
      for (const provider of servers) {
        node.server.statuses.set(provider.index, 'r');
        if (provider !== node.server) node.links.push(new ModelLink(this.world, node, provider));
      }
      node.isQuiet = true;
      node.start();
      this.spawn(`user ${node.server.index}`, this.#user(node));
    }
    // What these spawn is gone through as well: all stand where they wait for something to do.
    for (const name of this.#processes.keys()) this.#go(name);
  }

  spawn(name: string, steps: Steps): Process {
    const process = new Process(name, steps);
    this.#processes.set(name, [...this.#named(name), process]);
    return process;
  }

  kill(process: Process): void {
    process.ended = true;
  }

  turns(): Turn[] {
    return this.#nodes.flatMap((node) => [
      ...this.#userTurns(node),
      ...this.#heartbeatTurns(node),
      ...node.links.flatMap((link) => this.#linkTurns(node, link)),
      ...this.#ownTurns(node),
      ...this.#outboxTurns(node),
    ]);
  }

  take(choice: number): string {
    const turn = this.turns()[choice] as Turn;
    turn.run();
    for (const { server } of this.#nodes) server.flush();
    return turn.name;
  }

  /**
   * All that decides about what comes. Of times only their order counts, and of a log what somebody has not read yet: so orders of turns that
   * have nothing to do with each other lead to one state.
   */
  state(): string {
    const times: PgTime[] = [];
    const nodes = this.#nodes.map((node) => {
      const { server, links, own } = node;
      const rows = [...server.rows()].map(([key, { v, big, time, origin }]) => {
        times.push(time);
        return [key, v, big, origin, time];
      });
      const tombstones = server.remembered().map(({ key, time, writer }) => {
        times.push(time);
        return [key ?? null, writer.sequence, time];
      });
      const lost = server.lostValues().map(({ key, writer }) => `${key} ${writer}`);
      const outbox = server.outbox().map(({ kind, key, version }) => {
        times.push(version.time);
        return [kind, key, version.writer.sequence, version.time];
      });
      const watermarks = [own, ...links].map(({ watermark }) => watermark.time);
      times.push(...watermarks);
      const log = this.#unread(node);
      for (const { time } of log) times.push(time);
      return { rows, tombstones, lost: lost.sort(), outbox, watermarks, log };
    });
    const ranks = new Map([...new Set(times)].sort((a, b) => a - b).map((time, at) => [time, at]));
    const ranked = nodes.map(({ rows, tombstones, lost, outbox, watermarks, log }) => [
      rows.map((row) => [...row.slice(0, 4), ranks.get(row[4] as PgTime)]),
      tombstones.map((one) => [...one.slice(0, 2), ranks.get(one[2] as PgTime)].join()).sort(),
      lost,
      outbox.map((one) => [...one.slice(0, 3), ranks.get(one[3] as PgTime)].join()).sort(),
      watermarks.map((time) => ranks.get(time)),
      log.map(({ time, what, readers }) => [ranks.get(time), what, readers]),
    ]);
    return JSON.stringify([this.#done, this.#beats, ranked]);
  }

  /** What a node has written and not everybody has read: with who is still to read it. */
  #unread({ server }: ModelNode): { time: PgTime; what: string; readers: string }[] {
    const readers = this.#nodes.map((node) =>
      node.server.position(node.server === server ? OWN_ORIGIN : originOf(server.index)),
    );
    return server.wal.flatMap(({ origin, changes, time }, at) => {
      if (origin !== 0 || changes.length === 0) return [];
      const left = readers.map((position) => (position > at ? '-' : '+')).join('');
      if (!left.includes('+')) return [];
      return [{ time, what: changes.map(describe).join(), readers: left }];
    });
  }

  /** Lets all that is left happen, and compares. */
  drain(): void {
    for (let round = 0; round < 100; round++) {
      // Lost values wait for heartbeats.
      const isNoted = this.#nodes.some(({ server }) => server.lostValues().length > 0);
      for (const node of isNoted ? this.#nodes : []) this.#beat(node);
      const turns = this.#nodes.flatMap((node) => [
        ...node.links.flatMap((link) => this.#linkTurns(node, link)),
        ...this.#ownTurns(node),
        ...this.#outboxTurns(node),
      ]);
      if (turns.length === 0) return this.world.checks.converged();
      for (const { run } of turns) run();
      for (const { server } of this.#nodes) server.flush();
    }
    throw new Violation('a wait does not end', 'streams are not drained');
  }

  #userTurns({ server: { index } }: ModelNode): Turn[] {
    const half = this.#done[index] ?? 0;
    if (half >= (this.#scope.scripts[index]?.length ?? 0) * 2) return [];
    const turn = (halves: number, name: string): Turn => ({
      name: `${index} ${name}`,
      run: () => {
        this.#done[index] = half + halves;
        this.world.time += 1;
        this.#go(`user ${index}`);
      },
    });
    if (half % 2 === 1) return [turn(1, 'commits')];
    return [
      turn(2, 'writes'),
      ...(this.#scope.heldWhen && index === 0 ? [turn(1, 'takes its time')] : []),
    ];
  }

  #heartbeatTurns(node: ModelNode): Turn[] {
    const { index } = node.server;
    const beats = this.#beats[index] ?? 0;
    if (beats >= this.#scope.heartbeats) return [];
    return [
      {
        name: `${index} beats`,
        run: () => {
          this.#beats[index] = beats + 1;
          this.#beat(node);
        },
      },
    ];
  }

  #beat(node: ModelNode): void {
    const { index } = node.server;
    this.world.time += 1;
    node.isQuiet = false;
    this.#resume(`${index} heartbeat`);
    node.isQuiet = true;
    this.#go(`${index} heartbeat`);
    node.server.flush();
  }

  #linkTurns({ server }: ModelNode, link: ModelLink): Turn[] {
    const { provider, name } = link;
    const origin = originOf(provider.index);
    const position = server.position(origin);
    const again: Turn = { name: `${name} again`, run: () => this.#go(`${name} apply`) };
    const isNoted = server.lostValues().some(({ writer }) => writer === origin);
    if (position >= lastSent(provider, true)) return isNoted ? [again] : [];
    const waiting = provider.wal
      .slice(position)
      .filter(({ origin, changes }) => origin === 0 && changes.length > 0).length;
    const one: Turn = {
      name,
      run: () => {
        this.#resume(`${name} receive`);
        this.#go(`${name} apply`);
      },
    };
    const all: Turn = {
      name: `${name} all`,
      run: () => {
        this.#go(`${name} receive`);
        this.#go(`${name} apply`);
      },
    };
    return [one, ...(waiting > 1 ? [all] : []), ...(isNoted ? [again] : [])];
  }

  #ownTurns({ server }: ModelNode): Turn[] {
    if (server.position(OWN_ORIGIN) >= lastSent(server, true)) return [];
    const { index } = server;
    return [
      {
        name: `${index} own`,
        run: () => {
          this.#go(`${index} own read`);
          this.#go(`${index} own write`);
        },
      },
    ];
  }

  #outboxTurns({ server }: ModelNode): Turn[] {
    if (server.outbox().length === 0) return [];
    const { index } = server;
    return [{ name: `${index} sends`, run: () => this.#go(`${index} outbox`) }];
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

  *#user(node: ModelNode): Steps {
    const { server } = node;
    const { index } = server;
    const session = server.connect(`user ${index}`);
    for (const [number, operation] of (this.#scope.scripts[index] ?? []).entries()) {
      yield { ready: () => (this.#done[index] ?? 0) > number * 2 };
      const transaction = server.begin(session);
      try {
        yield* this.#statement(node, transaction, operation);
      } catch (error) {
        if (error !== UNIQUE_VIOLATION) throw error;
        server.rollback(session);
        continue;
      }
      const isHeld = (this.#done[index] ?? 0) === number * 2 + 1;
      const committing = server.commit(session);
      committing.next();
      if (isHeld && this.#scope.heldWhen === 'written') committing.next();
      if (isHeld) yield { ready: () => (this.#done[index] ?? 0) > number * 2 + 1 };
      yield* committing;
    }
  }

  *#statement({ statements }: ModelNode, transaction: Transaction, operation: Operation): Steps {
    const { index } = statements.server;
    const values = (key: string, row?: Row) => {
      const v = `${index}.${this.#done[index]}`;
      return { key, v, big: row?.big ?? v };
    };
    const log = (change: Change) => transaction.changes.push(change);
    if (operation.kind === 'truncate') {
      yield* statements.truncate(transaction);
      log({ kind: 'truncate', relations: [ITEM], cascade: false, restartIdentity: false });
      return;
    }
    const { kind, key } = operation;
    switch (kind) {
      case 'insert': {
        const row = values(key);
        if (!(yield* statements.insert(transaction, row))) return;
        log({ kind, relation: ITEM, newTuple: tupleOf([key, row.v, row.big]) });
        return;
      }
      case 'take': {
        const row = { ...values(key), v: operation.v };
        const tuple = tupleOf([key, row.v, row.big]);
        if (yield* statements.insert(transaction, row)) {
          log({ kind: 'insert', relation: ITEM, newTuple: tuple });
        } else if (yield* statements.update(transaction, key, () => row)) {
          log({
            kind: 'update',
            relation: ITEM,
            oldTuple: null,
            oldTupleIsKey: false,
            newTuple: tuple,
          });
        }
        return;
      }
      case 'update': {
        const row = values(key);
        if (!(yield* statements.update(transaction, key, () => row))) return;
        const newTuple = tupleOf([key, row.v, row.big]);
        log({ kind, relation: ITEM, oldTuple: null, oldTupleIsKey: false, newTuple });
        return;
      }
      case 'touch': {
        const change = (row: Row) => values(key, row);
        if (!(yield* statements.update(transaction, key, change))) return;
        const newTuple = tupleOf([key, transaction.rows.get(key)?.v ?? null, UNCHANGED]);
        log({ kind: 'update', relation: ITEM, oldTuple: null, oldTupleIsKey: false, newTuple });
        return;
      }
      case 'delete': {
        if (!(yield* statements.delete(transaction, key))) return;
        log({ kind, relation: ITEM, oldTuple: tupleOf([key, null, null]), oldTupleIsKey: true });
        return;
      }
      case 'move': {
        const { to } = operation;
        if (statements.server.latest(to)) return;
        const old = yield* statements.delete(transaction, key);
        if (!old) return;
        const row = values(to, old);
        yield* statements.insertOrFail(transaction, row);
        const [oldTuple, newTuple] = [tupleOf([key, null, null]), tupleOf([to, row.v, UNCHANGED])];
        log({ kind: 'update', relation: ITEM, oldTuple, oldTupleIsKey: true, newTuple });
      }
    }
  }
}
