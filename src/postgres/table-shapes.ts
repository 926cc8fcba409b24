import type { Session } from './session.ts';

/**
 * What statements on tables are made of, as one text for each: names of the table and its columns, their types, and what is unique. By
 * the tables' OIDs; one that is gone has none.
 */
export async function readShapes(
  session: Session,
  tables: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const rows = await session.query<{ oid: string; shape: string }>(
    /* sql */ `
      SELECT c.oid, format(
                 '%I.%I %s %s', n.nspname, c.relname, array_agg(ROW (a.attname, a.atttypid) ORDER BY a.attnum),
                 ARRAY(SELECT ROW (i.indexrelid, i.indimmediate) FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique ORDER BY i.indexrelid)
             ) AS shape
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      WHERE c.oid = ANY ($1::oid[])
      GROUP BY c.oid, n.nspname, c.relname
    `,
    [`{${tables.join(',')}}`],
  );
  return new Map(rows.map(({ oid, shape }) => [oid, shape]));
}
