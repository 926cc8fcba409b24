import { backoffMs } from '../base/backoff.ts';
import { BdrError } from '../base/errors.ts';
import { ZERO_LSN, type Lsn } from '../base/lsn.ts';
import { formatPgTime, LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { textArray } from '../base/text-array.ts';
import { pause } from '../base/wait.ts';
import { enterApplyGate, openApplyTransactions } from '../catalog/apply-gate.ts';
import { recordConflict } from '../catalog/conflict-history.ts';
import { compareVersions, type Version } from '../conflict/version.ts';
import { sameNode } from '../model/node.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import { commitStamped, rollBack } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { seesAll } from '../postgres/snapshot-shows.ts';
import { withReplicaIdentity } from './identity.ts';
import { keyParams, LocalRows, type FoundRow } from './local-rows.ts';
import { isLockConflict, LOCK_BACKOFF } from './lock-conflict.ts';
import type { OwnBatch, OwnChanges } from './own-batch.ts';
import { PreparedStatements } from './prepared.ts';
import { filledFrom, readValues, type RowValues } from './row-values.ts';
import {
  foundAmongSql,
  hasTruncatedRestSql,
  lockedDeleteSql,
  truncatedRestSql,
} from './statements.ts';
import { isOwn, sameKey, type Table } from './table.ts';
import { TableMap } from './table-map.ts';
import { TableStatements } from './table-statements.ts';
import { keyArrays, Tombstones } from './tombstones.ts';
import { originsBelow, type OriginMap } from './writers.ts';

const WAIT_POLL_MS = 5;

/** A row by its key, with the commit time of what a user of this node did to it. */
interface TimedKey {
  readonly time: PgTime;
  readonly values: RowValues;
}

interface TableWork {
  readonly table: Table;
  readonly deleted: readonly TimedKey[];
  /** Read only where it is needed: a table of which nothing is remembered has no use for them. */
  readonly made: () => readonly TimedKey[];
  readonly truncatedAt: PgTime | undefined;
}

/**
 * Does what changes of this node's own users ask for, once its own stream has brought them (DESIGN 4.4).
 *
 *   remember   a deletion leaves its tombstone, in a transaction of its own
 *   wait       until the apply transactions that are open by then have ended: the others see the tombstone by themselves. Nobody
 *              is held back, and nothing is held
 *   look       rows of other nodes that slipped in under a deleted key are removed where they are smaller; rows that users made
 *              are removed where another node's deletion is greater (DESIGN 4.2, rule 6)
 *   position   commits with the look, so that what a crash leaves undone is done again. Doing it twice changes nothing
 */
export class OwnWriter {
  readonly #session: Session;
  readonly #origins: () => OriginMap;
  readonly #random: () => number;
  readonly #signal: AbortSignal;
  readonly #peersLimit: () => PgTime;
  readonly #tables: TableMap;
  readonly #statements: PreparedStatements;
  readonly #onTable: TableStatements;
  readonly #rows: LocalRows;
  readonly #tombstones: Tombstones;

  /** `session` is set up with the own stream's origin. */
  constructor(options: {
    session: Session;
    origins: () => OriginMap;
    random: () => number;
    signal: AbortSignal;
    /** Up to here everything of every peer is applied: a deletion that is no later need not be remembered. */
    peersLimit: () => PgTime;
  }) {
    const { session, origins } = options;
    this.#session = session;
    this.#origins = origins;
    this.#random = options.random;
    this.#signal = options.signal;
    this.#peersLimit = options.peersLimit;
    this.#tables = new TableMap(session);
    this.#statements = new PreparedStatements(session);
    this.#onTable = new TableStatements(session, this.#statements);
    this.#rows = new LocalRows(session, this.#onTable, origins);
    this.#tombstones = new Tombstones(this.#statements, origins);
  }

  /** Moves the position to `end`, where that is given: all before it must be in this batch or in earlier ones. */
  async write(batch: OwnBatch, end: Lsn | undefined): Promise<void> {
    let remembered = false;
    for (let failures = 1; ; failures++) {
      try {
        const work = await this.#prepare(batch);
        remembered ||= await this.#remember(work);
        if (remembered && (await this.#lookAndMove(work, batch.makers, end))) return;
      } catch (error) {
        await this.#rollback(error);
      }
      await pause(backoffMs(failures, LOCK_BACKOFF, this.#random), this.#signal);
      this.#signal.throwIfAborted();
    }
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
    if (!Tombstones.byKey(table)) return { table, deleted: [], made: () => [], truncatedAt };
    const moved = changes.moved
      .map(({ time, old, row }) => {
        const before = readValues(old);
        return { time, before, values: filledFrom(before, readValues(row)) };
      })
      .filter(({ before, values }) => !sameKey(table, before, values));
    const deleted = changes.removed.map(({ time, old }) => ({ time, values: readValues(old) }));
    return {
      table,
      deleted: [...deleted, ...moved.map(({ time, before }) => ({ time, values: before }))],
      made: () => [
        ...changes.made.map(({ time, row }) => ({ time, values: readValues(row) })),
        ...moved,
      ],
      truncatedAt,
    };
  }

  /** False when the tables have to be looked at again first. */
  async #remember(work: readonly TableWork[]): Promise<boolean> {
    const limit = this.#peersLimit();
    const some = work
      .map((one) => ({ ...one, deleted: one.deleted.filter(({ time }) => time > limit) }))
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
      if (deleted.length > 0) await this.#tombstones.add(table, arraysOf(table, deleted), id);
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

  /** Returns whether it could be done: not while a transaction is on the log and not yet seen, or a table has changed. */
  async #lookAndMove(
    work: readonly TableWork[],
    makers: ReadonlySet<number>,
    end: Lsn | undefined,
  ): Promise<boolean> {
    // An apply transaction as far as others wait for it; it is not held back while apply is paused.
    const gate = await enterApplyGate(this.#session, LONG_AGO);
    if (!gate)
      throw new BdrError('invalid_membership', { message: 'BDR was removed from this node' });
    // A deletion that comes after this transaction must see the rows that come before it. A commit is seen a moment after it is on
    // the log; under synchronous_standby_names that may be long.
    if (makers.size > 0 && !(await seesAll(this.#session, makers))) {
      await this.#session.script('ROLLBACK');
      return false;
    }
    this.#tables.defined(gate.definitions);
    for (const { table, deleted, made, truncatedAt } of work) {
      if (!(await this.#tables.hold(table))) {
        await rollBack(this.#session);
        return false;
      }
      if (deleted.length > 0) await this.#removeSlippedIn(table, deleted);
      if (truncatedAt !== undefined) await this.#removeTruncated(table, truncatedAt);
      if (makers.size > 0 && (await this.#tombstones.any(table))) {
        await this.#removeDeletedElsewhere(table, made());
      }
    }
    // Without an end the position stays where it is.
    await commitStamped(this.#session, end ?? ZERO_LSN);
    return true;
  }

  /** Rows of other nodes under a key that was deleted here. */
  async #removeSlippedIn(table: Table, deleted: readonly TimedKey[]): Promise<void> {
    const keys = deleted.map(({ values }) => keyParams(table, values));
    const columns = table.key.columns.map((_, index) =>
      textArray(keys.map((key) => key[index]?.toString() ?? null)),
    );
    const found = await this.#onTable.rows<{ n: string }>(table, foundAmongSql(table), columns);
    for (const { n } of found) {
      const key = deleted[Number(n) - 1];
      if (!key) continue;
      await this.#removeBelow(table, key.values, {
        time: key.time,
        writer: this.#origins().local,
      });
    }
  }

  /** Rows that users of this node made while another node's deletion of their key was applied and could not see them. */
  async #removeDeletedElsewhere(table: Table, made: readonly TimedKey[]): Promise<void> {
    const { id } = this.#origins().local;
    for (const index of await this.#tombstones.contested(table, () => arraysOf(table, made), id)) {
      const values = made[index]?.values ?? [];
      const tombstone = await this.#tombstones.find(table, keyParams(table, values));
      if (tombstone) await this.#removeBelow(table, values, tombstone);
    }
  }

  async #removeTruncated(table: Table, time: PgTime): Promise<void> {
    const origins = this.#origins();
    const params = [formatPgTime(time), `{${originsBelow(origins, origins.local).join(',')}}`];
    const [row] = await this.#onTable.rowsOnce<{ any: string }>(
      table,
      hasTruncatedRestSql(table),
      params,
    );
    if (row?.any !== 't') return;
    await withReplicaIdentity(this.#session, table, () =>
      this.#onTable.runOnce(table, truncatedRestSql(table), params),
    );
  }

  /** Removes the row of a key where it is smaller than its tombstone and was not written by the same node after it. */
  async #removeBelow(table: Table, values: RowValues, tombstone: Version): Promise<void> {
    for (const found of await this.#rows.findAll(table, values, tombstone.time)) {
      const { row } = found;
      if (row.kind !== 'versioned') continue;
      const { version } = row;
      if (sameNode(version.writer.id, tombstone.writer.id)) continue;
      if (compareVersions(version, tombstone) > 0) continue;
      await this.#record(table, found, version, tombstone);
      await this.#onTable.run(table, lockedDeleteSql(table), [found.ctid]);
    }
  }

  /** A row that is removed is kept in the history, whichever side wrote it. */
  async #record(
    table: Table,
    found: FoundRow,
    version: Version,
    tombstone: Version,
  ): Promise<void> {
    if (isOwn(table.relation)) return;
    const { local } = this.#origins();
    const isLocal = sameNode(version.writer.id, local.id);
    const json = await this.#rows.json(table, found);
    const remote = isLocal ? tombstone : version;
    await recordConflict(this.#session, local.id, {
      table: table.local.name,
      type: 'update_delete',
      resolution: isLocal ? 'last_update_wins_keep_remote' : 'last_update_wins_keep_local',
      local: {
        row: isLocal ? json : null,
        xmin: isLocal ? found.xmin : null,
        version: isLocal ? version : null,
      },
      remote: {
        row: isLocal ? null : json,
        node: remote.writer.id,
        // What was applied long since is known by its time alone.
        xid: 0,
        commitTime: remote.time,
        commitLsn: 0 as Lsn,
      },
    });
  }

  /** Rolls back after an error, and throws it again unless doing the same again can help. */
  async #rollback(error: unknown): Promise<void> {
    if (this.#session.lost.aborted) throw error;
    this.#tables.forget();
    try {
      await rollBack(this.#session);
    } catch {
      // The server ended the session with its last answer: that is what there is to tell.
      throw error;
    }
    if (!isLockConflict(error)) throw error;
  }
}

function arraysOf(table: Table, keys: readonly TimedKey[]): ReturnType<typeof keyArrays> {
  return keyArrays(
    table,
    keys.map(({ time, values }) => ({ time, key: keyParams(table, values) })),
  );
}
