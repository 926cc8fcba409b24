import { tupleOf, UNCHANGED } from '../../../src/pgoutput/tuple-value.ts';
import { ITEM } from '../item-relation.ts';
import { LOCK_CONFLICT, type Steps } from './process.ts';
import type { ModelServer } from './server.ts';
import type { Statements } from './statements.ts';
import type { ModelSession, OpenAsk, Outgoing, Transaction } from './transaction.ts';
import { DEATHS, type World } from './world.ts';

/** src/apply/outbox-sender.ts: sends what apply has put into the outbox, in transactions of the node's own. */
export class ModelOutbox {
  readonly #world: World;
  readonly #statements: Statements;
  readonly #server: ModelServer;
  readonly #session: ModelSession;

  constructor(world: World, statements: Statements, session: ModelSession) {
    this.#world = world;
    this.#statements = statements;
    this.#server = statements.server;
    this.#session = session;
  }

  *run(): Steps {
    for (;;) {
      yield {
        ready: () => this.#server.outbox().length > 0 || this.#asksToParted().length > 0,
      };
      for (const ask of this.#asksToParted()) yield* this.#untilDone(() => this.#answer(ask));
      const all = [...this.#server.outbox()];
      yield* this.#send(all);
      yield undefined;
      // Whose record may lie before the kills and is not seen yet.
      const open = [...this.#server.open];
      yield { ready: () => open.every(({ phase }) => phase === 'ended') };
      for (const one of all) {
        if (one.kind === 'kill') yield* this.#untilDone(() => this.#lookAfter(one));
      }
    }
  }

  /** What was sent before a crash of the agent is sent again: that changes nothing. */
  *#send(all: readonly Outgoing[]): Steps {
    const transaction = this.#server.begin(this.#session);
    this.#server.xidOf(transaction);
    yield undefined;
    for (const one of all) {
      const { kind, key, version, isSent } = one;
      if (isSent) continue;
      if (kind === 'kill' && this.#world.has('replicated delete instead of kill')) {
        const oldTuple = tupleOf([key, null, null]);
        transaction.changes.push({ kind: 'delete', relation: ITEM, oldTuple, oldTupleIsKey: true });
      } else this.#tell(transaction, one);
      if (kind !== 'ask') continue;
      transaction.sent.push(one);
      transaction.asked.push({ key, writer: version.writer, askedAt: this.#server.clock() });
    }
    yield undefined;
    yield* this.#server.commit(this.#session);
  }

  #tell(transaction: Transaction, { kind, key, version }: Outgoing): void {
    const writer = this.#world.servers.findIndex((server) => server.writer === version.writer);
    const newTuple = tupleOf([kind, key, String(version.time), String(writer)]);
    transaction.changes.push({ kind: 'insert', relation: DEATHS, newTuple });
  }

  /** readAsksToParted() */
  #asksToParted(): readonly OpenAsk[] {
    if (this.#world.has('asks to a parted node are left open')) return [];
    const { statuses } = this.#server;
    return this.#server
      .openAsks()
      .filter(({ writer }) =>
        this.#world.servers.some((one) => one.writer === writer && statuses.get(one.index) === 'k'),
      );
  }

  /** answer(): in the stead of a parted node, by a deletion of now; not where there is another row by then. */
  *#answer(ask: OpenAsk): Steps {
    const server = this.#server;
    const { key } = ask;
    const transaction = server.begin(this.#session);
    yield* this.#statements.lockGate(transaction, 'exclusive');
    yield undefined;
    transaction.answered.push(ask);
    server.xidOf(transaction);
    yield undefined;
    if (!server.visible(transaction, key, server.seen)) {
      yield undefined;
      // commitKeysAgain(): one message to the server, so that no other time is told between.
      const version = { time: server.clock(), writer: server.writer };
      const death = { kind: 'kill', key, version, isSent: true } as const;
      this.#statements.remember(transaction, key, version.time, version.writer);
      transaction.outgoing.push(death);
      this.#tell(transaction, death);
    }
    yield* server.commit(this.#session);
  }

  /** A row that was written under the key before the kill was sent is taken by it elsewhere: it is written again. */
  *#lookAfter(one: Outgoing): Steps {
    const statements = this.#statements;
    const transaction = this.#server.begin(this.#session);
    transaction.sent.push(one);
    this.#server.xidOf(transaction);
    yield undefined;
    const { key } = one;
    if (!this.#world.has('rows written again before a kill is sent are forgotten')) {
      const isOwn = (row: { readonly origin: number }) => row.origin === 0;
      const row = yield* statements.update(transaction, key, (old) => old, isOwn);
      yield undefined;
      if (row) {
        const newTuple = tupleOf([key, row.v, UNCHANGED]);
        transaction.changes.push({
          kind: 'update',
          relation: ITEM,
          oldTuple: null,
          oldTupleIsKey: false,
          newTuple,
        });
      }
    }
    yield* this.#server.commit(this.#session, true);
  }

  *#untilDone(step: () => Steps): Steps {
    for (;;) {
      try {
        return yield* step();
      } catch (error) {
        this.#server.rollback(this.#session);
        if (error !== LOCK_CONFLICT) throw error;
      }
      yield undefined;
    }
  }
}
