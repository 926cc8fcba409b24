import type { Lsn } from '../../../src/base/lsn.ts';
import { LONG_AGO, type PgTime } from '../../../src/base/pg-time.ts';
import type { RowValues } from '../../../src/apply/row-values.ts';
import type { ChangeContext } from '../../../src/apply/change-context.ts';
import type { ChangeKind, Decision } from '../../../src/conflict/decide.ts';
import { keepsLost } from '../../../src/conflict/policy.ts';
import type { Version } from '../../../src/conflict/version.ts';
import { sameNode } from '../../../src/model/node.ts';
import { tupleOf } from '../../../src/pgoutput/tuple-value.ts';
import { ITEM } from '../item-relation.ts';
import { nameOfNode } from './policy.ts';
import { LOCK_CONFLICT, type Steps } from './process.ts';
import type { ModelServer } from './server.ts';
import { UNIQUE_VIOLATION, type Statements, type Values } from './statements.ts';
import type { LostWrite, ModelSession, Row, Transaction } from './transaction.ts';
import { originOf, type World } from './world.ts';

/** A change that has met a row, or none. */
interface Met {
  readonly kind: ChangeKind;
  readonly old: RowValues;
  readonly found: Row | undefined;
  readonly tombstone: Version | undefined;
  readonly context: ChangeContext;
}

/** src/apply/lost-write-notes.ts */
export class ModelLostWriteNotes {
  readonly #world: World;
  readonly #statements: Statements;
  readonly #provider: ModelServer;

  constructor(world: World, statements: Statements, provider: ModelServer) {
    this.#world = world;
    this.#statements = statements;
    this.#provider = provider;
  }

  /** judged() */
  judged(decision: Decision, found: Row | undefined, brought: RowValues | undefined): Decision {
    const { policy } = this.#world;
    const { action, conflict } = decision;
    if (!policy || !conflict || !found || action === 'skip' || !brought) return decision;
    if (policy.mutant === 'by heartbeats alone') return decision;
    const holds = brought[0] === found.key && brought[1] === found.v && brought[2] === found.big;
    return holds ? { action } : decision;
  }

