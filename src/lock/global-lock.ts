import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { whileNode } from '../catalog/apply-gate.ts';
import {
  confirmAnswer,
  deleteAnswer,
  readConnectedPeers,
  readGlobalLocks,
  readLiveTransactions,
  readWaitedFor,
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
  readWriters,
  removeGate,
} from '../catalog/lock-gates.ts';
import { covers, type CommandAsk, type GlobalLockRow } from '../model/global-lock.ts';
import { nodeKey, sameNode, type NodeId } from '../model/node.ts';
import {
  sayAnswer,
  sayGatesClosed,
  sayGatesOpen,
  unsayAnswer,
  type AskAnswer,
} from '../postgres/advisory.ts';
import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE, sqlstateOf } from '../postgres/sqlstate.ts';
import { commandNeed, type CommandNeed } from './command-need.ts';
import { isGrantedBy, isHeldBy, type LockAsks } from './lock-asks.ts';
import { nextStep, ownLock, type LockStep, type LockView } from './protocol.ts';

const IDLE_MS = 1000;
/** While transactions of this node's users ask or hold: their end is only seen by looking. */
const HELD_MS = 50;
/** Somebody is in the way. While gates are tried to be made, writers wait: they are let go on in between. */
const BLOCKED_MS = 50;
/** Who waits for the lock so long may be what it waits for himself: it is looked whether he holds up what has to be done first. */
const DEADLOCK_MS = 1000;

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
  /** What is said of asks, by their numbers. */
  readonly #said = new Map<number, AskAnswer>();
  /** Since when asks are known that are not granted yet, by their numbers. */
  readonly #waitingSince = new Map<number, number>();
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
    this.#asks.forgetEnded(alive);
    await this.#unsayEnded();
    for (const ask of this.#asks.commands()) await this.#settle(ask, own);
    for (const ask of this.#asks.waiting()) {
      // Other nodes' commands, which it has waited for, may have changed what it needs.
      const command = isGrantedBy(own, ask) && this.#asks.commandOf(ask.ask);
      if (command) await this.#settle(command, own);
    }
    for (const ask of this.#asks.waiting())
      if (isGrantedBy(own, ask)) await this.#say(ask.ask, 'granted');
    const left = this.#asks.waiting().filter(({ ask }) => !this.#said.has(ask));
    await this.#endDeadlocks(left);
    const { holder } = own ?? {};
    const isHolderAlive =
      own?.state === 'asked' && own.round === 1
        ? left.some((ask) => ask.holder.transaction === holder?.transaction)
        : holder?.serverStart === alive.serverStart && alive.transactions.has(holder.transaction);
    return { me, members, rows, asks: left, isHolderAlive };
  }

  /** Finds out what a command needs. */
  async #settle(ask: CommandAsk, own: GlobalLockRow | undefined): Promise<void> {
    if (this.#said.has(ask.ask)) return;
    const { command, mayBeMajority, ...waiting } = ask;
    const found = await this.#needOf(command);
    if (found.kind !== 'lock') return await this.#say(ask.ask, found.kind);
    const { need, locked } = found;
    const mayWait =
      locked.length === 0 ||
      (isHeldBy(own, ask) &&
        covers(own, { mode: 'write_lock', tables: locked, mayBeMajority: false }));
    if (!mayWait) return await this.#say(ask.ask, 'locked');
    const isMajority = mayBeMajority && need.mayBeMajority;
    this.#asks.settle({ ...waiting, ...need, mayBeMajority: isMajority });
  }

  /** One command that cannot be looked into must not keep the node from answering the others. */
  async #needOf(command: CommandAsk['command']): Promise<CommandNeed> {
    try {
      return await commandNeed(this.#session, command);
    } catch (error) {
      if (this.#session.lost.aborted || sqlstateOf(error) === undefined) throw error;
      this.#log.error({ error: messageOf(error) }, 'what a command locks cannot be told');
      return { kind: 'forbidden' };
    }
  }

  async #say(ask: number, answer: AskAnswer): Promise<void> {
    if (this.#said.has(ask)) return;
    if (await sayAnswer(this.#session, ask, answer)) this.#said.set(ask, answer);
  }

  async #unsayEnded(): Promise<void> {
    for (const [ask, answer] of this.#said) {
      // Who has stopped asking may not have looked yet.
      if (this.#asks.has(ask)) continue;
      await unsayAnswer(this.#session, ask, answer);
      this.#said.delete(ask);
    }
  }

  /** Ends the waiting of transactions that apply waits for: they let go of nothing meanwhile. */
  async #endDeadlocks(asks: LockView['asks']): Promise<void> {
    const now = performance.now();
    for (const ask of this.#waitingSince.keys())
      if (!asks.some((other) => other.ask === ask)) this.#waitingSince.delete(ask);
    const long = asks.filter(({ ask }) => {
      const since = this.#waitingSince.get(ask) ?? now;
      this.#waitingSince.set(ask, since);
      return now - since > DEADLOCK_MS;
    });
    if (long.length === 0) return;
    const waitedFor = await readWaitedFor(
      this.#session,
      long.map(({ holder }) => holder.pid),
    );
    for (const { ask, holder } of long)
      if (waitedFor.includes(holder.pid)) await this.#say(ask, 'deadlock');
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
        if (!(await this.#answer(step, view))) return false;
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

  async #answer(
    { lock, known }: Extract<LockStep, { kind: 'answer' }>,
    view: LockView,
  ): Promise<boolean> {
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
    else await this.#endWriters(lock, view);
    return isDone;
  }

  /** Writers that are in the way for too long are canceled; who waits for the lock himself, before long. */
  async #endWriters(lock: GlobalLockRow, { asks }: LockView): Promise<void> {
    const name = `${nodeKey(lock.owner)} ${lock.number} ${lock.round}`;
    if (this.#blocked?.lock !== name) this.#blocked = { lock: name, since: performance.now() };
    const blockedMs = performance.now() - this.#blocked.since;
    if (asks.length > 0 && blockedMs > DEADLOCK_MS) {
      const writers = await readWriters(this.#session, lock.tables);
      for (const { ask, holder } of asks)
        if (writers.includes(holder.pid)) await this.#say(ask, 'deadlock');
    }
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
