import { BdrError } from '../base/errors.ts';
import { ZERO_LSN } from '../base/lsn.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { textArray } from '../base/text-array.ts';
import { enterApplyGate } from '../catalog/apply-gate.ts';
import { readRecordLimit } from '../catalog/commit-records.ts';
import {
  forgetLostValue,
  noteLostValueSql,
  noteParams,
  readLostValues,
  type LostValue,
} from '../catalog/lost-values.ts';
import { readDefinitions } from '../catalog/restricted.ts';
import { sameNode, type NodeId } from '../model/node.ts';
import { commitStamped, rollBack } from '../postgres/origins.ts';
import type { Param, Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE, sqlstateOf } from '../postgres/sqlstate.ts';
import { isLockConflict } from './lock-conflict.ts';
import { columnParams, keyColumns, keyParams, LocalRows, type FoundRow } from './local-rows.ts';
import type { PreparedStatements } from './prepared.ts';
import type { ReadFromProvider } from './provider-values.ts';
import type { RowValues } from './row-values.ts';
import { keysOfOthersSql, lockedUpdateSql, longColumns, readAmongSql } from './statements.ts';
import { seekKeyedTable, storedKey, valuesOfStored } from './stored-keys.ts';
import { rowWith, type Table } from './table.ts';
import type { TableMap } from './table-map.ts';
import { TableStatements } from './table-statements.ts';
import { Tombstones } from './tombstones.ts';
import type { OriginMap } from './writers.ts';

/** So many rows are asked for at once. */
const MOST_ASKED = 200;
const GONE: readonly string[] = [SQLSTATE.undefinedTable, SQLSTATE.undefinedColumn];

interface Reached {
  /** The link's watermark. */
  readonly upTo: PgTime;
  /** The provider had applied its peers' changes up to then when its rows were read. */
  readonly providerHas: PgTime;
}

/** Whether a row of the table can have a long value that another row of its key had. */
function mayLoseValues(table: Table): boolean {
  // A row that comes with its old one comes with all values.
  const isWhole = table.relation.replicaIdentity === 'full';
  return Tombstones.byKey(table) && !isWhole && longColumns(table).length > 0;
}

/**
 * Notes that a change has lost to a row of `writer`, inside the transaction in which it was met: an update that left out a long value
 * may have made that row, over the very change that lost. Where it came first, the value was kept from what was here then (DESIGN
 * 4.2, rule 9). Not of this node itself: what its own users write is whole.
 */
export async function noteLostValue(
  statements: PreparedStatements,
  table: Table,
  values: RowValues,
  writer: NodeId,
  { local }: OriginMap,
): Promise<void> {
  if (sameNode(writer, local.id) || !mayLoseValues(table)) return;
  const key = textArray(storedKey(table, values));
  await statements.run(noteLostValueSql, noteParams(table.local.oid, key, writer));
}

/**
 * Notes all rows of a table that other nodes wrote, but for `except`: those that a TRUNCATE has left, which may have come before what
 * it took away.
 */
export async function noteRowsOfOthers(
  onTable: TableStatements,
  statements: PreparedStatements,
  table: Table,
  origins: OriginMap,
  except?: NodeId,
): Promise<void> {
  if (!mayLoseValues(table)) return;
  const rows = await onTable.rowsOnce<Record<string, string | null>>(
    table,
    keysOfOthersSql(table),
    [],
  );
  for (const row of rows) {
    const writer = origins.providers.get(Number(row['origin']))?.id;
    if (!writer || (except && sameNode(writer, except))) continue;
    const key = rowWith(table, table.key.columns, (index) => row[`c${index}`]);
    await noteLostValue(statements, table, key, writer, origins);
  }
}

/**
 * Reads noted rows of a link's provider again: their long values, as the provider has them by now, in local transactions of the link
 * that leave versions and position as they are.
 */
export class LostValues {
  readonly #session: Session;
  readonly #tables: TableMap;
  readonly #onTable: TableStatements;
  readonly #rows: LocalRows;
  readonly #provider: NodeId;
  readonly #read: ReadFromProvider;
  readonly #groupLimit: () => PgTime;
  readonly #providerApplied: () => Promise<PgTime>;
  /** A row whose commit record is gone was met: it is asked up to when the provider has applied its peers. */
  #isUnrecorded = false;

  /** `session` has the link's origin; `statements` are those of `session`. */
  constructor(options: {
    session: Session;
    tables: TableMap;
    statements: PreparedStatements;
    provider: NodeId;
    origins: () => OriginMap;
    read: ReadFromProvider;
    /** LinkContext.groupLimit. */
    groupLimit: () => PgTime;
    /** Up to when the provider has applied all that its own peers have committed. */
    providerApplied: () => Promise<PgTime>;
  }) {
    const { session, origins } = options;
    this.#session = session;
    this.#tables = options.tables;
    this.#onTable = new TableStatements(session, options.statements);
    this.#rows = new LocalRows(session, this.#onTable, origins);
    this.#provider = options.provider;
    this.#read = options.read;
    this.#groupLimit = options.groupLimit;
    this.#providerApplied = options.providerApplied;
  }

