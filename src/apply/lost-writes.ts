import { BdrError, messageOf } from '../base/errors.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { enterApplyGate } from '../catalog/apply-gate.ts';
import type { ConflictAction } from '../catalog/conflict-history.ts';
import { passesLockGate } from '../catalog/lock-gates.ts';
import { forgetLostWrite, readLostWrites, type LostWrite } from '../catalog/lost-writes.ts';
import { readOwnWatermark } from '../catalog/own-stream.ts';
import { areCertainlyConcurrent } from '../conflict/concurrency.ts';
import type { ConflictType, Resolution, Rule } from '../conflict/decide.ts';
import { keepsLost, type TablePolicy } from '../conflict/policy.ts';
import { sameNode, type NodeId } from '../model/node.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE, sqlstateOf } from '../postgres/sqlstate.ts';
import { askHandlers, type Texts } from './conflict-handlers.ts';
import { columnParams, keyParams, LocalRows, type FoundRow } from './local-rows.ts';
import { isLockConflict } from './lock-conflict.ts';
import { PendingConflicts, type HistoryOptions } from './pending-conflicts.ts';
import { PreparedStatements } from './prepared.ts';
import type { RowValues } from './row-values.ts';
import * as sql from './statements.ts';
import { seekKeyedTable, valuesOfStored } from './stored-keys.ts';
import { hasFixedColumn, type Table, type TableColumn } from './table.ts';
import { TableMap } from './table-map.ts';
import { TableStatements } from './table-statements.ts';
import { Tombstones } from './tombstones.ts';
import { writerWithId, type OriginMap } from './writers.ts';

/** So many are looked after before the link goes on. */
const MOST_AT_ONCE = 100;
/** What has to wait is tried again no sooner. */
const AGAIN_MS = 100;

/** A note with what it is about by now. */
interface Case {
  readonly note: LostWrite;
  readonly table: Table;
  readonly policy: TablePolicy;
  readonly key: RowValues;
  /** What stands: the row that overwrote, or none where that was a deletion. */
  readonly found: FoundRow | undefined;
  /** What lost: a row, or a deletion. */
  readonly lost: Texts | undefined;
  readonly lostAt: PgTime;
}

/** What is to be there instead of what stands: a row, or none. */
interface Outcome {
  readonly row: Texts | undefined;
  readonly resolution: Resolution;
}

/** What the history gets to know of it. */
interface Settled {
  readonly resolution: Resolution;
  readonly rule: Rule;
  readonly action: ConflictAction;
}

/** Of two rows that take one value in a unique index the one that is there stays, as for a user who would write the other now. */
const LOST_IN_INDEX: Settled = {
  resolution: 'last_update_wins_keep_remote',
  rule: 'unique_index',
  action: 'skip',
};

/** Another row has a value of what was to be written, in a unique index. */
class ValueTaken extends Error {}

const WRITE_SAVEPOINT = 'bdr_lost_write';

interface SettlerOptions {
  /** The link's, whose changes have overwritten what is noted. */
  readonly provider: NodeId;
  readonly origins: () => OriginMap;
  readonly nameOf: (node: NodeId) => string;
  readonly history: HistoryOptions;
}

/**
 * Holds what this node's users wrote, and a concurrent change of a link's provider has overwritten, against the table's conflict
 * policy. Where that prefers it, or a handler makes something else of both, it is written again: by an ordinary transaction of this
 * node, which travels to all, greater than what it overwrites. So nodes stay equal whatever a policy says, and of two writes only one
 * node asks (docs/decisions/0029-conflict-policies.md). The note goes in the same transaction.
 */
export class LostWrites {
  readonly #session: Session;
  readonly #open: () => Promise<Session>;
  readonly #options: SettlerOptions;
  #settler: Settler | undefined;
  /** There may be some. */
  #isDue = true;
  #notBefore = -Infinity;

  /** `session` reads notes; `open` makes one that has no origin, and writes what this node's users could have written. */
  constructor(
    options: SettlerOptions & { readonly session: Session; readonly open: () => Promise<Session> },
  ) {
    this.#session = options.session;
    this.#open = options.open;
    this.#options = options;
  }

