import type { QualifiedName } from '../base/names.ts';
import type { Session } from '../postgres/session.ts';

/** Columns of a table whose values stay on each node. */
export interface LocalColumns {
  readonly table: QualifiedName;
  readonly columns: readonly string[];
  /** Why one of them should not be, as `column "c": It is generated.`; null where nothing is wrong. */
  readonly flaw: string | null;
}

/** All tables that have such columns, by name. */
export async function readLocalColumns(session: Session): Promise<LocalColumns[]> {
  const rows = await session.query<{
    schema: string;
    name: string;
    columns: string;
    flaw: string | null;
  }>(/* sql */ `
    SELECT n.nspname AS schema, c.relname AS name, array_to_json(bdr.internal_local_columns(c.oid)) AS columns,
           (
               SELECT format('column "%s": %s', a.attname, why.detail)
               FROM pg_attribute AS a
               CROSS JOIN LATERAL bdr.internal_why_not_local(a.attrelid, a.attnum) AS why (detail)
               WHERE a.attrelid = c.oid AND a.attnum = ANY (l.columns) AND NOT a.attisdropped AND why.detail IS NOT NULL
               ORDER BY a.attnum
               LIMIT 1
           ) AS flaw
    FROM bdr.table_local_columns AS l
    JOIN pg_class AS c ON c.oid = l.relation
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE bdr.internal_local_columns(c.oid) <> '{}'
    ORDER BY 1, 2
  `);
  return rows.map(({ schema, name, columns, flaw }) => ({
    table: { schema, name },
    columns: JSON.parse(columns) as string[],
    flaw,
  }));
}

/** Takes over, for a joining node that has the tables, which of their columns are local. */
export async function copyLocalColumns(source: Session, target: Session): Promise<void> {
  const [given] = await source.query<{ rows: string | null }>(/* sql */ `
    SELECT json_agg(json_build_object('schema', l.nspname, 'name', l.relname, 'columns', l.columns)) AS rows
    FROM bdr.local_columns AS l
  `);
  await target.query('DELETE FROM bdr.table_local_columns');
  await target.query(
    /* sql */ `
      INSERT INTO bdr.table_local_columns (relation, columns)
      SELECT c.oid, array_agg(a.attnum ORDER BY a.attnum)
      FROM json_to_recordset($1::json) AS given (schema text, name text, columns name[])
      JOIN pg_namespace AS n ON n.nspname = given.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = given.name
      JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = ANY (given.columns)
      GROUP BY c.oid
    `,
    [given?.rows ?? '[]'],
  );
}