  /** noteRow() */
  noteRow(transaction: Transaction, decision: Decision, met: Met): void {
    const { found } = met;
    if (!found || decision.action === 'skip') return;
    if (this.#statements.isOwn(transaction, found) || found.origin !== 0) return;
    const { key, v, big, time } = found;
    this.#add(transaction, decision, met, { row: { key, v, big }, localTime: time });
  }

  /** noteDeletion(), where the row was inserted */
  noteDeletion(transaction: Transaction, decision: Decision, met: Met): void {
    const { tombstone } = met;
    if (tombstone && !sameNode(tombstone.writer.id, this.#statements.server.writer.id)) return;
    this.#add(transaction, decision, met, { row: undefined, localTime: undefined });
  }

  #add(
    transaction: Transaction,
    { conflict }: Decision,
    { kind, old, context }: Met,
    local: Pick<LostWrite, 'row' | 'localTime'>,
  ): void {
    const { policy } = this.#world;
    if (!policy || !conflict || policy.mutant === 'decided where the change is applied') return;
    const { server } = this.#statements;
    transaction.lostWrites.push({
      ...local,
      key: String(old[0]),
      provider: this.#provider.index,
      kind,
      notedAt: server.clock(),
      time: context.commitTime,
      lsn: context.commitLsn,
      seenUpTo: context.seen.upTo(server.writer.id),
      stampedAt: LONG_AGO,
    });
    server.xidOf(transaction);
  }
}

/** What stands, and what is to be there instead. */
interface Outcome {
  readonly found: Row | undefined;
  readonly row: Values | undefined;
  readonly lostAt: PgTime;
}

/** src/apply/lost-writes.ts: what was noted is held against the policy, between the link's transactions. */
export class ModelLostWrites {
  readonly #world: World;
  readonly #statements: Statements;
  readonly #provider: ModelServer;
  readonly #ownWatermark: () => PgTime;
  /** It has no origin: what it writes is sent. */
  readonly session: ModelSession;
  #merges = 0;

  constructor(options: {
    world: World;
    statements: Statements;
    provider: ModelServer;
    ownWatermark: () => PgTime;
  }) {
    this.#world = options.world;
    this.#statements = options.statements;
    this.#provider = options.provider;
    this.#ownWatermark = options.ownWatermark;
    const { server } = options.statements;
    this.session = server.connect(`policy of ${options.provider.index}->${server.index}`);
  }

  get isDue(): boolean {
    const known = this.#ownWatermark();
    return this.#noted().some(({ row, notedAt }) => row || known >= notedAt);
  }

  /** settle() */
  *settle(): Steps {
    for (const note of this.#noted()) {
      try {
        yield* this.#settleOne(note);
      } catch (error) {
        this.#statements.server.rollback(this.session);
        // What the real one does about it is to end the link.
        if (error !== LOCK_CONFLICT && error !== UNIQUE_VIOLATION) throw error;
      }
      yield undefined;
    }
  }

  #noted(): LostWrite[] {
    const { index } = this.#provider;
    return this.#statements.server.lostWrites().filter(({ provider }) => provider === index);
  }

  *#settleOne(note: LostWrite): Steps {
    const statements = this.#statements;
    const { server } = statements;
    const transaction = server.begin(this.session);
    yield* statements.lockGate(transaction, 'shared');
    yield undefined;
    if (!(yield* this.#forget(transaction, note))) return server.rollback(this.session);
    if (this.#world.policy?.mutant === 'note taken away before the row is written') {
      yield* server.commit(this.session);
      server.begin(this.session);
    }
    const outcome = yield* this.#outcome(transaction, note);
    if (outcome === 'wait') return server.rollback(this.session);
    if (outcome) {
      this.#check(note, outcome.lostAt);
      yield* this.#write(this.session.transaction ?? transaction, outcome, note.key);
    }
    yield undefined;
    yield* server.commit(this.session);
  }

  /** forgetLostWrite(): DELETE, which waits for whoever deletes it too. */
  *#forget(transaction: Transaction, note: LostWrite): Steps<boolean> {
    const { server } = this.#statements;
    const other = [...server.open].find(
      (one) => one !== transaction && one.settledWrites.includes(note),
    );
    if (other) yield { ready: () => other.phase === 'ended', isLock: true };
    if (!server.lostWrites().includes(note)) return false;
    transaction.settledWrites.push(note);
    server.xidOf(transaction);
    return true;
  }

  /** caseOf() and outcome() */
  *#outcome(opened: Transaction, note: LostWrite): Steps<Outcome | 'wait' | undefined> {
    const statements = this.#statements;
    const { server } = statements;
    const transaction = this.session.transaction ?? opened;
    const found = yield* statements.find(transaction, note.key);
    yield undefined;
    const isAsItCame =
      this.#world.policy?.mutant === 'whatever stands by then' ||
      (found?.origin === originOf(this.#provider.index) && found.time === note.stampedAt);
    let lostAt = note.localTime;
    if (note.row) {
      const tombstone = statements.tombstoneOf(transaction, note.key);
      yield undefined;
      const isStillGone =
        tombstone?.time === note.time && sameNode(tombstone.writer.id, this.#provider.writer.id);
      if (!(found ? isAsItCame : isStillGone)) return undefined;
    } else {
      if (!found || !isAsItCame) return undefined;
      if (this.#ownWatermark() < note.notedAt) return 'wait';
      yield undefined;
      const tombstone = statements.tombstoneOf(transaction, note.key);
      yield undefined;
      const isOurs = tombstone && sameNode(tombstone.writer.id, server.writer.id);
      if (!isOurs || tombstone.time <= note.seenUpTo) return undefined;
      lostAt = tombstone.time;
    }
    return this.#asked(found, note.row, lostAt ?? LONG_AGO);
  }

  #asked(found: Row | undefined, lost: Values | undefined, lostAt: PgTime): Outcome | undefined {
    const policy = this.#world.policy?.policy;
    if (!policy || (!found && !lost)) return undefined;
    if (policy.name === 'handler') {
      // A handler that never says the same twice.
      if (!found || !lost) return undefined;
      this.#merges += 1;
      const v = `${this.session.name} merge ${this.#merges}`;
      return { found, row: { ...lost, v }, lostAt };
    }
    const isKept = keepsLost(
      policy,
      { node: nameOfNode(this.#statements.server.index), isDeletion: !lost },
      { node: nameOfNode(this.#provider.index), isDeletion: !found },
    );
    return isKept ? { found, row: lost, lostAt } : undefined;
  }

  *#write(transaction: Transaction, { found, row }: Outcome, key: string): Steps {
    const statements = this.#statements;
    const oldTuple = found && tupleOf([key, found.v, found.big]);
    if (!row) {
      yield* statements.delete(transaction, key);
      if (!oldTuple) return;
      const change = { kind: 'delete', relation: ITEM, oldTuple, oldTupleIsKey: false } as const;
      transaction.changes.push(change);
      return;
    }
    const newTuple = tupleOf([row.key, row.v, row.big]);
    if (!oldTuple) {
      yield* statements.insertOrFail(transaction, row);
      transaction.changes.push({ kind: 'insert', relation: ITEM, newTuple });
      return;
    }
    yield* statements.update(transaction, key, () => row);
    transaction.changes.push({
      kind: 'update',
      relation: ITEM,
      oldTuple,
      oldTupleIsKey: false,
      newTuple,
    });
  }

  /** With two nodes it is certain what who knew. */
  #check({ lsn }: LostWrite, lostAt: PgTime): void {
    if (this.#world.servers.length > 2) return;
    const { server } = this.#statements;
    this.#world.checks.unknown(server, this.#provider, lsn as Lsn, lostAt);
  }
}
