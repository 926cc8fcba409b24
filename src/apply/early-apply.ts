import { messageOf } from '../base/errors.ts';
import type { Lsn } from '../base/lsn.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';
import { enterApplyGateLate, lookAtApplyGate } from '../catalog/apply-gate.ts';
import type { NodeId } from '../model/node.ts';
import { isRowChange, type Change, type RowChange } from '../pgoutput/transaction.ts';
import { commitStamped, rollBack } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { ENOUGH_FOR_SET } from './apply-worker.ts';
import type { ChangeContext } from './change-context.ts';
import { SetWriter, type SlowWay } from './set-writer.ts';
import type { Table } from './table.ts';
import type { TableMap } from './table-map.ts';
import type { TransactionPart } from './transaction-part.ts';
import type { ChangeWriter } from './writer.ts';

/** Why a transaction is not applied early after all. */
class GivenUp extends Error {}

/** A delete is tried only so far below the group limit: its commit time is greater than what is known of it. */
const DELETE_MARGIN_US = 1_000_000;
/** How far the provider's clock may be ahead for the commit to wait for this server's, holding what it wrote. */
const MOST_EARLY_MS = 1000;

/**
 * Applies a large transaction while it arrives, before it has committed on the provider (DESIGN 3.3), in a transaction of the apply
 * session that is committed in its turn. That only saves time: what arrives is kept as well, and giving up, at any moment and for
 * any reason, is to roll back and to apply it from there once it has committed.
 *
 * Its commit time is not known yet, so what depends on the exact time gives up. Each part brings a time that the commit's will be
 * greater than: a row that is older than that is certainly older than the change. Whether it was so is looked at at the commit.
 *
 * The gate (src/catalog/apply-gate.ts) is entered only at the commit, or everybody who closes it would wait for the provider's
 * user. What others did meanwhile because they did not see this transaction's rows leaves tombstones: where any is there of a table
 * that was written, it gives up (decision 20).
 */
export class EarlyApply {
  readonly #session: Session;
  readonly #tables: TableMap;
  readonly #writer: ChangeWriter;
  readonly #sets: SetWriter;
  readonly #signal: AbortSignal;
  readonly #touched = new Set<Table>();
  #isOpen = false;
  /** The greatest time that a part relied on. */
  #bound = LONG_AGO;
  /** Deletions up to here need not be remembered: the least group limit before any of them looked for its rows (DESIGN 4.4). */
  #forgettable = Infinity as PgTime;

