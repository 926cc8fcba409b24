import type { NodeId } from '../model/node.ts';
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
          CROSS JOIN LATERAL bdr.internal_sent_actions(
              t.sets, t.filters, ARRAY(SELECT json_array_elements_text($1::json))
          ) AS wanted
          CROSS JOIN LATERAL (
              SELECT bool_and(NOT x.is_wanted OR x.is_got AND (x.filter_got IS NULL OR x.filter_got IS NOT DISTINCT FROM x.filter)) AS are_complete
              FROM bdr.bdr_local_node AS me
              JOIN bdr.bdr_connections AS c
                ON (c.conn_sysid, c.conn_timeline, c.conn_dboid) = (me.node_sysid, me.node_timeline, me.node_dboid)
              CROSS JOIN LATERAL bdr.internal_sent_actions(t.sets, t.filters, c.conn_replication_sets) AS got
              CROSS JOIN LATERAL (
                  VALUES (wanted.inserts, wanted.insert_filter, got.inserts, got.insert_filter),
                         (wanted.updates, wanted.update_filter, got.updates, got.update_filter),
                         (wanted.deletes, wanted.delete_filter, got.deletes, got.delete_filter)
              ) AS x (is_wanted, filter, is_got, filter_got)
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
          JOIN tables AS referred ON referred.relation = f.confrelid
           AND (NOT referred.inserts OR referred.insert_filter IS NOT NULL)
          WHERE f.contype = 'f'
            -- A row and the one that it refers to are sent by the same condition on the same values.
            AND NOT (referred.inserts AND referred.insert_filter IS NOT DISTINCT FROM t.insert_filter AND NOT EXISTS (
                SELECT FROM bdr.internal_filter_columns(referred.relation) AS name
                WHERE name NOT IN (
                    SELECT theirs.attname
                    FROM unnest(f.conkey, f.confkey) AS pair (number, referred)
                    JOIN pg_attribute AS ours ON (ours.attrelid, ours.attnum) = (f.conrelid, pair.number)
                    JOIN pg_attribute AS theirs ON (theirs.attrelid, theirs.attnum) = (f.confrelid, pair.referred)
                    WHERE ours.attname = theirs.attname
                )
            ))
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

/** As `copyTableSets`, of row filters. */
export async function copyRowFilters(source: Session, target: Session): Promise<void> {
  const [given] = await source.query<{ rows: string | null }>(/* sql */ `
    SELECT json_agg(json_build_object('schema', f.nspname, 'name', f.relname, 'set', f.set_name, 'filter', f.filter)) AS rows
    FROM bdr.replication_set_row_filters AS f
  `);
  await target.query('DELETE FROM bdr.table_row_filter');
  await target.query(
    /* sql */ `
      INSERT INTO bdr.table_row_filter (relation, set_name, filter)
      SELECT c.oid, given.set, given.filter
      FROM json_to_recordset($1::json) AS given (schema text, name text, set text, filter text)
      JOIN pg_namespace AS n ON n.nspname = given.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = given.name
    `,
    [given?.rows ?? '[]'],
  );
}

/** Whether any table of the group has a row filter. */
export async function hasRowFilters(session: Session): Promise<boolean> {
  return (await session.query('SELECT FROM bdr.table_row_filter LIMIT 1')).length > 0;
}

/** Whether this node is sent the deletions of those rows of a table of which a provider sends it updates. */
export async function getsDeletions(
  session: Session,
  table: string,
  { sysid, timeline, dboid }: NodeId,
): Promise<boolean> {
  const [row] = await session.query<{ gets: string | null }>(
    'SELECT bdr.internal_gets_deletions($1, $2, $3, $4) AS gets',
    [table, sysid, timeline, dboid],
  );
  return row?.gets === 't';
}
