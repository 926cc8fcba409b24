import { must } from '../../../src/base/assert.ts';
import type { Lsn } from '../../../src/base/lsn.ts';
import { LONG_AGO, type PgTime } from '../../../src/base/pg-time.ts';
import { OwnBatch } from '../../../src/apply/own-batch.ts';
import { filledFrom, readValues } from '../../../src/apply/row-values.ts';
import { sameKey } from '../../../src/apply/table.ts';
import { compareVersions, type Version } from '../../../src/conflict/version.ts';
import { sameNode } from '../../../src/model/node.ts';
import { Watermark, type Heartbeat } from '../../../src/receive/watermark.ts';
import { keyIn } from './change-writer.ts';
import { heartbeatIn } from './heartbeat.ts';
import type { ModelNode } from './node.ts';
import { LOCK_CONFLICT, type Process, type Steps } from './process.ts';
import type { Statements } from './statements.ts';
import type { ModelSession, Transaction, WalRecord } from './transaction.ts';
import { dawdle, OWN_ORIGIN, TABLE, type World } from './world.ts';

/** A key with the commit time of what a user of this node did to it. */
interface TimedKey {
  readonly time: PgTime;
  readonly key: string;
}

/** What a batch asks for; OwnWriter.#workOn(). */
interface Work {
  readonly deleted: readonly TimedKey[];
  readonly truncatedAt: PgTime | undefined;
}

/** src/node/own-stream.ts and src/apply/own-writer.ts; what users did is gathered by the real OwnBatch. */
export class ModelOwnStream {
  readonly #world: World;
  readonly #node: ModelNode;
  readonly #statements: Statements;
  /** What others know of `#reached`. */
  watermark: { readonly time: PgTime } = { time: LONG_AGO };
  #reached = new Watermark();
  /** Deletions of others up to here have been looked after; DeletedElsewhere. */
  #lookedUpTo: PgTime = LONG_AGO;
  greatestApplied: PgTime = LONG_AGO;
  #processes: Process[] = [];
  #session: ModelSession | undefined;
  #batch = new OwnBatch();
  #heartbeats: Heartbeat[] = [];
  #end: Lsn | undefined;
  /** The greatest time in the batch. */
  #latest: PgTime = LONG_AGO;

  readonly #lag: number;

  constructor(world: World, node: ModelNode) {
    this.#lag = world.random.pick([0, 0, 30, 200]);
    this.#world = world;
    this.#node = node;
    this.#statements = node.statements;
  }

  start(): void {
    this.#spawn('write', this.#run());
  }