  /**
   * Looks after some of them, between transactions of the link. The provider shows all that it has committed up to `upTo`, the link's
   * watermark: a row that is newer might be read as it was before. It stays noted for the next time, as does one that a lock is in the
   * way of. Throws when the provider cannot be asked.
   */
  async settle(upTo: PgTime): Promise<void> {
    const noted = await readLostValues(this.#session, this.#provider, MOST_ASKED);
    const [first] = noted;
    if (!first) return;
    this.#tables.defined(await readDefinitions(this.#session));
    const table = await seekKeyedTable(this.#session, this.#tables, first.relation);
    const keys = noted.map(({ key }) => table && valuesOfStored(table, key));
    // Before the rows are read.
    const providerHas = this.#isUnrecorded ? await this.#providerApplied() : LONG_AGO;
    const asked = table ? await this.#ask(table, keys) : [];
    for (const [index, note] of noted.entries()) {
      const row = asked[index];
      if (!(await this.#settleOne(note, table, keys[index], row, { upTo, providerHas }))) return;
    }
  }

  /** The provider's rows under the keys, of which only the long values are read; undefined for one that it has not. */
  async #ask(
    table: Table,
    keys: readonly (RowValues | undefined)[],
  ): Promise<(RowValues | undefined)[]> {
    const columns = longColumns(table);
    // Where those are gone by now, there is nothing to read.
    if (columns.length === 0) return keys.map(() => undefined);
    const params = keyColumns(
      table,
      // One that is none finds nothing.
      keys.map((key) => (key ? keyParams(table, key) : [])),
    );
    const rows = await this.#readRows(table, readAmongSql(table, columns), params);
    const found: (RowValues | undefined)[] = keys.map(() => undefined);
    for (const row of rows) {
      found[Number(row['n']) - 1] = rowWith(table, columns, (index) => row[`c${index}`]);
    }
    return found;
  }

  /** None where the provider has no such table or column any more: what there was is gone. */
  async #readRows(table: Table, sql: string, params: readonly Param[]) {
    try {
      return await this.#read(
        { schema: table.relation.schema, name: table.relation.name },
        sql,
        params,
      );
    } catch (error) {
      const state = error instanceof BdrError ? error.sqlstate : sqlstateOf(error);
      if (state === undefined || !GONE.includes(state)) throw error;
      return [];
    }
  }

  /** False where the others have to wait for the next time, too. */
  async #settleOne(
    note: LostValue,
    table: Table | undefined,
    key: RowValues | undefined,
    values: RowValues | undefined,
    reached: Reached,
  ): Promise<boolean> {
    const session = this.#session;
    try {
      const gate = await enterApplyGate(session, LONG_AGO);
      if (gate) this.#tables.defined(gate.definitions);
      if (!gate || gate.paused || (table && !(await this.#tables.hold(table)))) {
        await rollBack(session);
        return false;
      }
      const found = table && key && (await this.#rows.find(table, key, LONG_AGO));
      const time = found && (await this.#timeOf(found, reached));
      if (time === 'later' || (time !== undefined && time > reached.upTo)) {
        await rollBack(session);
        return true;
      }
      if (table && found && values && time !== undefined) await this.#write(table, found, values);
      await forgetLostValue(session, note);
      // One row a transaction: its version stays what it is.
      await commitStamped(session, ZERO_LSN, time);
      return true;
    } catch (error) {
      if (session.lost.aborted) throw error;
      this.#tables.forget();
      await rollBack(session);
      // The value is another row's here by now, which is to lose it: it stays noted.
      if (hasSqlstate(error, SQLSTATE.uniqueViolation)) return true;
      if (!isLockConflict(error)) throw error;
      return false;
    }
  }

  async #write(table: Table, { ctid }: FoundRow, values: RowValues): Promise<void> {
    const columns = longColumns(table);
    const params = [...columnParams(columns, values), ctid];
    await this.#onTable.run(table, lockedUpdateSql(table, columns), params);
  }

  /**
   * The time of the row's version, if it is the provider's. Undefined for a row of another node, or of nobody knows whom. A copied row has
   * its true version as long as it is noted: readNotedKeys(), purgeRowVersions().
   */
  async #timeOf({ row }: FoundRow, reached: Reached): Promise<PgTime | 'later' | undefined> {
    if (row.kind === 'unrecorded') return this.#timeOfUnrecorded(reached);
    if (row.kind !== 'versioned') return undefined;
    if (!sameNode(row.version.writer.id, this.#provider)) return undefined;
    return row.version.time;
  }

  /**
   * A row whose commit record is gone may as well be another node's by now. It was written up to a time that is known. Once all that any
   * node committed up to then is applied, here and at the provider, the provider has this row or a later one, and no change is still to
   * come that this time as its version would win over.
   */
  async #timeOfUnrecorded({ providerHas }: Reached): Promise<PgTime | 'later'> {
    this.#isUnrecorded = true;
    const { lostUpTo } = await readRecordLimit(this.#session);
    // The link's own watermark is asked for a time of any row.
    return providerHas >= lostUpTo && this.#groupLimit() >= lostUpTo ? lostUpTo : 'later';
  }
}
