import type { Logger } from '../base/logger.ts';
import { whileNode } from '../catalog/apply-gate.ts';
import {
  confirmAnswer,
  deleteAnswer,
  readConnectedPeers,
  readGlobalLocks,
  readLiveTransactions,
  writeAnswer,
  writeAsk,
  writeOwnState,
} from '../catalog/global-locks.ts';
import { readNodes } from '../catalog/nodes.ts';
import {
  cancelWriters,
  makeGates,
  readGates,
  readMaxLockDelayMs,
  removeGate,
} from '../catalog/lock-gates.ts';
import type { GlobalLockRow } from '../model/global-lock.ts';
import { nodeKey, sameNode, type NodeId } from '../model/node.ts';
import { sayGatesClosed, sayGatesOpen, sayGranted, unsayGranted } from '../postgres/advisory.ts';
import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import { isGrantedBy, type LockAsks } from './lock-asks.ts';
import { nextStep, ownLock, type LockStep, type LockView } from './protocol.ts';

const IDLE_MS = 1000;
/** While transactions of this node's users ask or hold: their end is only seen by looking. */
const HELD_MS = 50;
/** Somebody is in the way. While gates are tried to be made, writers wait: they are let go on in between. */
const BLOCKED_MS = 50;

/**
 * One node's part in the global lock: does what protocol.ts says, step by step. What it needs to remember stands in
 * bdr.bdr_global_locks and in the gates that are there, so it may be killed between any two statements.
 */
export class GlobalLock {
  readonly #session: Session;
  readonly #me: NodeId;
  readonly #asks: LockAsks;
  readonly #log: Logger;
  readonly #fresh: <T>(read: (fresh: Session) => Promise<T>) => Promise<T>;
  /** Numbers of asks that are said to be granted. */
  readonly #said = new Set<number>();
  #areGatesOpen = false;
  /** There may be gates that belong to no lock. */
  #mayHaveLeftGates = true;
  /** Since when writers keep a lock's gates from being made. */
  #blocked: { readonly lock: string; readonly since: number } | undefined;

  /** `session` is the lock's own, with a short lock_timeout; `fresh` opens another, which sees settings as they are now. */
  constructor(options: {
    session: Session;
    me: NodeId;
    asks: LockAsks;
    log: Logger;
    fresh: <T>(read: (fresh: Session) => Promise<T>) => Promise<T>;
  }) {
    this.#session = options.session;
    this.#me = options.me;
    this.#asks = options.asks;
    this.#log = options.log;
    this.#fresh = options.fresh;
  }

