import { pause } from '../base/wait.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import { readSentTables, type DueStep, type PeerRows } from '../catalog/clock-steps.ts';
import { passesLockGate } from '../catalog/lock-gates.ts';
import { readDefinitions } from '../catalog/restricted.ts';
import { describeTable } from '../postgres/describe-table.ts';
import type { Param, Session } from '../postgres/session.ts';
import { isLockConflict } from './lock-conflict.ts';
import { PreparedStatements } from './prepared.ts';
import {
  hasLateRowsSql,
  hasOldRowsSql,
  hasPeerRowsSql,
  rewriteLateRowsSql,
  rewriteOldRowsSql,
  rewritePeerRowsSql,
} from './statements.ts';
import type { Table } from './table.ts';
import { TableMap } from './table-map.ts';
import { TableStatements } from './table-statements.ts';

/** So many rows are written again in one transaction. */
const BATCH = 1000;
/** Users' transactions may hold the rows that are left: mostly to write them themselves. */
const LOCKED_MS = 200;

/** Which rows of a table are written again. */
interface Which {
  readonly rewriteSql: (table: Table, most: number) => string | undefined;
  readonly anySql: (table: Table) => string;
  readonly params: readonly Param[];
}

/**
 * Writes again, unchanged, the rows that this node's users wrote from one transaction on, at times up to a given one: as ordinary
 * transactions of this node, which its peers receive, so that the rows have versions of now. And later rows that peers' changes have
 * written here since: one of them may be newer than the row whose place it has taken, and older than the one that users had overwritten by
 * that, to which it has lost at the peers. With a version of now it wins there, too.
 *
 * All tables are read for that. Which rows they are could be had from the log as well; but a clock steps back seldom, and the own
 * stream would have to decode every insert and update for it.
 */
export class RowRewriter {
  readonly #session: Session;
  readonly #signal: AbortSignal;
  readonly #tables: TableMap;
  readonly #onTable: TableStatements;

  constructor(session: Session, signal: AbortSignal) {
    this.#session = session;
    this.#signal = signal;
    this.#tables = new TableMap(session);
    this.#onTable = new TableStatements(session, new PreparedStatements(session));
  }

  /** Those of users. Returns how many rows it was. */
  async rewriteLate({ oldestXid, upTo }: DueStep): Promise<number> {
    let count = 0;
    for (const { oid } of await readSentTables(this.#session)) {
      count += await this.#rewrite(oid, {
        rewriteSql: rewriteLateRowsSql,
        anySql: hasLateRowsSql,
        params: [formatPgTime(upTo), oldestXid],
      });
    }
    return count;
  }

  /** Those of peers. */
  async rewriteOfPeers({ oldestXid, endXid, from, upTo }: PeerRows): Promise<number> {
    let count = 0;
    for (const { oid, isOwn } of await readSentTables(this.#session)) {
      if (isOwn) continue;
      count += await this.#rewrite(oid, {
        rewriteSql: rewritePeerRowsSql,
        anySql: hasPeerRowsSql,
        params: [formatPgTime(from), formatPgTime(upTo), oldestXid, endXid],
      });
    }
    return count;
  }

  /** The same for all rows of a table that were committed up to a time, by whomever. */
  rewriteTable(oid: string, upTo: PgTime): Promise<number> {
    return this.#rewrite(oid, {
      rewriteSql: rewriteOldRowsSql,
      anySql: hasOldRowsSql,
      params: [formatPgTime(upTo)],
    });
  }

  async #rewrite(oid: string, which: Which): Promise<number> {
    let count = 0;
    for (;;) {
      this.#signal.throwIfAborted();
      const { rewritten, left } = await this.#rewriteSome(oid, which);
      count += rewritten;
      if (!left) return count;
      if (rewritten === 0) await pause(LOCKED_MS, this.#signal);
    }
  }

  async #rewriteSome(
    oid: string,
    { rewriteSql, anySql, params }: Which,
  ): Promise<{ rewritten: number; left: boolean }> {
    this.#tables.defined(await readDefinitions(this.#session));
    try {
      return await this.#session.transaction(async () => {
        this.#tables.begin();
        const table = await this.#find(oid);
        // Without a key no later change can meet such a row.
        if (table?.key.kind !== 'unique') return { rewritten: 0, left: false };
        if (!(await passesLockGate(this.#session, oid))) return { rewritten: 0, left: true };
        const sql = rewriteSql(table, BATCH);
        const rewritten = sql === undefined ? 0 : await this.#onTable.runOnce(table, sql, params);
        if (sql === undefined || rewritten === BATCH) return { rewritten, left: sql !== undefined };
        const [row] = await this.#onTable.rowsOnce<{ any: string }>(table, anySql(table), params);
        return { rewritten, left: row?.any === 't' };
      });
    } catch (error) {
      this.#tables.forget();
      if (this.#session.lost.aborted || !isLockConflict(error)) throw error;
      return { rewritten: 0, left: true };
    }
  }

  /** Undefined for a table that is gone by now. */
  async #find(oid: string): Promise<Table | undefined> {
    const relation = await describeTable(this.#session, oid);
    return relation && this.#tables.find(relation);
  }
}
