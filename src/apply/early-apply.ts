import { assert } from '../base/assert.ts';
import { messageOf } from '../base/errors.ts';
import type { Lsn } from '../base/lsn.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';
import { enterApplyGateLate, lookAtApplyGate } from '../catalog/apply-gate.ts';
import { commitApplied } from '../catalog/committed-positions.ts';
import type { NodeId } from '../model/node.ts';
import { isRowChange, type Change, type RowChange } from '../pgoutput/transaction.ts';
import { rollBack } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import type { ChangeContext } from './change-context.ts';
import type { LentOrigin } from './lent-origin.ts';
import { SetWriter, type SlowWay } from './set-writer.ts';
import { isOwn, type Table } from './table.ts';
import type { TableMap } from './table-map.ts';
import type { TransactionPart } from './transaction-part.ts';
import type { ChangeWriter } from './writer.ts';

/** Why a transaction is not applied early after all. */
class GivenUp extends Error {}

/** A delete is tried only so far below the group limit: its commit time is greater than what is known of it. */
const DELETE_MARGIN_US = 1_000_000;
/** How far the provider's clock may be ahead for the commit to wait for this server's, holding what it wrote. */
const MOST_EARLY_MS = 1000;

/** What is applied early is applied by these, which nothing else uses. */
export interface EarlySession {
  readonly session: Session;
  /** The origin that it has, under which nothing is committed. */
  readonly origin: string;
  readonly tables: TableMap;
  readonly writer: ChangeWriter;
}

interface Workers extends EarlySession {
  readonly sets: SetWriter;
}

/**
 * Applies a large transaction while it arrives, before it has committed on the provider (DESIGN 3.3), on a session of its own, beside
 * other transactions of the link; it is committed in its turn, under the link's origin. That only saves time: what arrives is kept as
 * well, and giving up, at any moment and for any reason, is to roll back and to apply it from there once it has committed.
 *
 * Its commit time is not known yet, so what depends on the exact time gives up. Each part brings a time that the commit's will be
 * greater than: a row that is older than that is certainly older than the change. Whether it was so is looked at at the commit.
 *
 * The gate (src/catalog/apply-gate.ts) is entered only at the commit, or everybody who closes it would wait for the provider's
 * user. What others did meanwhile because they did not see this transaction's rows leaves tombstones: where any is there of a table
 * that was written, it gives up (decision 20).
 */
export class EarlyApply {
  readonly #open: () => Promise<EarlySession>;
  readonly #linkOrigin: LentOrigin;
  readonly #provider: NodeId;
  readonly #providerOrigin: number;
  readonly #signal: AbortSignal;
  /** From the first transaction on. */
  #workers: Workers | undefined;
  /** Resolves when what was given up last is rolled back. */
  #rolledBack: Promise<void> = Promise.resolve();
  readonly #touched = new Set<Table>();
  #isOpen = false;
  /** The greatest time that a part relied on. */
  #bound = LONG_AGO;
  /** Deletions up to here need not be remembered: the least group limit before any of them looked for its rows (DESIGN 4.4). */
  #forgettable = Infinity as PgTime;

  constructor(options: {
    /** Opens the session, when it is needed first. */
    open: () => Promise<EarlySession>;
    linkOrigin: LentOrigin;
    provider: NodeId;
    providerOrigin: number;
    signal: AbortSignal;
  }) {
    this.#open = options.open;
    this.#linkOrigin = options.linkOrigin;
    this.#provider = options.provider;
    this.#providerOrigin = options.providerOrigin;
    this.#signal = options.signal;
  }

  /** A transaction is being applied. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /**
   * Writes a part, of a transaction that begins with the first one. Its context's commit time is one that the true one will be
   * greater than. Returns why it was given up, if it was; what is under way when it returns may be the reason next time.
   */
  async apply({ changes, context }: TransactionPart): Promise<string | undefined> {
    return this.#orGiveUp(async () => {
      const workers = this.#isOpen ? this.#opened() : await this.#begin();
      const { sets } = workers;
      if (context.commitTime > this.#bound) this.#bound = context.commitTime;
      for (const change of changes) {
        if (!this.#fold(workers, change, context)) await this.#add(workers, change, context);
      }
      // Not sooner: to begin a COPY costs the server as much as a thousand rows.
      await sets.flush();
    });
  }

