import { LONG_AGO, type PgTime } from '../../../src/base/pg-time.ts';
import { answerTo, deathOf, losesTo, type Death } from '../../../src/conflict/unique.ts';
import type { Version } from '../../../src/conflict/version.ts';
import { LOCK_CONFLICT, type Steps } from './process.ts';
import type { Statements, Values } from './statements.ts';
import type { Outgoing, Row, Transaction } from './transaction.ts';
import type { World } from './world.ts';

/** src/apply/unique-losers.ts: who loses a value of the unique index, by the real rules, and what is told of it. */
export class ModelLosers {
  readonly #world: World;
  readonly #statements: Statements;
  readonly #seenUpTo: () => PgTime;
  /** What this transaction asks for because its own row lost: it may bring a later one that does not. */
  #asked = new Map<string, Outgoing>();

  constructor(options: { world: World; statements: Statements; seenUpTo: () => PgTime }) {
    this.#world = options.world;
    this.#statements = options.statements;
    this.#seenUpTo = options.seenUpTo;
  }

  begin(): void {
    this.#asked = new Map();
  }

  /** makeRoom() */
  *makeRoom(
    transaction: Transaction,
    values: Values,
    found: Row | undefined,
    remote: Version,
  ): Steps<boolean> {
    const statements = this.#statements;
    const { key } = values;
    const rivals = yield* statements.rivals(transaction, values);
    yield undefined;
    const loses = rivals.some((one) =>
      losesTo(remote, statements.localRow(transaction, one, remote.time)),
    );
    if (loses) {
      if (this.#world.has('who loses in one index wins in the other')) {
        const smaller = rivals.filter(
          (one) => !losesTo(remote, statements.localRow(transaction, one, remote.time)),
        );
        for (const rival of smaller) yield* this.#remove(transaction, rival, key, remote);
      }
      if (found && !this.#world.has('older row under the key of a unique loser stays')) {
        yield* statements.delete(transaction, key);
        yield undefined;
      }
      transaction.inHistory.push({ ...remote, key });
      this.#world.checks.lost({ ...valuesOf(remote, this.#world, values), key });
      statements.remember(transaction, key, this.#timeOf(remote), remote.writer);
      this.#tell(transaction, key, { kind: 'ask', version: remote }, true);
      yield undefined;
      return false;
    }
    for (const rival of rivals) yield* this.#remove(transaction, rival, key, remote);
    const asked = this.#asked.get(key);
    if (asked) {
      transaction.outgoing.splice(transaction.outgoing.indexOf(asked), 1);
      this.#asked.delete(key);
    }
    return true;
  }

  /** For the row that is to be written under `key`. */
  *#remove(transaction: Transaction, rival: Row, key: string, remote: Version): Steps {
    transaction.roomFor.add(key);
    const statements = this.#statements;
    const row = statements.localRow(transaction, rival, remote.time);
    const death = deathOf(row, statements.server.writer, this.#seenUpTo());
    if (!death) throw new Error('a row of this very transaction has the value');
    transaction.inHistory.push({ row: rival });
    this.#world.checks.lost(rival);
    yield* this.#bury(transaction, rival, death);
  }

  /** follow(): an ask. */
  *follow(transaction: Transaction, key: string, asked: Version): Steps {
    const statements = this.#statements;
    const { server } = statements;
    const { writer } = server;
    const mayBeUnseen = asked.writer === writer && server.hasUnseenCommit(asked.time);
    if (mayBeUnseen && !this.#world.has('asks are followed before their rows are seen')) {
      throw LOCK_CONFLICT;
    }
    const found = yield* statements.find(transaction, key);
    yield undefined;
    const row = found && statements.localRow(transaction, found, asked.time);
    const answer = answerTo(asked, row, writer, this.#seenUpTo());
    const death = this.#world.has('asked rows are killed whatever their version')
      ? row && deathOf(row, writer, this.#seenUpTo())
      : answer;
    if (found && answer) this.#world.checks.lost(found);
    if (found && death) transaction.inHistory.push({ row: found });
    if (found && death?.kind === 'kill') yield* this.#bury(transaction, found, death);
  }

  *#bury(transaction: Transaction, row: Row, death: Death): Steps {
    const statements = this.#statements;
    yield* statements.delete(transaction, row.key);
    yield undefined;
    const { version } = death;
    statements.remember(transaction, row.key, this.#timeOf(version), version.writer);
    this.#tell(transaction, row.key, death, false);
    yield undefined;
  }

  /** Of the mutant. */
  answerKill(transaction: Transaction, row: Row): void {
    const local = this.#statements.localRow(transaction, row, LONG_AGO);
    if (local.kind !== 'versioned') return;
    transaction.outgoing.push({ key: row.key, kind: 'kill', version: local.version });
  }

  #timeOf({ time }: Version): PgTime {
    const isNow = this.#world.has('tombstone of a unique loser is of now');
    return isNow ? this.#statements.server.clock() : time;
  }

  #tell(transaction: Transaction, key: string, death: Death, isOwn: boolean): void {
    if (this.#world.has('unique losers are removed here only')) return;
    const kind = this.#world.has('finder kills itself') ? 'kill' : death.kind;
    const outgoing: Outgoing = { key, kind, version: death.version };
    transaction.outgoing.push(outgoing);
    if (isOwn) this.#asked.set(key, outgoing);
  }
}

/** The row as its writer wrote it, for the checks: the model's change does not say which `big` it has. */
function valuesOf({ time, writer }: Version, world: World, { key, v }: Values): Row {
  const server = world.servers.find((one) => one.writer === writer);
  const record = server?.wal.find((one) => one.origin === 0 && one.time === time);
  const row = record?.rows.get(key);
  return row ?? { key, v, big: '', chain: 0, time, origin: 0, xid: 0 };
}
