import { backoffMs } from '../base/backoff.ts';
import { BdrError } from '../base/errors.ts';
import { ZERO_LSN, type Lsn } from '../base/lsn.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';
import { enterApplyGate, openApplyTransactions, type GateAnswer } from '../catalog/apply-gate.ts';
import { commitApplied } from '../catalog/committed-positions.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import { commitStamped, rollBack } from '../postgres/origins.ts';
import type { Param, Session } from '../postgres/session.ts';
import { BelowTombstones } from './below-tombstones.ts';
import { DeletedElsewhere } from './deleted-elsewhere.ts';
import { LateDeletionNotes, lateOf, type LateChanges } from './late-deletion-notes.ts';
import { keyColumns, keyParams, LocalRows } from './local-rows.ts';
import { isLockConflict, LOCK_BACKOFF } from './lock-conflict.ts';
import { noteRowsOfOthers } from './lost-values.ts';
import type { OwnBatch, OwnChanges, Removed } from './own-batch.ts';
import { PeersPatience } from './peers-patience.ts';
import type { HistoryOptions } from './pending-conflicts.ts';
import { isOfValue, withPossibleKeys } from './possible-keys.ts';
import { PreparedStatements } from './prepared.ts';
import { filledFrom, readValues } from './row-values.ts';
import { sameKey, type Table } from './table.ts';
import { TableMap } from './table-map.ts';
import { TableStatements } from './table-statements.ts';
import { keyArraysOf, Tombstones, type KeyArrays } from './tombstones.ts';
import type { OriginMap } from './writers.ts';

const WAIT_POLL_MS = 5;

interface TableWork {
  readonly table: Table;
  readonly deleted: readonly Removed[];
  readonly truncatedAt: PgTime | undefined;
  readonly late: LateChanges;
}

/**
 * Does what changes of this node's own users ask for, once its own stream has brought them (DESIGN 4.4).
 *
 *   remember   a deletion that not all peers have passed leaves its tombstone, in a transaction of its own
 *   wait       until the apply transactions that are open by then have ended: the others see the tombstone by themselves. Nobody
 *              is held back, and nothing is held
 *   look       rows of other nodes that slipped in under a deleted key are removed where they are smaller; what was deleted while the
 *              clock was behind is noted
 *   position   commits with the look, so that what a crash leaves undone is done again. Doing it twice changes nothing
 *
 * And what it must do because users' transactions may have been open while deletions of others were applied: DeletedElsewhere.
 */
export class OwnWriter {
  readonly #session: Session;
  readonly #origins: () => OriginMap;
  readonly #random: () => number;
  readonly #signal: AbortSignal;
  readonly #patience: PeersPatience;
  readonly #tables: TableMap;
  readonly #statements: PreparedStatements;
  readonly #onTable: TableStatements;
  readonly #below: BelowTombstones;
  readonly #tombstones: Tombstones;
  readonly #late: LateDeletionNotes;
  readonly #deletedElsewhere: DeletedElsewhere;

  /** `session` is set up with the own stream's origin. */
  constructor(options: {
    session: Session;
    origins: () => OriginMap;
    random: () => number;
    signal: AbortSignal;
    /** Up to here everything of every peer is applied: a deletion that is no later need not be remembered. */
    peersLimit: () => PgTime;
    history: HistoryOptions;
  }) {
    const { session, origins } = options;
    this.#session = session;
    this.#origins = origins;
    this.#random = options.random;
    this.#signal = options.signal;
    this.#patience = new PeersPatience(options.peersLimit, options.signal);
    this.#tables = new TableMap(session, { isOfOwnLog: true });
    this.#statements = new PreparedStatements(session);
    this.#onTable = new TableStatements(session, this.#statements);
    const rows = new LocalRows(session, this.#onTable, origins);
    const [statements, onTable] = [this.#statements, this.#onTable];
    const { history } = options;
    this.#below = new BelowTombstones({ session, statements, onTable, rows, origins, history });
    this.#tombstones = new Tombstones(this.#statements, origins);
    this.#late = new LateDeletionNotes(this.#statements);
    this.#deletedElsewhere = new DeletedElsewhere({
      session,
      tables: this.#tables,
      below: this.#below,
      tombstones: this.#tombstones,
      origins,
    });
  }