  /** Something was noted, or may have been. */
  noted(): void {
    this.#isDue = true;
    this.#notBefore = -Infinity;
  }

  /**
   * Looks after what is noted, between transactions of the link; to be called often. What a lock is in the way of, or what cannot be
   * known yet, stays for the next time. Throws BdrError where a policy cannot be carried out: then it stays, too.
   */
  async settle(): Promise<void> {
    if (!this.#isDue || performance.now() < this.#notBefore) return;
    const noted = await readLostWrites(this.#session, this.#options.provider, MOST_AT_ONCE);
    this.#isDue = noted.length > 0;
    if (!this.#isDue) return;
    this.#settler ??= new Settler(await this.#open(), this.#options);
    let isWaiting = false;
    for (const note of noted) {
      if (!(await this.#settler.settle(note))) isWaiting = true;
    }
    if (isWaiting) this.#notBefore = performance.now() + AGAIN_MS;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#settler?.session.close();
  }
}

/** Settles one note after the other, each in a transaction. */
class Settler {
  readonly session: Session;
  readonly #tables: TableMap;
  readonly #onTable: TableStatements;
  readonly #rows: LocalRows;
  readonly #tombstones: Tombstones;
  readonly #pending: PendingConflicts;
  readonly #provider: NodeId;
  readonly #origins: () => OriginMap;
  readonly #nameOf: (node: NodeId) => string;
  readonly #history: HistoryOptions;

  constructor(session: Session, { provider, origins, nameOf, history }: SettlerOptions) {
    this.session = session;
    this.#tables = new TableMap(session);
    const statements = new PreparedStatements(session);
    this.#onTable = new TableStatements(session, statements);
    this.#rows = new LocalRows(session, this.#onTable, origins);
    this.#tombstones = new Tombstones(statements, origins);
    this.#pending = new PendingConflicts(session, () => origins().local.id);
    this.#provider = provider;
    this.#origins = origins;
    this.#nameOf = nameOf;
    this.#history = history;
  }

  /** False where it has to wait. */
  async settle(note: LostWrite): Promise<boolean> {
    try {
      return await this.#attempt(note).catch((error: unknown) => {
        if (!(error instanceof ValueTaken)) throw error;
        // A row may have come under its key meanwhile: then somebody has written since. Else it is another unique index.
        return this.#attempt(note, { standsIfTaken: true });
      });
    } catch (error) {
      throw this.#explained(error);
    }
  }

  #explained(error: unknown): unknown {
    const sqlstate = sqlstateOf(error);
    if (this.session.lost.aborted || sqlstate === undefined) return error;
    return new BdrError('apply_failed', {
      message: `what a conflict policy asks for could not be written: ${messageOf(error)}`,
      detail: (error as { detail?: string }).detail,
      hint: 'It is noted in bdr.lost_write and tried again. Mend what is in its way, or DELETE the note: then what stands stays.',
      sqlstate,
      cause: error,
    });
  }

  /** `standsIfTaken`: what stands is left where the row that the policy prefers has a value of a unique index that another row has. */
  async #attempt(note: LostWrite, options = { standsIfTaken: false }): Promise<boolean> {
    const { session } = this;
    this.#pending.clear();
    try {
      const gate = await enterApplyGate(session, LONG_AGO);
      if (gate) this.#tables.defined(gate.definitions);
      const isDone = gate !== undefined && !gate.paused && (await this.#settle(note, options));
      await session.script(isDone ? 'COMMIT' : 'ROLLBACK');
      return isDone;
    } catch (error) {
      if (session.lost.aborted) throw error;
      this.#tables.forget();
      await session.script('ROLLBACK');
      if (!isLockConflict(error)) throw error;
      return false;
    }
  }

  async #settle(note: LostWrite, options: { standsIfTaken: boolean }): Promise<boolean> {
    if (!(await forgetLostWrite(this.session, note))) return true;
    const table = await seekKeyedTable(this.session, this.#tables, note.relation);
    if (!table?.policy) return true;
    if (!(await this.#tables.hold(table))) return false;
    if (!(await passesLockGate(this.session, table.local.oid))) return false;
    const about = await this.#caseOf(note, table, table.policy);
    if (about && about !== 'wait') await this.#carryOut(about, options);
    // The code of users takes the mark of the session with it.
    if (table.role !== undefined || table.policy.name === 'handler') {
      await markAgentSession(this.session);
    }
    return about !== 'wait';
  }

  async #carryOut(about: Case, { standsIfTaken }: { standsIfTaken: boolean }): Promise<void> {
    const outcome = await this.#outcome(about);
    if (!outcome) return;
    const { row, resolution } = outcome;
    await this.#record(about, { resolution, rule: 'lost_write', action: actionOf(about, row) });
    if (standsIfTaken) await this.session.script(`SAVEPOINT ${WRITE_SAVEPOINT}`);
    try {
      await this.#write(about, row);
    } catch (error) {
      if (!hasSqlstate(error, SQLSTATE.uniqueViolation)) throw error;
      if (!standsIfTaken) throw new ValueTaken(messageOf(error), { cause: error });
      await this.session.script(`ROLLBACK TO SAVEPOINT ${WRITE_SAVEPOINT}`);
      this.#pending.clear();
      await this.#record(about, LOST_IN_INDEX);
    }
    await this.#pending.write();
  }

  /** Undefined where somebody has written there since, or where this node had deleted nothing. */
  async #caseOf(
    note: LostWrite,
    table: Table,
    policy: TablePolicy,
  ): Promise<Case | 'wait' | undefined> {
    const key = valuesOfStored(table, note.key);
    if (!key) return undefined;
    const found = await this.#rows.find(table, key, LONG_AGO);
    const common = { note, table, policy, key, found };
    if (note.localRow !== null) {
      const stands = found
        ? this.#isAsItCame(found, note)
        : await this.#isStillGone(table, key, note);
      if (!stands) return undefined;
      const lost = JSON.parse(note.localRow) as Texts;
      return { ...common, lost, lostAt: note.localTime ?? LONG_AGO };
    }
    if (!found || !this.#isAsItCame(found, note)) return undefined;
    // A deletion of this node that was there by then is remembered once the own stream has come to it.
    if ((await readOwnWatermark(this.session)) < note.notedAt) return 'wait';
    const deletion = await this.#tombstones.find(table, keyParams(table, key));
    const isOurs = deletion && sameNode(deletion.writer.id, this.#origins().local.id);
    if (!isOurs || deletion.time <= note.remote.seenUpTo) return undefined;
    return { ...common, lost: undefined, lostAt: deletion.time };
  }

  /** The row is the one that the transaction wrote which left the note. */
  #isAsItCame({ row }: FoundRow, { stampedAt }: LostWrite): boolean {
    return (
      row.kind === 'versioned' &&
      row.version.time === stampedAt &&
      sameNode(row.version.writer.id, this.#provider)
    );
  }

  /** The last that has deleted the row is the transaction which left the note. */
  async #isStillGone(table: Table, key: RowValues, { remote }: LostWrite): Promise<boolean> {
    const deletion = await this.#tombstones.find(table, keyParams(table, key));
    return (
      deletion !== undefined &&
      deletion.time === remote.time &&
      sameNode(deletion.writer.id, this.#provider)
    );
  }

  /** Undefined where what stands is to stand. */
  async #outcome(about: Case): Promise<Outcome | undefined> {
    const { policy, found, lost } = about;
    if (!found && !lost) return undefined;
    if (policy.name === 'handler') return this.#ask(about);
    const isKept = keepsLost(
      policy,
      { node: this.#nameOf(this.#origins().local.id), isDeletion: !lost },
      { node: this.#nameOf(this.#provider), isDeletion: !found },
    );
    return isKept ? { row: lost, resolution: 'skip_change' } : undefined;
  }

  async #ask(about: Case): Promise<Outcome | undefined> {
    const { note, table, key, found, lost, lostAt } = about;
    const handled = await askHandlers(this.session, {
      table,
      type: typeOf(about),
      change: note.remote.kind,
      local: lost,
      remote: found ? await this.#texts(table, found) : textsOf(table, key),
      times: found && lost ? [note.remote.time, lostAt] : undefined,
    });
    if (!handled) return undefined;
    return handled.action === 'row'
      ? { row: handled.row, resolution: 'conflict_trigger_returned_tuple' }
      : { row: lost, resolution: 'conflict_trigger_skip_change' };
  }

  async #texts(table: Table, { ctid }: FoundRow): Promise<Texts> {
    const [row] = await this.#onTable.rows<{ texts: string }>(table, sql.rowAsTextsSql(table), [
      ctid,
    ]);
    return JSON.parse(row?.texts ?? '{}') as Texts;
  }

  async #write({ table, found }: Case, row: Texts | undefined): Promise<void> {
    if (!row) {
      if (found) await this.#onTable.run(table, sql.lockedDeleteSql(table), [found.ctid]);
      return;
    }
    const values = valuesOf(table, row);
    // A column that was added since keeps what it has.
    const columns = sql.writable(table).filter(({ name }) => Object.hasOwn(row, name));
    const settable = sql.settable(columns);
    if (found && settable.length > 0 && !hasFixedColumn(table)) {
      const params = [...columnParams(settable, values), found.ctid];
      await this.#onTable.run(table, sql.lockedUpdateSql(table, settable), params);
      return;
    }
    // No UPDATE can do that.
    if (found) await this.#onTable.run(table, sql.lockedDeleteSql(table), [found.ctid]);
    const inserted = [...columns, ...table.kept.filter(({ name }) => Object.hasOwn(row, name))];
    const params = columnParams(inserted, values);
    await this.#onTable.run(table, sql.insertSql(table, inserted, false), params);
  }