  constructor(options: {
    session: Session;
    tables: TableMap;
    writer: ChangeWriter;
    provider: NodeId;
    providerOrigin: number;
    signal: AbortSignal;
  }) {
    const { session, writer, provider, providerOrigin } = options;
    this.#session = session;
    this.#tables = options.tables;
    this.#writer = writer;
    this.#signal = options.signal;
    const certain = certainOnly(writer, (limit) => {
      if (limit < this.#forgettable) this.#forgettable = limit;
    });
    this.#sets = new SetWriter({
      session,
      writer: certain,
      provider,
      providerOrigin,
      beforeBatch: async () => {
        await this.#look();
      },
    });
  }

  /** A transaction is being applied: the session must not be used for anything else. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /**
   * Writes a part, of a transaction that begins with the first one. Its context's commit time is one that the true one will be
   * greater than. Returns why it was given up, if it was; what is under way when it returns may be the reason next time.
   */
  async apply({ changes, context }: TransactionPart): Promise<string | undefined> {
    return this.#orGiveUp(async () => {
      if (!this.#isOpen) await this.#begin();
      if (context.commitTime > this.#bound) this.#bound = context.commitTime;
      for (const change of changes) {
        if (!this.#fold(change, context)) await this.#add(change, context);
        if (this.#sets.size >= ENOUGH_FOR_SET) await this.#sets.flush();
      }
      await this.#sets.flush();
    });
  }

  /** Looks whether it may go on while it waits. Returns why it was given up, if it was. */
  async look(): Promise<string | undefined> {
    return this.#orGiveUp(async () => {
      await this.#sets.written();
      await this.#look();
    });
  }

  /** Commits, the transaction having committed on the provider. Returns why it was given up, if it was. */
  async commit(end: { commitTime: PgTime; endLsn: Lsn }): Promise<string | undefined> {
    return this.#orGiveUp(async () => {
      await this.#sets.settle();
      if (end.commitTime <= this.#bound)
        throw new GivenUp('the clock of the provider has stepped back');
      if (end.commitTime > this.#forgettable)
        throw new GivenUp('its deletions have to be remembered, with its time');
      await this.#enterGate(end.commitTime);
      // Behind the gate: what comes after this look waits for this commit and sees its rows.
      for (const table of this.#touched) await this.#refuseTombstones(table);
      await commitStamped(this.#session, end.endLsn, end.commitTime);
      this.#isOpen = false;
      this.#writer.committed();
    });
  }

  /** Takes back what was written. */
  async giveUp(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#sets.abandon();
    this.#tables.forget();
    if (!this.#session.lost.aborted) await rollBack(this.#session);
  }

  async #orGiveUp(step: () => Promise<void>): Promise<string | undefined> {
    try {
      await step();
      return undefined;
    } catch (error) {
      await this.giveUp();
      // Whether a commit that was sent has come through is for the next life of the link to find out.
      if (this.#session.lost.aborted || this.#signal.aborted) throw error;
      return messageOf(error);
    }
  }

  async #begin(): Promise<void> {
    this.#isOpen = true;
    this.#touched.clear();
    this.#bound = LONG_AGO;
    this.#forgettable = Infinity as PgTime;
    await this.#session.script('BEGIN');
    this.#writer.begin();
    this.#sets.begin();
    const { definitions } = await this.#look();
    this.#tables.defined(definitions);
  }

  async #look(): Promise<{ definitions: string }> {
    const look = await lookAtApplyGate(this.#session);
    if (!look || look.paused) throw new GivenUp('apply is paused');
    if (look.isWaitedFor) throw new GivenUp('another session waits for it');
    return look;
  }

  #fold(change: Change, context: ChangeContext): boolean {
    if (!isRowChange(change) || !this.#isForgettable(change, context)) return false;
    const table = this.#tables.known(change.relation);
    if (!table || !this.#touched.has(table) || !this.#sets.add(table, change, context))
      return false;
    this.#writer.count(change);
    return true;
  }

  /** Whether nothing older than a delete will probably come any more once the transaction's time is known. */
  #isForgettable({ kind }: RowChange, { commitTime }: ChangeContext): boolean {
    return kind !== 'delete' || commitTime + DELETE_MARGIN_US <= this.#writer.groupLimit();
  }

  /** What needs more than to be folded in. */
  async #add(change: Change, context: ChangeContext): Promise<void> {
    if (!isRowChange(change)) throw new GivenUp(`it has a change of kind ${change.kind}`);
    if (!this.#isForgettable(change, context)) {
      throw new GivenUp('its deletions may have to be remembered, with its time');
    }
    // The batch may have held what this change cannot be folded with.
    await this.#sets.settle();
    const table = await this.#tables.find(change.relation);
    if (!this.#touched.has(table)) {
      await this.#refuseTombstones(table);
      this.#touched.add(table);
    }
    if (!this.#fold(change, context)) throw new GivenUp('it has a change that no set can hold');
  }

  async #refuseTombstones(table: Table): Promise<void> {
    if (await this.#writer.tombstones.any(table)) {
      throw new GivenUp('deletions are remembered of a table of it');
    }
  }

  async #enterGate(commitTime: PgTime): Promise<void> {
    for (let waitedMs = 0; ;) {
      const gate = await enterApplyGateLate(this.#session, commitTime);
      if (!gate || gate.paused) throw new GivenUp('apply is paused');
      if (gate.earlyMs === 0) return;
      waitedMs += gate.earlyMs;
      if (waitedMs > MOST_EARLY_MS) throw new GivenUp("the provider's clock is ahead");
      await pause(gate.earlyMs, this.#signal);
      this.#signal.throwIfAborted();
    }
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
    fastLimit: (context) => writer.fastLimit(context),
    write: refuse,
    takeBack: refuse,
    settleDeletions: refuse,
    isTruncated: async (table, context) =>
      (await writer.isTruncated(table, context)) ? await refuse() : false,
  };
}
