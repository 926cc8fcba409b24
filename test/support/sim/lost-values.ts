import type { Lsn } from '../../../src/base/lsn.ts';
import { LONG_AGO, type PgTime } from '../../../src/base/pg-time.ts';
import { sameNode } from '../../../src/model/node.ts';
import { LOCK_CONFLICT, type Steps } from './process.ts';
import type { ModelServer } from './server.ts';
import type { Statements } from './statements.ts';
import type { LostValue, ModelSession, Row, Transaction } from './transaction.ts';
import { originOf, type World } from './world.ts';

/** src/apply/lost-values.ts: rows of the provider to which something lost are read again, between the link's transactions. */
export class ModelLostValues {
  readonly #world: World;
  readonly #statements: Statements;
  readonly #session: ModelSession;
  readonly #provider: ModelServer;
  readonly #watermark: () => PgTime;
  readonly #readFromProvider: (key: string) => Steps<Row | undefined>;

  constructor(options: {
    world: World;
    statements: Statements;
    session: ModelSession;
    provider: ModelServer;
    watermark: () => PgTime;
    readFromProvider: (key: string) => Steps<Row | undefined>;
  }) {
    this.#world = options.world;
    this.#statements = options.statements;
    this.#session = options.session;
    this.#provider = options.provider;
    this.#watermark = options.watermark;
    this.#readFromProvider = options.readFromProvider;
  }

  /** Whether there is one that need not wait: settle() finds that out by itself. */
  get isDue(): boolean {
    return this.#noted().some(({ key }) => !this.#isTooNew(this.#statements.server.latest(key)));
  }

  /** settle(): those that a lock is in the way of stay noted. */
  *settle(): Steps {
    const noted = this.#noted();
    const there: (Row | undefined)[] = [];
    for (const { key } of noted) there.push(yield* this.#readFromProvider(key));
    for (const [index, note] of noted.entries()) {
      try {
        yield* this.#settleOne(note, there[index]);
      } catch (error) {
        this.#statements.server.rollback(this.#session);
        if (error !== LOCK_CONFLICT) throw error;
        return;
      }
      yield undefined;
    }
  }

  #noted(): LostValue[] {
    const { server } = this.#statements;
    const origin = originOf(this.#provider.index);
    return server.lostValues().filter(({ writer }) => writer === origin);
  }

  /** The provider may not show it yet: then it would be read as it was before. */
  #isTooNew(row: Row | undefined): boolean {
    if (this.#world.has('lost values read before their commits are seen')) return false;
    const time = row && this.#timeOf(undefined, row);
    return time !== undefined && time > this.#watermark();
  }

  /** #timeOf(): of the row's version, where it is the provider's. */
  #timeOf(transaction: Transaction | undefined, found: Row): PgTime | undefined {
    const row = this.#statements.localRow(transaction, found, LONG_AGO);
    if (row.kind !== 'versioned') return undefined;
    return sameNode(row.version.writer.id, this.#provider.writer.id) ? row.version.time : undefined;
  }

  *#settleOne(note: LostValue, there: Row | undefined): Steps {
    const statements = this.#statements;
    const { server } = statements;
    const transaction = server.begin(this.#session);
    yield* statements.lockGate(transaction, 'shared');
    yield undefined;
    const row = yield* statements.find(transaction, note.key);
    yield undefined;
    if (this.#isTooNew(row)) return server.rollback(this.#session);
    let time = server.clock();
    const rowTime = row && this.#timeOf(transaction, row);
    if (row && rowTime !== undefined) {
      if (!this.#world.has('lost values are a new version')) time = rowTime;
      const { key, v } = row;
      if (there) yield* statements.update(transaction, key, () => ({ key, v, big: there.big }));
      yield undefined;
    }
    transaction.settled.push(note);
    server.xidOf(transaction);
    // Its version stays what it is, and so does the link's position.
    this.#session.setup = { position: 0 as Lsn, time };
    yield* server.commit(this.#session);
  }
}
