import type { QualifiedName } from '../base/names.ts';
import { formatPgTime, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';

/** True versions of copied rows that changes still on their way may have to be compared with (DESIGN 7). */
export interface RowVersion {
  /** The key's columns by name with their values as text: JSON text, as bdr.row_version.row_key. */
  readonly key: string;
  readonly time: PgTime;
  readonly node: NodeId;
}

export async function findRowVersion(
  session: Session,
  table: QualifiedName,
  key: string,
): Promise<RowVersion | undefined> {
  const { rows } = await session.execute<{
    time: string;
    sysid: string;
    timeline: string;
    dboid: string;
  }>(
    'bdr_find_row_version',
    /* sql */ `
      SELECT ${pgTimeSql('v.committed_at')} AS time,
             v.node_sysid AS sysid, v.node_timeline AS timeline, v.node_dboid AS dboid
      FROM bdr.row_version AS v
      WHERE v.schema_name = $1 AND v.table_name = $2 AND v.row_key = $3::jsonb
    `,
    [table.schema, table.name, key],
  );
  const [row] = rows;
  return (
    row && {
      key,
      time: Number(row.time) as PgTime,
      node: { sysid: row.sysid, timeline: Number(row.timeline), dboid: Number(row.dboid) },
    }
  );
}

/** The versions of one table's rows that are of a time or later. */
export async function readRowVersions(
  session: Session,
  table: QualifiedName,
  from: PgTime,
): Promise<RowVersion[]> {
  const rows = await session.query<{
    key: string;
    time: string;
    sysid: string;
    timeline: string;
    dboid: string;
  }>(
    /* sql */ `
      SELECT v.row_key::text AS key, ${pgTimeSql('v.committed_at')} AS time,
             v.node_sysid AS sysid, v.node_timeline AS timeline, v.node_dboid AS dboid
      FROM bdr.row_version AS v
      WHERE v.schema_name = $1 AND v.table_name = $2 AND v.committed_at >= $3::timestamptz
    `,
    [table.schema, table.name, formatPgTime(from)],
  );
  return rows.map(({ key, time, sysid, timeline, dboid }) => ({
    key,
    time: Number(time) as PgTime,
    node: { sysid, timeline: Number(timeline), dboid: Number(dboid) },
  }));
}

/** Writes the versions of one table's rows, in batches that keep each statement small. */
export async function insertRowVersions(
  session: Session,
  table: QualifiedName,
  versions: readonly RowVersion[],
): Promise<void> {
  const batch = 5000;
  for (let start = 0; start < versions.length; start += batch) {
    const rows = versions.slice(start, start + batch).map(({ key, time, node }) => ({
      key: JSON.parse(key) as unknown,
      time: formatPgTime(time),
      sysid: node.sysid,
      timeline: node.timeline,
      dboid: node.dboid,
    }));
    await session.run(
      /* sql */ `
        INSERT INTO bdr.row_version (
            schema_name, table_name, row_key, committed_at, node_sysid, node_timeline, node_dboid
        )
        SELECT $1, $2, r.key, r.time, r.sysid, r.timeline, r.dboid
        FROM jsonb_to_recordset($3::jsonb) AS r (key jsonb, time timestamptz, sysid text, timeline oid, dboid oid)
      `,
      [table.schema, table.name, JSON.stringify(rows)],
    );
  }
}

/** Forgets all: a copy begins. */
export async function clearRowVersions(session: Session): Promise<void> {
  await session.run(/* sql */ `DELETE FROM bdr.row_version`);
}

/**
 * Forgets versions that every link has passed: nothing older than them can arrive any more. Not while rows of their table are to be read
 * again, and to keep their versions then.
 */
export async function purgeRowVersions(session: Session, upTo: PgTime): Promise<number> {
  return session.run(
    /* sql */ `
      DELETE FROM bdr.row_version AS v
      WHERE v.committed_at <= $1
        AND NOT EXISTS (
            SELECT FROM bdr.lost_value AS x
            JOIN pg_class AS c ON c.oid = x.relation
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = v.schema_name AND c.relname = v.table_name
        )
    `,
    [formatPgTime(upTo)],
  );
}
