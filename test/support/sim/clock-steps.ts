import { tupleOf, UNCHANGED } from '../../../src/pgoutput/tuple-value.ts';
import type { PgTime } from '../../../src/base/pg-time.ts';
import type { LastHeartbeat } from '../../../src/catalog/own-stream.ts';
import { ITEM } from '../item-relation.ts';
import type { ModelNode } from './node.ts';
import { LOCK_CONFLICT, type Steps } from './process.ts';
import type { ModelSession, Row, WalRecord } from './transaction.ts';
import type { World } from './world.ts';

/** What users saw between two heartbeats may be so much later than the greatest time that a heartbeat has told. */
const UNTOLD = 100;
/** Users may have written so much earlier than what the clock told first after a step, where no agent looked on. */
const UNSEEN = 1000;

/**
 * The clock of one node steps, forward or back: further back than what its last heartbeat has told, and for so long that another one
 * tells of it. What nobody tells of nobody notices; see decision 28.
 */
export class SteppingClock {
  readonly #world: World;
  readonly #node: ModelNode;
  #areOver = false;
  /** The last step back is noticed, or there was none. */
  isNoticed = true;

  constructor(world: World, node: ModelNode) {
    this.#world = world;
    this.#node = node;
  }

  /** No more steps. */
  heal(): void {
    this.#areOver = true;
  }

  *run(): Steps {
    const { random } = this.#world;
    const { server } = this.#node;
    for (let steps = 1 + random.below(3); steps > 0; steps--) {
      const until = this.#world.time + random.below(200);
      yield { ready: () => this.#world.time >= until };
      if (this.#areOver) return;
      if (random.chance(0.3)) {
        server.step(random.below(100));
        continue;
      }
      yield { ready: () => this.#areOver || this.#sinceTold <= UNTOLD };
      if (this.#areOver) return;
      server.step(-(this.#sinceTold + 1 + random.below(400)));
      this.isNoticed = false;
      yield* this.#untilNoticed();
      this.isNoticed = true;
    }
  }

  /** The clock, since the greatest time that is told. */
  get #sinceTold(): number {
    const told = this.#node.clockWatch.greatest;
    return told ? this.#node.server.clock() - told.clock : Infinity;
  }

  *#untilNoticed(): Steps {
    const { server, clockWatch } = this.#node;
    // By the time that this looks, a greater time may have been told again.
    const { step: known } = clockWatch;
    const isNoticed = () =>
      clockWatch.step !== known || clockWatch.step?.before === clockWatch.greatest;
    for (;;) {
      yield { ready: () => isNoticed() || this.#sinceTold > -5 };
      if (isNoticed()) return;
      server.step(-100);
    }
  }
}

/** What is known of a step: bdr.bdr_clock_steps. */
interface KnownStep {
  readonly before: LastHeartbeat;
  /** When what users wrote late was written again. */
  lateAt?: PgTime;
  isEnded?: boolean;
}

interface PeerRows {
  readonly from: number;
  readonly upTo: PgTime;
  readonly first: number;
  readonly end: number;
}

/**
 * src/node/clock-step-rewriter.ts and src/apply/row-rewriter.ts: rows that users wrote while the clock was behind are written again, and then what
 * peers wrote in the place of them.
 */
export class ModelRewriter {
  readonly #world: World;
  readonly #node: ModelNode;
  readonly #noted: KnownStep[] = [];
  /** What the clock has shown at the least, by the heartbeat before it did. */
  readonly #lowest: { readonly xid: number; readonly clock: number }[] = [];
  #session: ModelSession | undefined;

  constructor(world: World, node: ModelNode) {
    this.#world = world;
    this.#node = node;
  }

  /** The agent is gone. */
  abandon(): void {
    if (this.#session) this.#node.server.abandon(this.#session);
    this.#session = undefined;
  }

  /** No step waits to be dealt with. */
  get isDone(): boolean {
    return this.#due === undefined;
  }

  get #due(): KnownStep | undefined {
    return this.#noted.find(({ isEnded }) => !isEnded);
  }

  /** lowestBetween(); `passed` since the heartbeat before, undefined for the first one of an agent. */
  told(xid: number, clock: number, passed = UNSEEN): void {
    this.#lowest.push({ xid, clock: clock - passed });
  }

  /** noteClockStep(): another one may come before it is dealt with. */
  noticed(): void {
    const { step } = this.#node.clockWatch;
    if (!step || this.#noted.some(({ before }) => before.xid === step.before.xid)) return;
    this.#noted.push({ before: step.before });
  }

  #peerRows({ before, lateAt = before.clock }: KnownStep): PeerRows {
    const since = this.#lowest.filter(({ xid }) => xid >= before.xid).map(({ clock }) => clock);
    const { xmax } = this.#node.server;
    return { from: Math.min(...since), upTo: lateAt, first: before.xmin, end: xmax };
  }

  *run(): Steps {
    const { server } = this.#node;
    const session = server.connect('clock');
    this.#session = session;
    for (;;) {
      // readDueSteps(), readDuePeerRows()
      const isDue = ({ before, lateAt }: KnownStep) => {
        const time = lateAt ?? ((before.clock + UNTOLD) as PgTime);
        return server.clock() > time && this.#node.peersLimit() > time;
      };
      yield { ready: () => this.#due !== undefined && isDue(this.#due) };
      const step = this.#due;
      if (!step) continue;
      const which =
        step.lateAt === undefined ? isLate(step.before) : isOfPeer(this.#peerRows(step));
      try {
        if (!this.#world.has('rows below the clock’s greatest time stay')) {
          const transaction = server.begin(session);
          for (const key of server.keys()) {
            const row = yield* this.#node.statements.update(transaction, key, (old) => old, which);
            if (!row) continue;
            const newTuple = tupleOf([key, row.v, row.origin === 0 ? UNCHANGED : row.big]);
            const update = { kind: 'update', relation: ITEM, newTuple } as const;
            transaction.changes.push({ ...update, oldTuple: null, oldTupleIsKey: false });
          }
          yield undefined;
          yield* server.commit(session, true);
        }
        if (step.lateAt === undefined) step.lateAt = server.clock();
        else step.isEnded = true;
      } catch (error) {
        server.rollback(session);
        if (error !== LOCK_CONFLICT) throw error;
      }
    }
  }
}

/** LATE in src/apply/statements.ts */
function isLate({ clock, xmin }: LastHeartbeat): (row: Row) => boolean {
  return ({ origin, time, xid }) => origin === 0 && time <= clock + UNTOLD && xid >= xmin;
}

/** OF_PEERS there */
function isOfPeer({ from, upTo, first, end }: PeerRows): (row: Row) => boolean {
  return ({ origin, time, xid }) =>
    origin !== 0 && time >= from && time <= upTo && xid >= first && xid < end;
}

/**
 * Whether a step has left something of a key that is not mended: a deletion is not made again here, neither that of a user nor that of a peer
 * which takes what users wrote late. See docs/concepts/simulation.md.
 */
export function isLeftBehind(wal: readonly WalRecord[], key: string): boolean {
  return wal.some((record, at) => {
    if (!record.isLate) return false;
    if (record.truncates) return true;
    if (!record.rows.has(key)) return false;
    if (record.rows.get(key) === undefined) return true;
    // Up to what this node's users have written next.
    const behind = wal.slice(at + 1);
    const end = behind.findIndex(({ rows, origin }) => origin === 0 && rows.has(key));
    return behind
      .slice(0, end < 0 ? undefined : end)
      .some(({ rows, truncates }) => truncates || (rows.has(key) && !rows.get(key)));
  });
}
