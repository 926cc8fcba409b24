import { BdrError, messageOf } from '../base/errors.ts';
import { displayName } from '../base/names.ts';
import { rowsOf, rowsStatement, runRestricted } from '../catalog/restricted.ts';
import type { Param, Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import { GivenIdentities } from './identity.ts';
import { inlined } from './inlined.ts';
import type { PreparedStatements } from './prepared.ts';
import type { Table } from './table.ts';

/**
 * Runs statements on users' tables. Where that runs code of the table's owner, looking at it included, they run with the owner's
 * rights (docs/decisions/0019-users-code-in-restricted-operations.md).
 */
export class TableStatements {
  readonly #session: Session;
  readonly #prepared: PreparedStatements;
  readonly #identities: GivenIdentities;

  constructor(session: Session, prepared: PreparedStatements) {
    this.#session = session;
    this.#prepared = prepared;
    this.#identities = new GivenIdentities(session);
  }

  rows<Row extends object>(table: Table, sql: string, params: readonly Param[]): Promise<Row[]> {
    return table.role === undefined
      ? this.#prepared.rows(sql, params)
      : this.#readAsOwner(table, table.role, sql, params);
  }

  /** As `rows`, for what is asked seldom: it is not kept prepared. */
  rowsOnce<Row extends object>(
    table: Table,
    sql: string,
    params: readonly Param[],
  ): Promise<Row[]> {
    return table.role === undefined
      ? this.#session.query(sql, params)
      : this.#readAsOwner(table, table.role, sql, params);
  }

  /** Runs an INSERT, UPDATE or DELETE; returns how many rows it took. It is sent before this returns. */
  run(table: Table, sql: string, params: readonly Param[]): Promise<number> {
    return this.#change(table, sql, () =>
      table.role === undefined
        ? this.#prepared.run(sql, params)
        : this.#writeAsOwner(table, table.role, sql, params),
    );
  }

  /** As `run`, for what is done seldom. */
  runOnce(table: Table, sql: string, params: readonly Param[]): Promise<number> {
    return this.#change(table, sql, () =>
      table.role === undefined
        ? this.#session.run(sql, params)
        : this.#writeAsOwner(table, table.role, sql, params),
    );
  }

  /** Work of many statements that update or delete, for which a table without replica identity is given one once. */
  changing<Result>(table: Table, work: () => Promise<Result>): Promise<Result> {
    return this.#identities.during(table, work);
  }

  /** As `run`, for a statement that takes one row or none. */
  async takes(table: Table, sql: string, params: readonly Param[]): Promise<boolean> {
    return (await this.run(table, sql, params)) > 0;
  }

  #change(table: Table, sql: string, run: () => Promise<number>): Promise<number> {
    const { missingIdentity } = table.local;
    // Rows are inserted into any table.
    if (missingIdentity === undefined || /^\s*INSERT\b/.test(sql)) return run();
    return this.#identities.during(table, run);
  }

  async #readAsOwner<Row extends object>(
    table: Table,
    role: string,
    sql: string,
    params: readonly Param[],
  ): Promise<Row[]> {
    const answer = await this.#asOwner(table, role, rowsStatement(inlined(sql, params)));
    return rowsOf<Row>(answer, asText);
  }

  async #writeAsOwner(
    table: Table,
    role: string,
    sql: string,
    params: readonly Param[],
  ): Promise<number> {
    return Number(await this.#asOwner(table, role, inlined(sql, params)));
  }

  async #asOwner(table: Table, role: string, statement: string): Promise<string> {
    try {
      return await runRestricted(this.#session, role, statement);
    } catch (error) {
      if (!hasSqlstate(error, SQLSTATE.insufficientPrivilege)) throw error;
      const name = displayName(table.local.name);
      throw new BdrError('apply_failed', {
        message: `a replicated change of table ${name} could not be applied with the rights of the table's owner: ${messageOf(error)}`,
        detail:
          "Rows of this table run code of its owner, so they are read and written with the owner's rights, in a security-restricted operation as in the server's own logical replication: without deferred triggers, temporary tables, cursors WITH HOLD, prepared statements and changes of definitions.",
        hint: 'Grant the owner what he lacks on this node, take FORCE ROW LEVEL SECURITY from the table, or change the code that it calls; the link goes on by itself.',
        sqlstate: SQLSTATE.insufficientPrivilege,
        cause: error,
      });
    }
  }
}

/** Values as the driver gives them: the server's text, or null. */
function asText(_key: string, value: unknown): unknown {
  if (typeof value === 'number') return String(value);
  if (typeof value === 'boolean') return value ? 't' : 'f';
  return value;
}