  abandon(): void {
    for (const process of this.#processes) this.#world.scheduler.kill(process);
    this.#processes = [];
    this.watermark = { time: LONG_AGO };
    this.#reached = new Watermark();
    this.#lookedUpTo = LONG_AGO;
    this.greatestApplied = LONG_AGO;
    if (this.#session) this.#node.server.abandon(this.#session);
    this.#session = undefined;
  }

  #spawn(task: string, steps: Steps): void {
    const name = `${this.#node.server.index} own ${task}`;
    this.#processes.push(this.#world.scheduler.spawn(name, steps));
  }

  *#run(): Steps {
    const { server } = this.#node;
    yield { ready: () => server.isFree(OWN_ORIGIN) };
    const session = server.connect('own', OWN_ORIGIN, true);
    this.#session = session;
    yield undefined;
    server.flush();
    const progress = server.position(OWN_ORIGIN);
    this.#batch = new OwnBatch();
    this.#heartbeats = [];
    this.#end = undefined;
    this.#spawn('read', this.#read(progress));
    for (;;) {
      yield { ready: () => this.#end !== undefined };
      yield* dawdle(this.#world, 0.3, this.#lag);
      const batch = this.#batch;
      const heartbeats = this.#heartbeats;
      const end = must<Lsn>(this.#end, 'end');
      const latest = this.#latest;
      this.#batch = new OwnBatch();
      this.#heartbeats = [];
      this.#end = undefined;
      yield* this.#write(session, batch, end);
      if (latest > this.greatestApplied) this.greatestApplied = latest;
      for (const heartbeat of heartbeats) this.#reached.handled(heartbeat);
      const { time } = this.#reached;
      const isEarly = this.#world.has('own watermark before the look below tombstones');
      if (isEarly) this.#publish(time);
      if (time > this.#lookedUpTo) yield* this.#lookBelow(session, time);
      this.#publish(time);
    }
  }

  #publish(time: PgTime): void {
    this.watermark = { time };
    const { server } = this.#node;
    const position = server.position(OWN_ORIGIN);
    this.#world.checks.watermark(`${server.index} own`, this.#node, server, position, time);
  }

  *#read(progress: Lsn): Steps {
    const { server } = this.#node;
    for (let at: number = progress; ; at++) {
      yield { ready: () => server.flushed > at };
      const { origin, changes, time } = server.wal[at] as WalRecord;
      if (origin !== 0) continue;
      for (const change of changes) {
        if (change.kind === 'message') {
          const heartbeat = heartbeatIn(change);
          if (!heartbeat) continue;
          this.#heartbeats.push(heartbeat);
          this.#node.clockWatch.heard(heartbeat);
          this.#node.rewriter.noticed();
        } else this.#batch.add(change, time);
      }
      this.#end = (at + 1) as Lsn;
      if (time > this.#latest) this.#latest = time;
    }
  }

  // OwnWriter ----------------------------------------------------------------------------------------------------------

  /** write() */
  *#write(session: ModelSession, batch: OwnBatch, end: Lsn): Steps {
    const work = this.#workOn(batch);
    let remembered = false;
    const attempt = function* (this: ModelOwnStream): Steps {
      if (!remembered) yield* this.#remember(session, work);
      remembered = true;
      yield* this.#lookAndMove(session, work, end);
    };
    yield* this.#untilDone(session, attempt.bind(this));
  }

  /** lookBelow() */
  *#lookBelow(session: ModelSession, upTo: PgTime): Steps {
    if (this.#world.has('own stream without the look below tombstones')) return;
    const { server } = this.#node;
    const statements = this.#statements;
    const attempt = function* (this: ModelOwnStream): Steps {
      const transaction = server.begin(session);
      if (!this.#world.has('look below tombstones beside the gate')) {
        yield* statements.lockGate(transaction, 'shared');
      }
      yield undefined;
      const { id } = server.writer;
      const keys = server
        .tombstones(transaction)
        .filter(
          ({ time, writer }) => time > this.#lookedUpTo && time <= upTo && !sameNode(writer.id, id),
        )
        .flatMap(({ key }) => key ?? []);
      yield undefined;
      const found = keys.filter(
        (key) => server.visible(transaction, key, server.seen) !== undefined,
      );
      yield undefined;
      for (const key of found) {
        const tombstone = statements.tombstoneOf(transaction, key);
        yield undefined;
        if (tombstone) yield* this.#removeBelow(transaction, key, tombstone, false);
      }
      if (keys.length > 0) session.setup = { position: 0 as Lsn, time: server.clock() };
      yield* server.commit(session);
    };
    yield* this.#untilDone(session, attempt.bind(this));
    this.#lookedUpTo = upTo;
  }

  *#untilDone(session: ModelSession, attempt: () => Steps): Steps {
    for (;;) {
      try {
        return yield* attempt();
      } catch (error) {
        this.#node.server.rollback(session);
        if (error !== LOCK_CONFLICT) throw error;
      }
      yield undefined;
    }
  }

  #workOn(batch: OwnBatch): Work {
    const [changes] = batch.tables.values();
    if (!changes) return { deleted: [], truncatedAt: undefined };
    const moved = changes.moved
      .map(({ time, old, row }) => ({ time, values: readValues(old), row: readValues(row) }))
      .filter(({ values, row }) => !sameKey(TABLE, values, filledFrom(values, row)));
    const deleted = changes.removed.map(({ time, old }) => ({ time, values: readValues(old) }));
    const left = this.#world.has('own stream without key changes') ? [] : moved;
    return {
      deleted: [...deleted, ...left].map(({ time, values }) => ({ time, key: keyIn(values) })),
      truncatedAt: changes.truncatedAt,
    };
  }

