import type { QualifiedName } from '../base/names.ts';
import type { NodeId } from '../model/node.ts';
import type { Param, Session } from '../postgres/session.ts';
import type { RememberedKey } from './tombstones.ts';

/**
 * SQL on bdr.lost_value: rows whose long values may be those of another row, to be read again from the node that wrote them (DESIGN
 * 4.2, rule 9). Keys stand there as in bdr.tombstone.
 */
export interface LostValue extends RememberedKey {
  /** Where the notes of this row stand. */
  readonly notes: string;
}

/**
 * Notes a row, unless it is seen to be noted: who works on that writes what this asks for. Parameters: OID of the table, the key as
 * text[], the writer's sysid, timeline, dboid.
 */
export const noteLostValueSql = /* sql */ `
  INSERT INTO bdr.lost_value (relation, row_key, key_hash, node_sysid, node_timeline, node_dboid)
  SELECT n.relation, n.row_key, n.key_hash, n.sysid, n.timeline, n.dboid
  FROM (
      VALUES ($1::oid, $2::text[], hashtextextended($2::text[]::text, 0), $3::text, $4::oid, $5::oid)
  ) AS n (relation, row_key, key_hash, sysid, timeline, dboid)
  WHERE NOT EXISTS (
      SELECT FROM bdr.lost_value AS x
      WHERE (x.relation, x.key_hash, x.row_key) = (n.relation, n.key_hash, n.row_key)
        AND (x.node_sysid, x.node_timeline, x.node_dboid) = (n.sysid, n.timeline, n.dboid)
  )
`;

/** The parameters of `noteLostValueSql`; `key` is the text of an array. */
export function noteParams(relation: string, key: string, writer: NodeId): Param[] {
  return [relation, key, writer.sysid, writer.timeline, writer.dboid];
}

/** Some of the rows of one table that were noted, whose writer is `node`: each once, by chance, so that none is always behind others. */
export async function readLostValues(
  session: Session,
  node: NodeId,
  most: number,
): Promise<LostValue[]> {
  const { rows } = await session.execute<{ relation: string; key: string; notes: string }>(
    'bdr_read_lost_values',
    /* sql */ `
      SELECT x.relation, array_to_json(x.row_key)::text AS key, array_agg(x.ctid)::text AS notes
      FROM bdr.lost_value AS x
      WHERE (x.node_sysid, x.node_timeline, x.node_dboid) = ($1, $2::oid, $3::oid)
        AND x.relation = (
            SELECT y.relation FROM bdr.lost_value AS y
            WHERE (y.node_sysid, y.node_timeline, y.node_dboid) = ($1, $2::oid, $3::oid)
            ORDER BY random() LIMIT 1
        )
      GROUP BY x.relation, x.row_key
      ORDER BY random()
      LIMIT $4
    `,
    [node.sysid, node.timeline, node.dboid, most],
  );
  return rows;
}

/** Takes the notes of a row back: those that were there when it was read. */
export async function forgetLostValue(session: Session, { notes }: LostValue): Promise<void> {
  await session.execute(
    'bdr_forget_lost_value',
    'DELETE FROM bdr.lost_value WHERE ctid = ANY ($1::tid[])',
    [notes],
  );
}

/** Forgets the rows of nodes that are parted: nobody can be asked any more. */
export async function forgetLostValuesOfParted(session: Session): Promise<void> {
  await session.run(/* sql */ `
    DELETE FROM bdr.lost_value AS x
    USING bdr.bdr_nodes AS n
    WHERE (n.node_sysid, n.node_timeline, n.node_dboid) = (x.node_sysid, x.node_timeline, x.node_dboid)
      AND n.node_status = 'k'
  `);
}

/** The keys of a table that are noted. */
export interface NotedKeys {
  /** The columns of the key by name, in that order, and their types as SQL. */
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  /** Values as text, in the order of the columns, as a JSON array of arrays. */
  readonly values: string;
}

/** Undefined where nothing is noted that has these columns as its key. */
export async function readNotedKeys(
  session: Session,
  { schema, name }: QualifiedName,
  key: readonly string[],
): Promise<NotedKeys | undefined> {
  const rows = await session.query<{ key: string; types: string }>(
    /* sql */ `
      SELECT DISTINCT array_to_json(x.row_key)::text AS key,
             -- Without a length, which a value would be cut to.
             (SELECT json_object_agg(a.attname, format_type(a.atttypid, -1) ORDER BY a.attname)::text
              FROM pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS types
      FROM bdr.lost_value AS x
      JOIN pg_class AS c ON c.oid = x.relation
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE (n.nspname, c.relname) = ($1, $2)
        AND cardinality(x.row_key) = $3
        AND array_position(x.row_key, NULL) IS NULL
    `,
    [schema, name, key.length],
  );
  const types = JSON.parse(rows[0]?.types ?? '{}') as Record<string, string>;
  const columns = [...key].sort().flatMap((one) => {
    const type = types[one];
    return type === undefined ? [] : [{ name: one, type }];
  });
  if (rows.length === 0 || columns.length < key.length) return undefined;
  return { columns, values: `[${rows.map((row) => row.key).join(',')}]` };
}

/** Takes over what a source has noted, as its snapshot shows it: its rows were copied as they were then. */
export async function copyLostValues(snapshot: Session, target: Session): Promise<void> {
  const [noted] = await snapshot.query<{ list: string | null }>(/* sql */ `
    SELECT json_agg(json_build_object(
               'schema', n.nspname, 'name', c.relname, 'key', x.row_key,
               'sysid', x.node_sysid, 'timeline', x.node_timeline::bigint, 'dboid', x.node_dboid::bigint
           ))::text AS list
    FROM bdr.lost_value AS x
    JOIN pg_class AS c ON c.oid = x.relation
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
  `);
  if (!noted?.list) return;
  await target.run(
    /* sql */ `
      INSERT INTO bdr.lost_value (relation, row_key, key_hash, node_sysid, node_timeline, node_dboid)
      SELECT c.oid, x.key, hashtextextended(x.key::text, 0), x.sysid, x.timeline, x.dboid
      FROM json_to_recordset($1::json) AS x (schema text, name text, key text[], sysid text, timeline oid, dboid oid)
      JOIN pg_namespace AS n ON n.nspname = x.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = x.name
    `,
    [noted.list],
  );
}