  /** Does all that can be done now. Returns after how long to look again, where nothing wakes it before. */
  async look(): Promise<number> {
    for (;;) {
      const view = await this.#read();
      const holdsWrites = this.#holdsWrites(view);
      if (!holdsWrites) this.#areGatesOpen ||= await sayGatesOpen(this.#session);
      const step = nextStep(view);
      if (step.kind === 'wait') {
        if (!holdsWrites && !(await this.#removeGates())) return BLOCKED_MS;
        return ownLock(view) || view.asks.length > 0 ? HELD_MS : IDLE_MS;
      }
      if (!(await this.#take(step, view))) return BLOCKED_MS;
    }
  }

  async #read(): Promise<LockView> {
    const session = this.#session;
    // The nodes after the locks: who answers has made known before whom he has let in.
    const rows = await readGlobalLocks(session);
    const nodes = await readNodes(session);
    const connected = await readConnectedPeers(session);
    const alive = await readLiveTransactions(session);
    const me = this.#me;
    const members = nodes
      .filter(({ status }) => status !== 'b' && status !== 'k')
      .map(({ id, sequence }) => ({
        id,
        sequence,
        isConnected: connected.some((peer) => sameNode(peer, id)),
      }));
    const own = ownLock({ me, rows });
    const asks = this.#asks.waiting(alive);
    await this.#sayWhatIsGranted(
      own,
      asks.map(({ ask }) => ask),
      asks.filter((ask) => isGrantedBy(own, ask)).map(({ ask }) => ask),
    );
    const { holder } = own ?? {};
    const isHolderAlive =
      own?.state === 'asked' && own.round === 1
        ? asks.some((ask) => ask.holder.transaction === holder?.transaction)
        : holder?.serverStart === alive.serverStart && alive.transactions.has(holder.transaction);
    return {
      me,
      members,
      rows,
      asks: asks.filter((ask) => !isGrantedBy(own, ask)),
      isHolderAlive,
    };
  }

  async #sayWhatIsGranted(
    own: GlobalLockRow | undefined,
    heard: readonly number[],
    granted: readonly number[],
  ): Promise<void> {
    for (const ask of granted) {
      if (this.#said.has(ask)) continue;
      if (await sayGranted(this.#session, ask)) this.#said.add(ask);
    }
    for (const ask of this.#said) {
      // Who has stopped asking may not have looked yet.
      if (own?.state === 'acquired' || heard.includes(ask)) continue;
      await unsayGranted(this.#session, ask);
      this.#said.delete(ask);
    }
  }

  /** Whether this node has promised to hold its users' writes. */
  #holdsWrites({ rows, me }: LockView): boolean {
    return rows.some(
      ({ owner, node, mode }) =>
        sameNode(node, me) && !sameNode(owner, me) && mode === 'write_lock',
    );
  }

  /**
   * Takes away gates that belong to no lock. False while some cannot be: whoever has locked such a table may be waiting for this node
   * to do something else first, and an open gate is in nobody's way.
   */
  async #removeGates(): Promise<boolean> {
    const session = this.#session;
    if (!this.#areGatesOpen) return false;
    if (!this.#mayHaveLeftGates) return true;
    let isBlocked = false;
    for (const table of await readGates(session)) {
      isBlocked = !(await unlessBlocked(() => removeGate(session, table))) || isBlocked;
    }
    this.#mayHaveLeftGates = isBlocked;
    return !isBlocked;
  }

  /** False when somebody is in the way. */
  async #take(step: Exclude<LockStep, { kind: 'wait' }>, view: LockView): Promise<boolean> {
    const session = this.#session;
    const me = this.#me;
    switch (step.kind) {
      case 'ask': {
        const round = step.more ? (ownLock(view)?.round ?? 0) + 1 : 1;
        await writeAsk(session, me, step.ask, step.more ?? step.ask, round);
        break;
      }
      case 'grant':
        await writeOwnState(session, me, 'acquired');
        break;
      case 'release':
        await writeOwnState(session, me, 'released');
        break;
      case 'answer':
        if (!(await this.#answer(step.lock, step.known))) return false;
        break;
      case 'confirm':
        await confirmAnswer(session, me, step.lock);
        break;
      case 'forget':
        this.#mayHaveLeftGates = true;
        await deleteAnswer(session, me, step.answer);
        break;
    }
    this.#log.debug({ step: step.kind }, 'global lock');
    return true;
  }

  async #answer(lock: GlobalLockRow, known: Readonly<Record<string, number>>): Promise<boolean> {
    const session = this.#session;
    const holdsWrites = lock.mode === 'write_lock';
    // One transaction: its commit is the mark behind which this node's users write nothing more.
    const isDone = await unlessBlocked(() =>
      whileNode(session, async () => {
        if (holdsWrites) {
          await makeGates(session, lock.tables, { areOpen: this.#areGatesOpen });
          // Not before these tables are locked: whoever waits at a gate has locked his.
          this.#areGatesOpen = false;
          await sayGatesClosed(session);
        }
        await writeAnswer(session, this.#me, lock, holdsWrites ? 'catchup' : 'acquired', known);
      }),
    );
    if (isDone) this.#blocked = undefined;
    else await this.#endWriters(lock);
    return isDone;
  }

  /** Writers that are in the way for too long are canceled. */
  async #endWriters(lock: GlobalLockRow): Promise<void> {
    const name = `${nodeKey(lock.owner)} ${lock.number} ${lock.round}`;
    if (this.#blocked?.lock !== name) this.#blocked = { lock: name, since: performance.now() };
    const blockedMs = performance.now() - this.#blocked.since;
    if (blockedMs < (await this.#fresh(readMaxLockDelayMs))) return;
    const ended = await cancelWriters(this.#session, lock.tables);
    if (ended > 0)
      this.#log.warn({ sessions: ended }, 'canceled writers that kept a global lock waiting');
  }
}

/** False when a lock of the server was not had in time. */
async function unlessBlocked(work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (hasSqlstate(error, SQLSTATE.lockNotAvailable, SQLSTATE.deadlockDetected)) return false;
    throw error;
  }
}