  /** Looks whether it may go on while it waits. Returns why it was given up, if it was. */
  async look(): Promise<string | undefined> {
    return this.#orGiveUp(async () => {
      const { session, sets } = this.#opened();
      await sets.written();
      await look(session);
    });
  }

  /** Commits, the transaction having committed on the provider. Returns why it was given up, if it was. */
  async commit(end: { commitTime: PgTime; endLsn: Lsn }): Promise<string | undefined> {
    return this.#orGiveUp(async () => {
      const { session, origin, tables, writer, sets } = this.#opened();
      await sets.settle();
      if (end.commitTime <= this.#bound)
        throw new GivenUp('the clock of the provider has stepped back');
      if (end.commitTime > this.#forgettable)
        throw new GivenUp('its deletions have to be remembered, with its time');
      await this.#enterGate(session, end.commitTime);
      // Behind the gate: what comes after this look waits for this commit and sees its rows.
      for (const table of this.#touched) await refuseTombstones(writer, table);
      await this.#linkOrigin.during(session, origin, () =>
        commitApplied(session, {
          position: end.endLsn,
          time: end.commitTime,
          mayNotify: tables.mayNotify,
        }),
      );
      this.#isOpen = false;
      writer.committed();
    });
  }

  /** Takes back what was written. May be called at any moment; what is called after it waits for it. */
  async giveUp(): Promise<void> {
    if (this.#isOpen) {
      this.#isOpen = false;
      this.#rolledBack = this.#rollBack(this.#opened());
      // A failure is seen by who waits next.
      this.#rolledBack.catch(() => undefined);
    }
    await this.#rolledBack;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#workers?.session.close();
  }

  async #rollBack({ session, tables, sets }: Workers): Promise<void> {
    await sets.abandon();
    tables.forget();
    if (!session.lost.aborted) await rollBack(session);
  }

  #opened(): Workers {
    assert(this.#workers !== undefined, 'a transaction is open');
    return this.#workers;
  }

  async #orGiveUp(step: () => Promise<void>): Promise<string | undefined> {
    try {
      await step();
      return undefined;
    } catch (error) {
      await this.giveUp();
      // Whether a commit that was sent has come through is for the next life of the link to find out.
      if (this.#workers?.session.lost.aborted || this.#signal.aborted) throw error;
      return messageOf(error);
    }
  }

  async #begin(): Promise<Workers> {
    await this.#rolledBack;
    this.#workers ??= this.#workersOf(await this.#open());
    const { session, tables, writer, sets } = this.#workers;
    this.#isOpen = true;
    this.#touched.clear();
    this.#bound = LONG_AGO;
    this.#forgettable = Infinity as PgTime;
    await session.script('BEGIN');
    writer.begin();
    sets.begin();
    const { definitions } = await look(session);
    tables.defined(definitions);
    return this.#workers;
  }

  #workersOf(early: EarlySession): Workers {
    const { session, writer } = early;
    const certain = certainOnly(writer, (limit) => {
      if (limit < this.#forgettable) this.#forgettable = limit;
    });
    const sets = new SetWriter({
      session,
      writer: certain,
      provider: this.#provider,
      providerOrigin: this.#providerOrigin,
      beforeBatch: async () => {
        await look(session);
      },
    });
    return { ...early, sets };
  }

  #fold({ tables, writer, sets }: Workers, change: Change, context: ChangeContext): boolean {
    if (!isRowChange(change) || !isForgettable(writer, change, context)) return false;
    const table = tables.known(change.relation);
    if (!table || !this.#touched.has(table) || !sets.add(table, change, context)) return false;
    writer.count(change);
    return true;
  }

  /** What needs more than to be folded in. */
  async #add(workers: Workers, change: Change, context: ChangeContext): Promise<void> {
    const { tables, writer, sets } = workers;
    if (!isRowChange(change)) throw new GivenUp(`it has a change of kind ${change.kind}`);
    if (isOwn(change.relation)) throw new GivenUp('it changes the group, or definitions');
    if (!isForgettable(writer, change, context)) {
      throw new GivenUp('its deletions may have to be remembered, with its time');
    }
    // The batch may have held what this change cannot be folded with.
    await sets.settle();
    const table = await tables.find(change.relation);
    if (!this.#touched.has(table)) {
      await refuseTombstones(writer, table);
      this.#touched.add(table);
    }
    if (!this.#fold(workers, change, context)) {
      throw new GivenUp('it has a change that no set can hold');
    }
  }

  async #enterGate(session: Session, commitTime: PgTime): Promise<void> {
    for (let waitedMs = 0; ;) {
      const gate = await enterApplyGateLate(session, commitTime);
      if (!gate || gate.paused) throw new GivenUp('apply is paused');
      if (gate.earlyMs === 0) return;
      waitedMs += gate.earlyMs;
      if (waitedMs > MOST_EARLY_MS) throw new GivenUp("the provider's clock is ahead");
      await pause(gate.earlyMs, this.#signal);
      this.#signal.throwIfAborted();
    }
  }
}

async function look(session: Session): Promise<{ definitions: string }> {
  const seen = await lookAtApplyGate(session);
  if (!seen || seen.paused) throw new GivenUp('apply is paused');
  if (seen.isWaitedFor) throw new GivenUp('another session waits for it');
  return seen;
}

/** Whether nothing older than a delete will probably come any more once the transaction's time is known. */
function isForgettable(
  writer: ChangeWriter,
  { kind }: RowChange,
  { commitTime }: ChangeContext,
): boolean {
  return kind !== 'delete' || commitTime + DELETE_MARGIN_US <= writer.groupLimit();
}

async function refuseTombstones(writer: ChangeWriter, table: Table): Promise<void> {
  if (await writer.tombstones.any(table)) {
    throw new GivenUp('deletions are remembered of a table of it');
  }
}

/**
 * Where a set has not taken a change: whatever is to be done then needs the commit time. Nothing that was deleted is remembered;
 * `forgets` is told up to which commit time that is right.
 */
function certainOnly(writer: ChangeWriter, forgets: (upTo: PgTime) => void): SlowWay {
  const refuse = () => Promise.reject(new GivenUp('it meets rows that are not certainly older'));
  return {
    tombstones: writer.tombstones,
    groupLimit: () => {
      forgets(writer.groupLimit());
      return Infinity as PgTime;
    },
    certain: (context) => writer.certain(context),
    left: { write: refuse },
    deletions: {
      takeBack: refuse,
      settle: refuse,
      isTruncated: async (table: Table, context: ChangeContext) =>
        (await writer.deletions.isTruncated(table, context)) ? await refuse() : false,
    },
  };
}
