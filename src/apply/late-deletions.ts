import { backoffMs } from '../base/backoff.ts';
import { BdrError } from '../base/errors.ts';
import { quoteQualified } from '../base/names.ts';
import { LONG_AGO } from '../base/pg-time.ts';
import { pause } from '../base/wait.ts';
import { enterApplyGate } from '../catalog/apply-gate.ts';
import type { DoneAgain, DueStep } from '../catalog/clock-steps.ts';
import {
  commitKeysAgain,
  commitTruncateAgain,
  forgetLateKeys,
  forgetLateTruncates,
  readLateKeys,
  readLateTables,
  readTruncatedAgain,
  type LateKey,
} from '../catalog/late-deletions.ts';
import { passesLockGate } from '../catalog/lock-gates.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import { describeTable } from '../postgres/describe-table.ts';
import type { Session } from '../postgres/session.ts';
import { BelowTombstones, soughtKeys } from './below-tombstones.ts';
import { LocalRows } from './local-rows.ts';
import { isLockConflict, LOCK_BACKOFF } from './lock-conflict.ts';
import type { HistoryOptions } from './pending-conflicts.ts';
import { PreparedStatements } from './prepared.ts';
import type { RowRewriter } from './row-rewriter.ts';
import { foundAmongSql, hasOldRowsSql, rewriteOldRowsSql } from './statements.ts';
import { valuesOfStored } from './stored-keys.ts';
import type { Table } from './table.ts';
import { TableMap } from './table-map.ts';
import { TableStatements } from './table-statements.ts';
import { Tombstones } from './tombstones.ts';
import type { OriginMap } from './writers.ts';

/** So many keys are looked after in one transaction. */
const BATCH = 1000;

/**
 * Makes again what users of this node deleted while its clock was behind (DESIGN 4.7): such a deletion is smaller than what it deleted,
 * so it has lost on other nodes, or let something older in. Once the clock has passed all that anybody has seen, it gets a new version.
 *
 * Where there is still no row, the peers are told of a deletion of the present time as they are told of rows that are lost in a unique
 * index: there is nothing here that a statement could delete. A row of another node that was written before the clock was right may
 * be what was deleted, or older: it goes. What is later than that stays, and so does what this node's users wrote.
 *
 * A TRUNCATE is told in the same way, and the rows that are here by then are written again behind it.
 *
 * Each transaction holds all apply, and begins when no other is open: so none is in the middle of bringing what the deletion is to
 * meet, and the next one finds it remembered.
 */
export class LateDeletions {
  readonly #session: Session;
  readonly #step: DueStep;
  readonly #origins: () => OriginMap;
  readonly #signal: AbortSignal;
  readonly #random: () => number;
  readonly #tables: TableMap;
  readonly #onTable: TableStatements;
  readonly #below: BelowTombstones;
  readonly #rewriter: RowRewriter;
  readonly #done = { rewritten: 0, deleted: 0, lost: 0 };

