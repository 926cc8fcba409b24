import { assert } from '../base/assert.ts';
import { quoteIdent, quoteLiteral, quoteQualified } from '../base/names.ts';
import { formatPgTime, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { NotedKeys } from '../catalog/lost-values.ts';
import { insertRowVersions, type RowVersion } from '../catalog/row-versions.ts';
import { relayCopy } from '../postgres/copy-relay.ts';
import type { Session } from '../postgres/session.ts';
import { subscriberPrefix } from '../model/link.ts';
import type { NodeId } from '../model/node.ts';
import type { CopyPiece } from './copy-pieces.ts';
import type { CopyTable, ListedTable } from './copy-table.ts';
import type { ReadTable } from './read-table.ts';

/**
 * The tables that a node replicates, largest first, so that the last ones to finish are small; with `subscriber`, those of which it
 * sends the rows there.
 */
export async function listTables(source: Session, subscriber?: NodeId): Promise<ListedTable[]> {
  const rows = await source.query<{
    schema: string;
    name: string;
    columns: string;
    key: string;
    portable: string;
    filter: string | null;
    rows: string;
    bytes: string;
    blocks: string;
  }>(
    /* sql */ `
    WITH RECURSIVE tables AS (
        SELECT t::oid AS oid FROM bdr.internal_replicated_tables() AS t
        WHERE $1::text IS NULL OR EXISTS (
            SELECT FROM pg_publication_rel AS r
            JOIN pg_publication AS p ON p.oid = r.prpubid
            WHERE r.prrelid = t AND p.pubname IN ('bdr', $1 || '_insert')
        )
    ),
    -- Every type that a column's values are made of: array elements, domains' base types, fields, range bounds.
    parts (relation, type, inside) AS (
        SELECT a.attrelid, a.atttypid, false
        FROM pg_attribute AS a JOIN tables AS t ON t.oid = a.attrelid
        WHERE a.attnum > 0 AND NOT a.attisdropped
        UNION
        SELECT p.relation, part.type, p.inside OR part.named
        FROM parts AS p
        JOIN pg_type AS y ON y.oid = p.type
        CROSS JOIN LATERAL (
            -- The format names the type of what is inside arrays and composites, not of what is inside domains and ranges.
            SELECT y.typelem AS type, true AS named WHERE y.typelem <> 0
            UNION ALL SELECT y.typbasetype, false WHERE y.typbasetype <> 0
            UNION ALL SELECT f.atttypid, true FROM pg_attribute AS f
                      WHERE f.attrelid = y.typrelid AND y.typrelid <> 0 AND f.attnum > 0 AND NOT f.attisdropped
            UNION ALL SELECT r.rngsubtype, false FROM pg_range AS r WHERE y.oid IN (r.rngtypid, r.rngmultitypid)
        ) AS part
    )
    SELECT n.nspname AS schema, c.relname AS name,
           (SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
              -- What stays on each node is not copied.
              AND a.attname <> ALL (bdr.internal_local_columns(c.oid))) AS columns,
           coalesce((SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_index AS i
                     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                     -- What changes will find the row by.
                     WHERE i.indrelid = c.oid
                       AND CASE WHEN c.relreplident = 'i' THEN i.indisreplident ELSE i.indisprimary END), '[]') AS key,
           NOT EXISTS (
               SELECT FROM parts AS p JOIN pg_type AS y ON y.oid = p.type
               -- Types without a binary form, and users' types that the format would name by OID.
               WHERE p.relation = c.oid AND ((p.inside AND p.type >= 16384) OR y.typsend = 0 OR y.typreceive = 0)
           ) AS portable,
           (SELECT f.filter FROM bdr.internal_published_filters(c.oid, $1 || '_insert') AS f
            WHERE $1 IS NOT NULL) AS filter,
           greatest(c.reltuples, 0)::bigint AS rows,
           pg_table_size(c.oid) AS bytes,
           CASE WHEN m.amname = 'heap'
                THEN pg_relation_size(c.oid) / current_setting('block_size')::integer ELSE 0 END AS blocks
    FROM tables AS t
    JOIN pg_class AS c ON c.oid = t.oid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_am AS m ON m.oid = c.relam
    ORDER BY pg_table_size(c.oid) DESC, 1, 2
  `,
    [subscriber ? subscriberPrefix(subscriber) : null],
  );
  return rows.map((row) => ({
    name: { schema: row.schema, name: row.name },
    columns: JSON.parse(row.columns ?? '[]') as string[],
    key: JSON.parse(row.key) as string[],
    format: row.portable === 't' ? 'binary' : 'text',
    filter: row.filter ?? undefined,
    rows: Number(row.rows),
    bytes: Number(row.bytes),
    blocks: Number(row.blocks),
  }));
}

export interface CopyRowsOptions {
  readonly onBytes: (bytes: number) => void;
  readonly signal: AbortSignal;
}

/** Streams a table, or a piece of one, from the source's snapshot into the target's open transaction. Returns how many rows there were. */
export async function copyRows(
  source: Session,
  target: Session,
  piece: CopyPiece,
  options: CopyRowsOptions,
): Promise<number> {
  const { name, format } = piece.table;
  return relayCopy(
    source,
    copyOutSql(piece, format),
    target,
    `COPY ${quoteQualified(name)}${columnList(piece.table)} FROM STDIN WITH (FORMAT ${format})${copyInFilter(piece.table)}`,
    options,
  );
}

/** Reads a table, or a piece of one. */
export function copyOutSql({ table, where }: CopyPiece, format: CopyTable['format']): string {
  const name = quoteQualified(table.name);
  if (table.isReadWhole) {
    assert(where === undefined, 'a table that is read whole is one piece');
    return `COPY ${name}${columnList(table)} TO STDOUT WITH (FORMAT ${format})`;
  }
  const columns = table.columns.map(quoteIdent).join(', ');
  const conditions = [where, table.filter].filter((condition) => condition !== undefined);
  const condition = conditions.length === 0 ? '' : ` WHERE (${conditions.join(') AND (')})`;
  return `COPY (SELECT ${columns} FROM ONLY ${name}${condition}) TO STDOUT WITH (FORMAT ${format})`;
}

/** What a COPY into the target, or into a table beside it, leaves out: of a table that had to be read whole. */
export function copyInFilter({ filter, isReadWhole }: CopyTable): string {
  return isReadWhole && filter !== undefined ? ` WHERE (${filter})` : '';
}

/** A table without a column has rows all the same; COPY knows no empty list. */
export function columnList({ columns }: CopyTable): string {
  return columns.length === 0 ? '' : ` (${columns.map(quoteIdent).join(', ')})`;
}

/**
 * Copies the true versions of the rows that were written after `watermark`: a change that is still on its way may be older than
 * they are. Everything up to the watermark is older than whatever may come. And those of the rows under `noted` keys, which are to be read
 * again from whoever wrote them, and to keep their versions then. `versionsThere`: those that the source itself keeps of the table.
 */
export async function copyRowVersions(
  read: ReadTable,
  target: Session,
  { table, where }: CopyPiece,
  watermark: PgTime,
  noted: NotedKeys | undefined,
  writerOfOrigin: (origin: number) => NodeId | undefined,
  versionsThere: () => Promise<readonly RowVersion[]>,
): Promise<void> {
  if (table.key.length === 0) return;
  const key = table.key
    .map((name) => `${quoteLiteral(name)}, t.${quoteIdent(name)}::text`)
    .join(', ');
  const rows = await read<{ key: string; time: string; origin: string }>(
    table,
    `SELECT jsonb_build_object(${key})::text AS key,` +
      ` ${pgTimeSql('(pg_xact_commit_timestamp_origin(t.xmin)).timestamp')}::text AS time,` +
      ` (pg_xact_commit_timestamp_origin(t.xmin)).roident::text AS origin` +
      ` FROM ONLY ${quoteQualified(table.name)} AS t` +
      ` WHERE (pg_xact_commit_timestamp(t.xmin) > ${quoteLiteral(formatPgTime(watermark))}::timestamptz` +
      `${orNoted(noted)})` +
      (where === undefined ? '' : ` AND ${where}`) +
      (table.filter === undefined ? '' : ` AND (${table.filter})`),
  );
  const versions: RowVersion[] = [];
  /** The source has copied them itself when it joined: their stamps are that copy's. */
  const copied = new Set<string>();
  for (const row of rows) {
    const node = writerOfOrigin(Number(row.origin));
    if (node) versions.push({ key: row.key, time: Number(row.time) as PgTime, node });
    else copied.add(row.key);
  }
  if (copied.size > 0) {
    versions.push(...(await versionsThere()).filter(({ key }) => copied.has(key)));
  }
  await insertRowVersions(target, table.name, versions);
}

/** As a set that is made once, and looked into for each row. */
function orNoted(noted: NotedKeys | undefined): string {
  if (!noted) return '';
  const { columns, values } = noted;
  const names = columns.map(({ name }) => `t.${quoteIdent(name)}`);
  const keys = columns.map(({ type }, index) => `(k.key ->> ${index})::${type}`);
  return (
    ` OR pg_xact_commit_timestamp(t.xmin) IS NOT NULL AND (${names.join(', ')}) IN (` +
    `SELECT ${keys.join(', ')} FROM jsonb_array_elements(${quoteLiteral(values)}::jsonb) AS k (key))`
  );
}
