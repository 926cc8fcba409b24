import type { Lsn } from '../../../src/base/lsn.ts';
import { LOCK_CONFLICT, type Steps } from './process.ts';
import type { ModelServer } from './server.ts';
import type { Statements } from './statements.ts';
import type { LostTo, ModelSession, Row } from './transaction.ts';
import { originOf, type World } from './world.ts';

/**
 * The second half of rule 9 (DESIGN 4.2), between a link's transactions: where a change has lost to a row that the provider wrote, the
 * row may hold a long value from before that change. The provider knows.
 */
export class ModelReadAgain {
  readonly #world: World;
  readonly #statements: Statements;
  readonly #session: ModelSession;
  readonly #provider: ModelServer;
  readonly #origin: number;
  readonly #readFromProvider: (key: string) => Steps<Row | undefined>;

  constructor(options: {
    world: World;
    statements: Statements;
    session: ModelSession;
    provider: ModelServer;
    readFromProvider: (key: string) => Steps<Row | undefined>;
  }) {
    this.#world = options.world;
    this.#statements = options.statements;
    this.#session = options.session;
    this.#provider = options.provider;
    this.#origin = originOf(options.provider.index);
    this.#readFromProvider = options.readFromProvider;
  }

  /** What the provider does not show yet could be read as it was before: the link goes on meanwhile. */
  get isDue(): boolean {
    return this.#noted().length > 0 && this.#isShown();
  }

  *run(): Steps {
    if (!this.#isShown()) return;
    for (const one of this.#noted()) {
      yield* this.#untilDone(one);
      yield undefined;
    }
  }

  #noted(): LostTo[] {
    const { server } = this.#statements;
    return server.toReadAgain().filter(({ writer }) => writer === this.#origin);
  }

  /** Whether the provider shows all of its transactions that are applied here: isSeen() in src/postgres/snapshot-shows.ts. */
  #isShown(): boolean {
    if (this.#world.has('read again before commits are seen')) return true;
    return this.#provider.showsUpTo(this.#statements.server.position(this.#origin));
  }

  *#untilDone(one: LostTo): Steps {
    for (;;) {
      try {
        return yield* this.#readAgain(one);
      } catch (error) {
        this.#statements.server.rollback(this.#session);
        if (error !== LOCK_CONFLICT) throw error;
      }
      yield undefined;
    }
  }

  /** The row keeps its version: it is the same row, as it should have come. LSN 0/0 leaves the link's position alone. */
  *#readAgain(one: LostTo): Steps {
    const statements = this.#statements;
    const { server } = statements;
    const transaction = server.begin(this.#session);
    yield* statements.lockGate(transaction, 'shared');
    yield undefined;
    const row = yield* statements.find(transaction, one.key);
    yield undefined;
    let time = server.clock();
    if (row?.origin === this.#origin) {
      if (!this.#world.has('read again as a new version')) time = row.time;
      const there = yield* this.#readFromProvider(one.key);
      if (there) {
        const { key, v } = row;
        yield* statements.update(transaction, key, () => ({ key, v, big: there.big }));
        yield undefined;
      }
    }
    transaction.readAgain.push(one);
    server.xidOf(transaction);
    this.#session.setup = { position: 0 as Lsn, time };
    yield* server.commit(this.#session);
  }
}