  /** `session` has no origin. */
  constructor(options: {
    session: Session;
    step: DueStep;
    origins: () => OriginMap;
    history: HistoryOptions;
    rewriter: RowRewriter;
    signal: AbortSignal;
    random: () => number;
  }) {
    const { session, origins, history } = options;
    this.#session = session;
    this.#step = options.step;
    this.#origins = origins;
    this.#signal = options.signal;
    this.#random = options.random;
    this.#rewriter = options.rewriter;
    const statements = new PreparedStatements(session);
    this.#tables = new TableMap(session);
    this.#onTable = new TableStatements(session, statements);
    const [onTable, rows] = [this.#onTable, new LocalRows(session, this.#onTable, origins)];
    this.#below = new BelowTombstones({ session, statements, onTable, rows, origins, history });
  }

  async makeAgain(): Promise<DoneAgain> {
    for (const { relation, isTruncated } of await readLateTables(this.#session, this.#step)) {
      if (isTruncated) await this.#truncateAgain(relation);
      else await this.#deleteAgain(relation);
    }
    return this.#done;
  }

  async #deleteAgain(relation: string): Promise<void> {
    for (;;) {
      const { keys, gone, lost } = await this.#alone(relation, async (table) => {
        const keys = await readLateKeys(this.#session, this.#step, relation, BATCH);
        const { gone, lost } = await this.#goneOf(table, keys);
        const others = keys.filter((key) => !gone.includes(key));
        await forgetLateKeys(this.#session, others);
        await commitKeysAgain(this.#session, gone);
        return { keys, gone, lost };
      });
      this.#done.deleted += gone.length;
      this.#done.lost += lost;
      if (keys.length < BATCH) return;
    }
  }

  /** Those under which there is nothing, once what they are to meet is removed; and how many cannot be looked for. */
  async #goneOf(
    table: Table | undefined,
    keys: readonly LateKey[],
  ): Promise<{ gone: readonly LateKey[]; lost: number }> {
    // Of a table that is gone there is nothing to delete.
    if (!table) return { gone: [], lost: 0 };
    const known = keys.flatMap((late) => {
      const key = Tombstones.byKey(table) ? valuesOfStored(table, late.key) : undefined;
      return key ? [{ late, key }] : [];
    });
    const lost = keys.length - known.length;
    if (known.length === 0) return { gone: [], lost };
    const sought = soughtKeys(
      table,
      known.map(({ key }) => key),
    );
    const version = { time: this.#step.upTo, writer: this.#origins().local };
    await this.#below.removeAmong(table, sought, 'others', () => version);
    const found = await this.#onTable.rows<{ n: string }>(
      table,
      foundAmongSql(table, 'anybody'),
      sought.columns,
    );
    const there = new Set(found.map(({ n }) => Number(n) - 1));
    return { gone: known.filter((_, at) => !there.has(at)).map(({ late }) => late), lost };
  }

  async #truncateAgain(relation: string): Promise<void> {
    const [session, step] = [this.#session, this.#step];
    const isDone = (await readTruncatedAgain(session, step, relation)) !== undefined;
    const outcome = isDone ? 'told' : await this.#tellTruncate(relation);
    const at = await readTruncatedAgain(session, step, relation);
    if (outcome === 'told' && at !== undefined) {
      this.#done.rewritten += await this.#rewriter.rewriteTable(relation, at);
      this.#done.deleted += 1;
      await forgetLateTruncates(session, step, relation);
    }
    if (outcome === 'lost') this.#done.lost += 1;
  }

  #tellTruncate(relation: string): Promise<'told' | 'lost' | 'gone'> {
    const [session, step] = [this.#session, this.#step];
    return this.#alone(relation, async (table) => {
      if (table) {
        // What users write is either here, and written again, or comes behind it.
        const name = quoteQualified(table.local.name);
        await session.script(`LOCK TABLE ONLY ${name} IN SHARE ROW EXCLUSIVE MODE`);
        if (await this.#canBeWrittenAgain(table)) {
          await this.#below.removeTruncated(table, step.upTo);
          await commitTruncateAgain(session, step, relation);
          return 'told';
        }
      }
      await forgetLateTruncates(session, step, relation);
      await session.script('COMMIT');
      return table ? 'lost' : 'gone';
    });
  }

  /** Whether each row of the table could be: or there is none. */
  async #canBeWrittenAgain(table: Table): Promise<boolean> {
    if (Tombstones.byKey(table) && rewriteOldRowsSql(table, 1) !== undefined) return true;
    const [row] = await this.#onTable.rowsOnce<{ any: string }>(table, hasOldRowsSql(table), [
      'infinity',
    ]);
    return row?.any !== 't';
  }

  /**
   * Does work in a transaction that holds all apply, with the table, if it is still there; the work commits. Again while locks are in
   * the way.
   */
  async #alone<T>(relation: string, work: (table: Table | undefined) => Promise<T>): Promise<T> {
    const session = this.#session;
    for (let failures = 1; ; failures++) {
      try {
        const gate = await enterApplyGate(session, LONG_AGO, true);
        if (!gate) {
          throw new BdrError('invalid_membership', { message: 'BDR was removed from this node' });
        }
        this.#tables.defined(gate.definitions);
        const described = await describeTable(session, relation);
        const table = described && (await this.#tables.seek(described));
        const mayWrite =
          !table ||
          ((await this.#tables.hold(table)) && (await passesLockGate(session, table.local.oid)));
        if (mayWrite) {
          const done = await work(table);
          // The code of users takes the mark of the session with it.
          if (table?.role !== undefined) await markAgentSession(session);
          return done;
        }
        await session.script('ROLLBACK');
      } catch (error) {
        if (session.lost.aborted) throw error;
        this.#tables.forget();
        await session.script('ROLLBACK');
        if (!isLockConflict(error)) throw error;
      }
      await pause(backoffMs(failures, LOCK_BACKOFF, this.#random), this.#signal);
      this.#signal.throwIfAborted();
    }
  }
}
