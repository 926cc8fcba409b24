import type { Session } from '../postgres/session.ts';

/** Why a node with some replication sets cannot be filled from the node that is asked. */
export interface CopyObstacles {
  /** Tables of which it would get more from others than that node does. */
  readonly incomplete: readonly string[];
  /** Foreign keys whose rows it would get without those that they refer to. */
  readonly dangling: readonly string[];
}

/** As far as the sets of this moment tell; `sets` as in bdr_connections. */
export async function readCopyObstacles(
  source: Session,
  sets: readonly string[] | null,
): Promise<CopyObstacles> {
  const [row] = await source.query<{ incomplete: string; dangling: string }>(
    /* sql */ `
      WITH tables AS MATERIALIZED (
          SELECT t.relation, wanted.*, here.are_complete
          FROM bdr.internal_table_sets() AS t
          CROSS JOIN LATERAL bdr.internal_sent_actions(t.sets, ARRAY(SELECT json_array_elements_text($1::json))) AS wanted
          CROSS JOIN LATERAL (
              SELECT bool_and((got.inserts OR NOT wanted.inserts) AND (got.updates OR NOT wanted.updates)
                              AND (got.deletes OR NOT wanted.deletes)) AS are_complete
              FROM bdr.bdr_local_node AS me
              JOIN bdr.bdr_connections AS c
                ON (c.conn_sysid, c.conn_timeline, c.conn_dboid) = (me.node_sysid, me.node_timeline, me.node_dboid)
              CROSS JOIN LATERAL bdr.internal_sent_actions(t.sets, c.conn_replication_sets) AS got
          ) AS here
      )
      SELECT (
          SELECT coalesce(json_agg(t.relation::text ORDER BY t.relation::text), '[]') FROM tables AS t
          WHERE NOT t.are_complete
            -- One that is alone has everything.
            AND 1 < (SELECT count(*) FROM bdr.bdr_nodes AS n WHERE n.node_status = 'r')
      ) AS incomplete, (
          SELECT coalesce(json_agg(format('%s of table %s', f.conname, f.conrelid::regclass) ORDER BY f.conrelid::regclass::text, f.conname), '[]')
          FROM pg_constraint AS f
          JOIN tables AS t ON t.relation = f.conrelid AND t.inserts
          JOIN tables AS referred ON referred.relation = f.confrelid AND NOT referred.inserts
          WHERE f.contype = 'f'
      ) AS dangling
    `,
    [JSON.stringify(sets ?? [])],
  );
  return {
    incomplete: JSON.parse(row?.incomplete ?? '[]') as string[],
    dangling: JSON.parse(row?.dangling ?? '[]') as string[],
  };
}

/** Takes over, for a joining node that has the tables, which sets they are in. */
export async function copyTableSets(source: Session, target: Session): Promise<void> {
  const [given] = await source.query<{ rows: string | null }>(/* sql */ `
    SELECT json_agg(json_build_object('schema', n.nspname, 'name', c.relname, 'sets', s.sets)) AS rows
    FROM bdr.table_replication_sets AS s
    JOIN pg_class AS c ON c.oid = s.relation
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
  `);
  await target.query('DELETE FROM bdr.table_replication_sets');
  await target.query(
    /* sql */ `
      INSERT INTO bdr.table_replication_sets (relation, sets)
      SELECT c.oid, given.sets
      FROM json_to_recordset($1::json) AS given (schema text, name text, sets text[])
      JOIN pg_namespace AS n ON n.nspname = given.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = given.name
    `,
    [given?.rows ?? '[]'],
  );
}
