import type { RowChange, TruncateChange } from '../../../src/pgoutput/transaction.ts';
import type { Tuple } from '../../../src/pgoutput/tuple.ts';
import { tupleOf, UNCHANGED } from '../../../src/pgoutput/tuple-value.ts';
import { ITEM } from '../item-relation.ts';
import type { ModelNode } from './node.ts';
import { LOCK_CONFLICT, type Process, type Steps } from './process.ts';
import { UNIQUE_VIOLATION } from './statements.ts';
import type { ModelSession, Row, Transaction } from './transaction.ts';
import type { World } from './world.ts';
import { hasUniqueIndex } from './switches.ts';

/** What users do in a run. */
export interface Workload {
  readonly keys: number;
  /** Transactions of each session. */
  readonly transactions: number;
  readonly mostStatements: number;
  readonly hasKeyChanges: boolean;
  readonly hasTruncates: boolean;
  readonly hasUnchangedToast: boolean;
  /** So many values of the unique index, where the world has one. */
  readonly values: number;
  /** Commits do not wait for the disk. */
  readonly asynchronous: number;
  /** So long a user pauses at the most. */
  readonly mostPause: number;
}

/** One user's session on a node. */
export class User {
  readonly #world: World;
  readonly #node: ModelNode;
  readonly #workload: Workload;
  readonly #name: string;
  #left: number;
  #written = 0;
  #process: Process | undefined;

  constructor(world: World, node: ModelNode, workload: Workload, number: number) {
    this.#world = world;
    this.#node = node;
    this.#workload = workload;
    this.#name = `${node.server.index}.${number}`;
    this.#left = workload.transactions;
  }

  get isDone(): boolean {
    return this.#process?.ended === true;
  }

  start(): void {
    this.#process = this.#world.scheduler.spawn(`user ${this.#name}`, this.#run());
  }

  /** Writes nothing more. */
  finish(): void {
    this.#left = 0;
  }

  /** The server is gone. */
  lose(): void {
    if (!this.#process) return;
    this.#world.scheduler.kill(this.#process);
    this.start();
  }

  *#run(): Steps {
    const { random } = this.#world;
    const { server } = this.#node;
    const session = server.connect(`user ${this.#name}`);
    while (this.#left > 0) {
      const until = this.#world.time + random.below(this.#workload.mostPause);
      yield { ready: () => this.#world.time >= until };
      this.#left -= 1;
      try {
        yield* this.#transaction(session);
      } catch (error) {
        if (error !== LOCK_CONFLICT && error !== UNIQUE_VIOLATION) throw error;
        server.rollback(session);
      }
    }
    server.close(session);
  }

  *#transaction(session: ModelSession): Steps {
    const { random } = this.#world;
    const { server } = this.#node;
    const transaction = server.begin(session);
    const statements = 1 + random.below(this.#workload.mostStatements);
    for (let i = 0; i < statements; i++) {
      yield* this.#statement(transaction);
      yield undefined;
    }
    if (random.chance(0.05)) return server.rollback(session);
    yield* server.commit(session, !random.chance(this.#workload.asynchronous));
  }

  *#statement(transaction: Transaction): Steps {
    const { random } = this.#world;
    const { hasKeyChanges, hasTruncates } = this.#workload;
    const key = this.#key();
    const kind = random.below(20);
    if (kind < 6) return yield* this.#insert(transaction, key);
    if (kind < 11) return yield* this.#delete(transaction, key);
    if (kind < 13 && hasKeyChanges) return yield* this.#update(transaction, key, this.#key());
    if (kind === 13 && hasTruncates && random.chance(this.#world.switches.join ? 1 : 0.3)) {
      return yield* this.#truncate(transaction);
    }
    yield* this.#update(transaction, key, key);
  }

  *#insert(transaction: Transaction, key: string): Steps {
    const values = { key, v: this.#v(), big: this.#value() };
    if (!(yield* this.#node.statements.insert(transaction, values))) return;
    const newTuple = tupleOf([key, values.v, values.big]);
    this.#log(transaction, { kind: 'insert', relation: ITEM, newTuple });
  }

  *#delete(transaction: Transaction, key: string): Steps {
    const row = yield* this.#node.statements.delete(transaction, key);
    if (!row) return;
    this.#log(transaction, { kind: 'delete', relation: ITEM, ...this.#old(row) });
  }

  /** UPDATE, with another key perhaps. */
  *#update(transaction: Transaction, key: string, to: string): Steps {
    const { statements } = this.#node;
    const v = this.#v();
    let isUnchanged = false;
    const change = (row: Row) => {
      isUnchanged = this.#workload.hasUnchangedToast && !this.#world.random.chance(0.5);
      return { key: to, v: this.#changed(v, row.v), big: isUnchanged ? row.big : this.#value() };
    };
    let row: Row | undefined;
    if (to === key) row = yield* statements.update(transaction, key, change);
    else {
      row = yield* statements.delete(transaction, key);
      if (row) yield* statements.insertOrFail(transaction, change(row));
    }
    if (!row) return;
    const written = transaction.rows.get(to);
    this.#log(transaction, {
      kind: 'update',
      relation: ITEM,
      ...(to === key && !this.#world.policy
        ? { oldTuple: null, oldTupleIsKey: false }
        : this.#old(row)),
      newTuple: tupleOf([to, written?.v ?? null, isUnchanged ? UNCHANGED : (written?.big ?? null)]),
    });
  }

  /** What is logged of an old row: its key; with a policy all of it (REPLICA IDENTITY FULL). */
  #old({ key, v, big }: Row): { readonly oldTuple: Tuple; readonly oldTupleIsKey: boolean } {
    return this.#world.policy
      ? { oldTuple: tupleOf([key, v, big]), oldTupleIsKey: false }
      : { oldTuple: tupleOf([key, null, null]), oldTupleIsKey: true };
  }

  *#truncate(transaction: Transaction): Steps {
    yield* this.#node.statements.truncate(transaction);
    const relations = [ITEM];
    this.#log(transaction, { kind: 'truncate', relations, cascade: false, restartIdentity: false });
  }

  #log(transaction: Transaction, change: RowChange | TruncateChange): void {
    transaction.changes.push(change);
  }

  #key(): string {
    return `k${this.#world.random.below(this.#workload.keys)}`;
  }

  /** Mostly one that another row has had, where it must be unique. */
  #v(): string {
    const { random, switches } = this.#world;
    const { values } = this.#workload;
    if (!hasUniqueIndex(switches)) return this.#value();
    const v = `v${random.below(values)}`;
    return switches.uniques ? `${v} ${random.below(values)}` : v;
  }

  /** An update may leave one of two values alone. */
  #changed(v: string, old: string): string {
    const { random, switches } = this.#world;
    if (!switches.uniques || random.chance(0.5)) return v;
    const [halves, oldHalves] = [v.split(' '), old.split(' ')];
    return [halves[0], oldHalves[1]].join(' ');
  }

  /** Each is written once. */
  #value(): string {
    this.#written += 1;
    return `${this.#name}.${this.#written}`;
  }
}