  /** remember(): in a transaction of its own, then until the apply transactions that are open by then have ended. */
  *#remember(session: ModelSession, { deleted, truncatedAt }: Work): Steps {
    const { server } = this.#node;
    const limit = this.#node.peersLimit();
    const isKept = this.#world.policy !== undefined;
    const open = deleted.filter(({ time }) => isKept || time > limit);
    if (open.length === 0 && truncatedAt === undefined) return;
    yield undefined;
    const transaction = server.begin(session);
    session.setup = { position: 0 as Lsn, time: server.clock() };
    const { writer } = server;
    for (const { key, time } of open) this.#statements.remember(transaction, key, time, writer);
    if (truncatedAt !== undefined && !this.#world.has('TRUNCATE leaves no tombstone')) {
      this.#statements.remember(transaction, undefined, truncatedAt, writer);
    }
    yield undefined;
    yield* server.commit(session);
    if (this.#world.has('own stream looks at once')) return;
    // othersEnded()
    const others = this.#statements.openApply();
    yield { ready: () => others.every(({ phase }) => phase === 'ended') };
  }

  /** lookAndMove() */
  *#lookAndMove(session: ModelSession, work: Work, end: Lsn): Steps {
    const { server } = this.#node;
    const statements = this.#statements;
    const transaction = server.begin(session);
    yield* statements.lockGate(transaction, 'shared');
    yield undefined;
    yield* this.#removeSlippedIn(transaction, work.deleted);
    if (work.truncatedAt !== undefined) {
      yield* statements.removeTruncatedRest(transaction, work.truncatedAt);
      yield undefined;
      if (!this.#world.has('own deletions that lose are passed over')) {
        statements.noteRowsOfOthers(transaction);
      }
      yield undefined;
    }
    session.setup = { position: end, time: server.clock() };
    server.xidOf(transaction);
    yield* server.commit(session);
  }

  /** removeSlippedIn(): foundAmongSql(), then the rows one by one. */
  *#removeSlippedIn(transaction: Transaction, deleted: readonly TimedKey[]): Steps {
    if (this.#world.has('own stream leaves tombstones only')) return;
    const { server } = this.#node;
    const found = deleted.filter(({ key }) => {
      const row = server.visible(transaction, key, server.seen);
      return row !== undefined && row.origin !== 0;
    });
    yield undefined;
    for (const { key, time } of found) {
      const tombstone = { time, writer: server.writer };
      yield* this.#removeBelow(transaction, key, tombstone, true);
    }
  }

  /** BelowTombstones.#remove(); `notes` is whether a greater row is noted, which the real one always does. */
  *#removeBelow(transaction: Transaction, key: string, tombstone: Version, notes: boolean): Steps {
    const statements = this.#statements;
    const found = yield* statements.find(transaction, key);
    yield undefined;
    if (!found) return;
    const row = statements.localRow(transaction, found, tombstone.time);
    if (row.kind !== 'versioned') return;
    const { version } = row;
    if (sameNode(version.writer.id, tombstone.writer.id)) return;
    if (compareVersions(version, tombstone) > 0) {
      if (!notes || this.#world.has('own deletions that lose are passed over')) return;
      return statements.noteLostValue(transaction, key, version.writer);
    }
    if (!this.#world.has('what lies below a deletion goes in silence')) {
      transaction.inHistory.push({ row: found });
    }
    yield* statements.delete(transaction, key);
    yield undefined;
  }
}