  /** Before anything is overwritten. */
  async #record(about: Case, settled: Settled): Promise<void> {
    if (!this.#history.isKept) return;
    const { note, table, policy, key, found, lost, lostAt } = about;
    const origins = this.#origins();
    const { withRows } = this.#history;
    const columns = withRows && lost ? sql.writable(table) : table.key.columns;
    const values = lost ? valuesOf(table, lost) : key;
    const isRead = withRows && found !== undefined;
    const [read] = await this.#onTable.rows<Record<'local' | 'remote' | 'key', string | null>>(
      table,
      sql.conflictRowsSql(table, { found: isRead, columns, key: table.key.columns }),
      [...columnParams(columns, values), ...(isRead ? [found.ctid] : [])],
    );
    const local = lostAt === LONG_AGO ? null : { time: lostAt, writer: origins.local };
    const change = { time: note.remote.time, writer: writerWithId(origins, this.#provider) };
    await this.#pending.add({
      table: table.local.name,
      key: read?.key ?? null,
      type: typeOf(about),
      ...settled,
      policy: policy.name,
      certainlyConcurrent: areCertainlyConcurrent(change, local ?? undefined, origins.local.id),
      local: {
        row: withRows && lost ? (read?.remote ?? null) : null,
        xmin: found?.xmin ?? null,
        version: local,
      },
      remote: {
        row: read?.local ?? null,
        node: this.#provider,
        xid: note.remote.xid,
        commitTime: note.remote.time,
        commitLsn: note.remote.lsn,
      },
    });
  }
}

function typeOf({ note, found, lost }: Case): ConflictType {
  if (!found || !lost) return 'update_delete';
  return note.remote.kind === 'insert' ? 'insert_insert' : 'update_update';
}

function actionOf({ found }: Case, row: Texts | undefined): ConflictAction {
  if (!row) return 'delete';
  return found ? 'update' : 'insert';
}

function valuesOf(table: Table, row: Texts): RowValues {
  return [...table.columns, ...table.kept].map(({ name }) => row[name] ?? null);
}

/** A row of which only the key has values. */
function textsOf(table: Table, key: RowValues): Texts {
  const text = ({ position }: TableColumn) => {
    const value = key[position];
    return value === null || value === undefined ? null : String(value);
  };
  return Object.fromEntries(table.key.columns.map((column) => [column.name, text(column)]));
}
