import type { Relation, RelationColumn, ReplicaIdentity } from '../pgoutput/transaction.ts';
import type { Session } from './session.ts';

const REPLICA_IDENTITY: Readonly<Record<string, ReplicaIdentity>> = {
  d: 'default',
  n: 'nothing',
  f: 'full',
  i: 'index',
};

/** Describes a local table as its own server's walsender would; undefined when there is none of that OID. */
export async function describeTable(session: Session, oid: string): Promise<Relation | undefined> {
  const [table] = await session.query<{
    schema: string;
    name: string;
    identity: string;
    columns: string;
  }>(
    /* sql */ `
      SELECT n.nspname AS schema, c.relname AS name, c.relreplident AS identity,
             (
                 SELECT json_agg(
                     json_build_object(
                         'name', a.attname,
                         'typeOid', a.atttypid::bigint,
                         'typmod', a.atttypmod,
                         'isKey', c.relreplident = 'f'
                             -- Columns behind those of the key are only included.
                             OR coalesce(a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false)
                     ) ORDER BY a.attnum
                 )
                 FROM pg_attribute AS a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             )::text AS columns
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      LEFT JOIN pg_index AS i ON i.indrelid = c.oid
                             AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END
      WHERE c.oid = $1::oid AND c.relkind = 'r'
    `,
    [oid],
  );
  if (!table) return undefined;
  return {
    id: Number(oid),
    schema: table.schema,
    name: table.name,
    replicaIdentity: REPLICA_IDENTITY[table.identity] ?? 'default',
    columns: (JSON.parse(table.columns) ?? []) as RelationColumn[],
  };
}
