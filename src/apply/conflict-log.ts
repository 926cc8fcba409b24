import { recordConflict } from '../catalog/conflict-history.ts';
import type { ChangeKind, Decision } from '../conflict/decide.ts';
import type { Writer } from '../conflict/version.ts';
import type { Session } from '../postgres/session.ts';
import type { TransactionCounts } from './apply-counts.ts';
import type { ChangeContext } from './change-context.ts';
import { columnParams, type FoundRow, type LocalRows } from './local-rows.ts';
import { UNSENT, type RowValues } from './row-values.ts';
import { rowJsonSql, writable } from './statements.ts';
import { isOwn, type Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';
import type { OriginMap } from './writers.ts';

/** Counts conflicts and keeps them in the history, with both rows as they were before the conflict was resolved. */
export class ConflictLog {
  readonly #session: Session;
  readonly #statements: TableStatements;
  readonly #rows: LocalRows;
  readonly #provider: Writer;
  readonly #origins: () => OriginMap;
  readonly #counts: TransactionCounts;

  constructor(
    session: Session,
    statements: TableStatements,
    rows: LocalRows,
    provider: Writer,
    origins: () => OriginMap,
    counts: TransactionCounts,
  ) {
    this.#session = session;
    this.#statements = statements;
    this.#rows = rows;
    this.#provider = provider;
    this.#origins = origins;
    this.#counts = counts;
  }

  /** Call it before the decision is carried out. `values` is the change's row, or for a delete its key. */
  async add(
    kind: ChangeKind,
    table: Table,
    { conflict }: Decision,
    values: RowValues,
    found: FoundRow | undefined,
    context: ChangeContext,
  ): Promise<void> {
    // The group's own tables change on several nodes by design, and hold DSNs: nothing for a history.
    if (!conflict || isOwn(table.relation)) return;
    this.#counts.conflict(kind);
    await recordConflict(this.#session, this.#origins().local.id, {
      table: table.local.name,
      type: conflict.type,
      resolution: conflict.resolution,
      local: {
        row: found ? await this.#rows.json(table, found) : null,
        xmin: found?.xmin ?? null,
        version: found?.row.kind === 'versioned' ? found.row.version : null,
      },
      remote: {
        row: await this.#remoteJson(kind, table, values),
        node: this.#provider.id,
        xid: context.xid,
        commitTime: context.commitTime,
        commitLsn: context.commitLsn,
      },
    });
  }

  async #remoteJson(kind: ChangeKind, table: Table, values: RowValues): Promise<string | null> {
    const sent = writable(table, (position) => values[position] !== UNSENT);
    // Of a deleted row often only the key was sent: the rest would show as null.
    const columns =
      kind === 'delete' ? sent.filter(({ position }) => values[position] !== null) : sent;
    if (columns.length === 0) return null;
    const [row] = await this.#statements.rowsOnce<{ row: string }>(
      table,
      rowJsonSql(columns),
      columnParams(columns, values),
    );
    return row?.row ?? null;
  }
}
