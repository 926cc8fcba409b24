import { readRowVersions } from '../catalog/row-versions.ts';
import { decide } from '../conflict/decide.ts';
import type { Version } from '../conflict/version.ts';
import type { Session } from '../postgres/session.ts';
import type { RowValues } from './row-values.ts';
import { rowWith, type Table } from './table.ts';
import { writerWithId, type OriginMap } from './writers.ts';

/** A row of a join's copy, by its key. */
export interface CopiedRow {
  /** As in bdr.row_version. */
  readonly json: string;
  readonly key: RowValues;
  readonly version: Version;
}

/**
 * Keys of a table's copied rows that are greater than a TRUNCATE of version `truncate`: those that it must leave. All that the copy
 * stamped and that are not among them are older, whatever the stamp says. Some may have been written over here since.
 */
export async function copiedRowsAbove(
  session: Session,
  table: Table,
  origins: OriginMap,
  truncate: Version,
): Promise<CopiedRow[]> {
  if (origins.copies.size === 0 || table.key.kind !== 'unique') return [];
  const versions = await readRowVersions(session, table.local.name, truncate.time);
  return versions.flatMap(({ key: json, time, node }) => {
    const version = { time, writer: writerWithId(origins, node) };
    const row = { kind: 'versioned', version } as const;
    if (decide('delete', truncate, row, truncate.time).action !== 'skip') return [];
    const values = JSON.parse(json) as Record<string, string | null>;
    const { columns } = table.key;
    const key = rowWith(table, columns, (index) => values[columns[index]?.name ?? '']);
    return { json, key, version };
  });
}
