import type { PgTime } from '../base/pg-time.ts';
import { textArray } from '../base/text-array.ts';
import { findRowVersion } from '../catalog/row-versions.ts';
import type { LocalRow } from '../conflict/decide.ts';
import type { Param, Session } from '../postgres/session.ts';
import { UNSENT, type RowValues } from './row-values.ts';
import { fetchAllSql, fetchAmongSql, fetchSql, lockedColumnsSql } from './statements.ts';
import { rowWith, withKept, type Table, type TableColumn } from './table.ts';
import type { TableStatements } from './table-statements.ts';
import { writerOf, writerWithId, type OriginMap } from './writers.ts';

/** A local row, locked, with what decides about it. */
export interface FoundRow {
  readonly ctid: string;
  readonly xmin: string;
  readonly row: Exclude<LocalRow, { kind: 'missing' }>;
}

/** A row, and about how large its long values are as text, in bytes. */
export interface SizedRow extends FoundRow {
  readonly bytes: number;
}

interface FetchedRow {
  readonly ctid: string;
  readonly xmin: string;
  readonly key: string | null;
  readonly own: 't' | 'f' | null;
  readonly time: string | null;
  readonly origin: string | null;
}

/** Finds and locks the local rows that changes meet, and tells who wrote them when. */
export class LocalRows {
  readonly #session: Session;
  readonly #statements: TableStatements;
  readonly #origins: () => OriginMap;

  constructor(session: Session, statements: TableStatements, origins: () => OriginMap) {
    this.#session = session;
    this.#statements = statements;
    this.#origins = origins;
  }

  /** The row under the key of `values`, the provider's old row as far as it was sent. */
  async find(table: Table, values: RowValues, remoteTime: PgTime): Promise<FoundRow | undefined> {
    const params = keyParams(table, values);
    if (table.key.deferrable) params.push(...columnParams(table.key.alike, values));
    const [row] = await this.#statements.rows<FetchedRow>(table, fetchSql(table), params);
    return row && (await this.#found(table, row, remoteTime));
  }

  /**
   * As `find`, for many keys of a table whose key is not deferrable: in their order, undefined where no row is. `bytes` is 0 unless it is
   * asked for by `withBytes`.
   */
  async findAmong(
    table: Table,
    keys: readonly { readonly values: RowValues; readonly remoteTime: PgTime }[],
    withBytes: boolean,
  ): Promise<(SizedRow | undefined)[]> {
    const params = keys.map(({ values }) => keyParams(table, values));
    const found = new Map<number, SizedRow>();
    type Row = FetchedRow & { readonly n: string; readonly bytes: string };
    for (const row of await this.#statements.rows<Row>(
      table,
      fetchAmongSql(table, withBytes),
      keyColumns(table, params),
    )) {
      const at = Number(row.n) - 1;
      const key = keys[at];
      if (!key) continue;
      const one = await this.#found(table, row, key.remoteTime);
      found.set(at, { ...one, bytes: Number(row.bytes) });
    }
    return keys.map((_, at) => found.get(at));
  }

  /** All rows under a key: with a deferrable one, two rows may hold it until the transaction ends. */
  async findAll(table: Table, values: RowValues, remoteTime: PgTime): Promise<FoundRow[]> {
    const found: FoundRow[] = [];
    const rows = await this.#statements.rows<FetchedRow>(
      table,
      fetchAllSql(table),
      keyParams(table, values),
    );
    for (const row of rows) found.push(await this.#found(table, row, remoteTime));
    return found;
  }

  /** The rows, with their keys where they have one, that a statement finds whose select list is rowFacts(). */
  async foundBy(
    table: Table,
    text: string,
    params: readonly Param[],
    remoteTime: PgTime,
  ): Promise<(FoundRow & { readonly key: RowValues })[]> {
    const found: (FoundRow & { readonly key: RowValues })[] = [];
    for (const row of await this.#statements.rows<FetchedRow>(table, text, params)) {
      const values = JSON.parse(row.key ?? '{}') as Record<string, string | null>;
      const { columns } = table.key;
      const key = rowWith(table, columns, (index) => values[columns[index]?.name ?? '']);
      found.push({ ...(await this.#found(table, row, remoteTime)), key });
    }
    return found;
  }

  /** The values, with those that were not sent as the row has them. */
  async filled(table: Table, { ctid }: FoundRow, values: RowValues): Promise<RowValues> {
    const unsent = table.columns.filter(
      ({ local, position }) => local !== undefined && values[position] === UNSENT,
    );
    if (unsent.length === 0) return values;
    const [row] = await this.#statements.rowsOnce<Record<string, string | null>>(
      table,
      lockedColumnsSql(table, unsent),
      [ctid],
    );
    const filled = [...values];
    for (const { name, position } of unsent) filled[position] = row?.[name] ?? null;
    return filled;
  }

  /** The row to be inserted in the place of one, with what this node has there in columns that changes leave alone. */
  async withKept(table: Table, { ctid }: FoundRow, values: RowValues): Promise<RowValues> {
    if (table.kept.length === 0) return values;
    const [row] = await this.#statements.rowsOnce<Record<string, string | null>>(
      table,
      lockedColumnsSql(table, table.kept),
      [ctid],
    );
    return withKept(
      table,
      values,
      table.kept.map(({ name }) => row?.[name] ?? null),
    );
  }

  async #found(table: Table, fetched: FetchedRow, remoteTime: PgTime): Promise<FoundRow> {
    const { ctid, xmin } = fetched;
    return { ctid, xmin, row: await this.#localRow(table, fetched, remoteTime) };
  }

  async #localRow(table: Table, fetched: FetchedRow, remoteTime: PgTime): Promise<FoundRow['row']> {
    if (fetched.own === 't') return { kind: 'own' };
    if (fetched.time === null || fetched.origin === null) return { kind: 'unrecorded' };
    const origins = this.#origins();
    const time = Number(fetched.time) as PgTime;
    const origin = Number(fetched.origin);
    if (!origins.copies.has(origin)) {
      return { kind: 'versioned', version: { time, writer: writerOf(origins, origin) } };
    }
    // A copied row carries the copy's stamp, which is at or above its true version.
    if (remoteTime > time || fetched.key === null) return { kind: 'older' };
    const version = await findRowVersion(this.#session, table.local.name, fetched.key);
    if (!version) return { kind: 'older' };
    return {
      kind: 'versioned',
      version: { time: version.time, writer: writerWithId(origins, version.node) },
    };
  }
}

/** The values of columns as parameters; one that was not sent is null. */
export function columnParams(columns: readonly TableColumn[], values: RowValues): Param[] {
  return columns.map(({ position }) => {
    const value = values[position];
    return value === undefined || value === UNSENT ? null : value;
  });
}

export function keyParams(table: Table, values: RowValues): Param[] {
  return columnParams(table.key.columns, values);
}

/** Many keys, column by column: for each column of the key a text[] as text. */
export function keyColumns(table: Table, keys: readonly (readonly Param[])[]): string[] {
  return table.key.columns.map((_, index) =>
    textArray(keys.map((key) => key[index]?.toString() ?? null)),
  );
}