  /** A link could group what it has, if this node's own stream were further. */
  hurry(): void {
    this.#patience.hurry();
  }

  /** Moves the position to `end`, where that is given: all before it must be in this batch or in earlier ones. */
  async write(batch: OwnBatch, end: Lsn | undefined): Promise<void> {
    let remembered = false;
    await this.#untilDone(async (isSifted) => {
      const work = await this.#prepare(batch);
      const possible = isSifted ? await this.#sifted(work) : work;
      remembered ||= await this.#remember(possible);
      return remembered && (await this.#lookAndMove(possible, end));
    });
  }

  /**
   * Removes rows that lie below deletions of other nodes up to `upTo`. Everything that users of this node have committed up to there
   * must be in what was written, and be seen: their watermark says so.
   */
  async lookBelow(upTo: PgTime): Promise<void> {
    await this.#untilDone(async (isSifted) => {
      const gate = await this.#enterGate();
      const count = await this.#deletedElsewhere.look(upTo, gate.definitions, isSifted);
      if (count === undefined) await rollBack(this.#session);
      // With each heartbeat, and mostly there is nothing: that leaves nothing in the log.
      else if (count === 0) await this.#session.script('COMMIT');
      else await commitStamped(this.#session, ZERO_LSN);
      return count !== undefined;
    });
    this.#deletedElsewhere.looked(upTo);
  }

  /**
   * Tries again while locks are in the way, or tables have to be looked at again; and once, with `isSifted`, where a key is none that its
   * table can have any more.
   */
  async #untilDone(attempt: (isSifted: boolean) => Promise<boolean>): Promise<void> {
    let isSifted = false;
    for (let failures = 1; ; failures++) {
      try {
        if (await attempt(isSifted)) return;
      } catch (error) {
        const isToSift: boolean = !isSifted && isOfValue(error);
        await this.#rollback(error, isLockConflict(error) || isToSift);
        isSifted ||= isToSift;
      }
      await pause(backoffMs(failures, LOCK_BACKOFF, this.#random), this.#signal);
      this.#signal.throwIfAborted();
    }
  }

  /** An apply transaction as far as others wait for it; it is not held back while apply is paused. */
  async #enterGate(): Promise<GateAnswer> {
    const gate = await enterApplyGate(this.#session, LONG_AGO);
    if (!gate)
      throw new BdrError('invalid_membership', { message: 'BDR was removed from this node' });
    this.#tables.defined(gate.definitions);
    return gate;
  }

  async #prepare(batch: OwnBatch): Promise<TableWork[]> {
    const work: TableWork[] = [];
    for (const [relation, changes] of batch.tables) {
      const found = await this.#workOn(relation, changes);
      if (found) work.push(found);
    }
    return work;
  }

  /** Undefined for a table that is gone by now: nobody can send anything of it any more that would be written. */
  async #workOn(relation: Relation, changes: OwnChanges): Promise<TableWork | undefined> {
    const table = await this.#tables.seek(relation);
    if (!table) return undefined;
    const { truncatedAt } = changes;
    if (!Tombstones.byKey(table)) {
      return { table, deleted: [], truncatedAt, late: lateOf(changes, changes.removed) };
    }
    const key = new Set(table.key.columns.map(({ position }) => position));
    const ofKey = (position: number) => key.has(position);
    const moved = changes.moved.filter(({ old, row }) => {
      const values = readValues(old, ofKey);
      return !sameKey(table, values, filledFrom(values, readValues(row, ofKey)));
    });
    const deleted = [...changes.removed, ...moved];
    return { table, deleted, truncatedAt, late: lateOf(changes, deleted) };
  }

  /** False when the tables have to be looked at again first. */
  async #remember(work: readonly TableWork[]): Promise<boolean> {
    const forgettable = work.filter(isForgettable).flatMap(({ deleted }) => deleted);
    const limit = await this.#patience.wait(forgettable.map(({ time }) => time));
    const some = work
      .map((one) => ({
        ...one,
        deleted: isForgettable(one) ? one.deleted.filter(({ time }) => time > limit) : one.deleted,
      }))
      .filter(({ deleted, truncatedAt }) => deleted.length > 0 || truncatedAt !== undefined);
    if (some.length === 0) return true;
    const { id } = this.#origins().local;
    await this.#session.script(
      `BEGIN; SELECT pg_replication_origin_xact_setup('0/0', clock_timestamp())`,
    );
    for (const { table, deleted, truncatedAt } of some) {
      if (!(await this.#tables.hold(table))) {
        await rollBack(this.#session);
        return false;
      }
      if (deleted.length > 0) await this.#tombstones.add(table, keysOf(table, deleted), id);
      if (truncatedAt !== undefined) await this.#tombstones.addTable(table, truncatedAt, id);
    }
    await this.#session.script('COMMIT');
    await this.#othersEnded();
    return true;
  }

  async #othersEnded(): Promise<void> {
    let open = await openApplyTransactions(this.#session);
    while (open.length > 0) {
      await pause(WAIT_POLL_MS, this.#signal);
      this.#signal.throwIfAborted();
      const still = new Set(await openApplyTransactions(this.#session));
      open = open.filter((id) => still.has(id));
    }
  }

  /** Returns whether it could be done: not where a table has changed. */
  async #lookAndMove(work: readonly TableWork[], end: Lsn | undefined): Promise<boolean> {
    await this.#enterGate();
    // All of them before the first is worked on: the work on a table without a key changes its definition for a moment.
    for (const { table } of work) {
      if (await this.#tables.hold(table)) continue;
      await rollBack(this.#session);
      return false;
    }
    for (const { table, deleted, truncatedAt, late } of work) {
      if (deleted.length > 0) await this.#removeSlippedIn(table, deleted);
      if (truncatedAt !== undefined) {
        await this.#below.removeTruncated(table, truncatedAt);
        await noteRowsOfOthers(this.#onTable, this.#statements, table, this.#origins());
      }
      await this.#late.note(table, late);
    }
    // Without an end the position stays where it is.
    if (end === undefined) await commitStamped(this.#session, ZERO_LSN);
    else {
      const { mayNotify } = this.#tables;
      await commitApplied(this.#session, { position: end, mayNotify });
    }
    return true;
  }

  /** Rows of other nodes under a key that was deleted here. */
  async #removeSlippedIn(table: Table, deleted: readonly Removed[]): Promise<void> {
    const writer = this.#origins().local;
    const keys = {
      columns: soughtColumns(table, deleted),
      at: (index: number) => deleted[index] && readValues(deleted[index].old),
    };
    await this.#below.removeAmong(table, keys, 'others', (index) => {
      const time = deleted[index]?.time;
      return time === undefined ? undefined : { time, writer };
    });
  }

  /** Rolls back after an error, and throws it again unless another try can help. */
  async #rollback(error: unknown, canHelp: boolean): Promise<void> {
    if (this.#session.lost.aborted) throw error;
    this.#tables.forget();
    try {
      await rollBack(this.#session);
    } catch {
      // The server ended the session with its last answer: that is what there is to tell.
      throw error;
    }
    if (!canHelp) throw error;
  }

  /** Without the keys that no row can have any more. */
  #sifted(work: readonly TableWork[]): Promise<TableWork[]> {
    const session = this.#session;
    return session.transaction(async () => {
      const sifted: TableWork[] = [];
      for (const one of work) {
        const keyOf = ({ old }: Removed) => readValues(old);
        const deleted = await withPossibleKeys(session, one.table, one.deleted, keyOf);
        sifted.push({ ...one, deleted });
      }
      return sifted;
    });
  }
}

/** With a conflict policy it counts whether this node deleted a row, however old the deletion is. */
function isForgettable({ table }: TableWork): boolean {
  return table.policy === undefined;
}

/** As values of a statement: what is read with the rights of the table's owner has them as text. */
function soughtColumns(table: Table, removed: readonly Removed[]): readonly Param[] {
  if (table.role === undefined) return keysOf(table, removed).columns;
  return keyColumns(
    table,
    removed.map(({ old }) => keyParams(table, readValues(old))),
  );
}

function keysOf(table: Table, removed: readonly Removed[]): KeyArrays {
  return keyArraysOf(
    table,
    removed.map(({ old }) => old),
    removed.map(({ time }) => time),
  );
}
