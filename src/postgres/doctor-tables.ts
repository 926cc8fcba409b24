import type { QualifiedName } from '../base/names.ts';
import type { Session } from './session.ts';
import { readUserCode, type UserCode } from './user-code.ts';

/** What of a table decides how well it replicates. */
export interface DoctorTable {
  readonly name: QualifiedName;
  readonly primaryKey: 'usable' | 'deferrable' | 'none';
  /** REPLICA IDENTITY: d default, n nothing, f full, i an index. */
  readonly identity: 'd' | 'n' | 'f' | 'i';
  /** A unique index on NOT NULL columns that could tell rows apart, where there is no usable primary key. */
  readonly keyCandidate: string | null;
  /** Unique indexes beside the key by which rows are found. */
  readonly uniques: readonly UniqueIndex[];
  /** A generated column of the key by which rows are found. */
  readonly generatedKeyColumn: string | null;
  /** Names of exclusion constraints, and of keys WITHOUT OVERLAPS. */
  readonly exclusions: readonly string[];
}

export interface UniqueIndex {
  readonly name: string;
  /** Columns or expressions, as the index is defined. */
  readonly columns: string;
  readonly isPartial: boolean;
}

/** A sequence that numbers a column of some unique key of a replicated table. */
export interface DoctorSequence {
  readonly name: QualifiedName;
  readonly table: QualifiedName;
  readonly column: string;
  /** smallint, integer or bigint, as a rule. */
  readonly type: string;
  /** The column draws by global_seq_nextval(). */
  readonly isGlobal: boolean;
  readonly increment: bigint;
}

export interface DoctorTables {
  readonly tables: readonly DoctorTable[];
  readonly sequences: readonly DoctorSequence[];
  /** Unlogged tables, which are not replicated. */
  readonly unlogged: readonly QualifiedName[];
  readonly largeObjects: number;
  /** Of the database. */
  readonly encoding: string;
  /** The database's own subscriptions, by name. */
  readonly subscriptions: readonly string[];
  /** Of the replicated tables, which run what users' code when a peer's row is written. */
  readonly userCode: readonly UserCode[];
}

/** Schemas whose tables are never a user's; members of extensions are left out as well. */
const USER_TABLES = /* sql */ `
  n.nspname NOT IN ('pg_catalog', 'information_schema', 'bdr', 'bdr_guard')
  AND NOT EXISTS (
      SELECT FROM pg_depend AS e
      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'
  )`;

/** Reads all tables that are, or would be, replicated: as bdr.internal_replicated_tables(), which need not be there yet. */
export async function readDoctorTables(session: Session): Promise<DoctorTables> {
  const tables = await readTables(session);
  return {
    tables,
    sequences: await readSequences(session),
    unlogged: await session.query<{ schema: string; name: string }>(/* sql */ `
      SELECT n.nspname AS schema, c.relname AS name
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND ${USER_TABLES}
      ORDER BY 1, 2
    `),
    largeObjects: await countLargeObjects(session),
    ...(await readDatabase(session)),
    userCode: await readUserCode(
      session,
      tables.map(({ name }) => name),
    ),
  };
}

async function readTables(session: Session): Promise<DoctorTable[]> {
  const rows = await session.query<{
    schema: string;
    name: string;
    identity: DoctorTable['identity'];
    primary: DoctorTable['primaryKey'];
    candidate: string | null;
    uniques: string;
    exclusions: string;
    generated: string | null;
  }>(/* sql */ `
    SELECT n.nspname AS schema, c.relname AS name, c.relreplident AS identity,
           coalesce((
               SELECT CASE WHEN i.indimmediate THEN 'usable' ELSE 'deferrable' END
               FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary
           ), 'none') AS primary,
           (
               SELECT x.relname
               FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
               WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
                 AND i.indpred IS NULL AND i.indexprs IS NULL
                 AND NOT EXISTS (
                     SELECT FROM pg_attribute AS a
                     WHERE a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                       AND NOT a.attnotnull
                 )
               ORDER BY i.indnkeyatts, x.relname
               LIMIT 1
           ) AS candidate,
           coalesce((
               SELECT json_agg(json_build_object(
                   'name', x.relname,
                   'columns', (
                       SELECT string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' ORDER BY k)
                       FROM generate_series(1, i.indnkeyatts) AS k
                   ),
                   'isPartial', i.indpred IS NOT NULL
               ) ORDER BY x.relname)
               FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
               WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indisprimary AND NOT i.indisreplident
           ), '[]') AS uniques,
           coalesce((
               SELECT json_agg(x.conname ORDER BY x.conname)
               FROM pg_constraint AS x
               WHERE x.conrelid = c.oid
                 -- As bdr.internal_excludes_rows(), which need not be there.
                 AND (x.contype = 'x' OR (x.contype IN ('p', 'u') AND (to_jsonb(x) ->> 'conperiod')::boolean))
           ), '[]') AS exclusions,
           -- As bdr.internal_generated_key_column(), which need not be there.
           (
               SELECT a.attname
               FROM pg_index AS i
               CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
               JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum AND a.attgenerated <> ''
               WHERE i.indrelid = c.oid AND k.place <= i.indnkeyatts
                 AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
               LIMIT 1
           ) AS generated
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND ${USER_TABLES}
    ORDER BY 1, 2
  `);
  return rows.map((row) => ({
    name: { schema: row.schema, name: row.name },
    primaryKey: row.primary,
    identity: row.identity,
    keyCandidate: row.candidate,
    uniques: JSON.parse(row.uniques) as UniqueIndex[],
    generatedKeyColumn: row.generated,
    exclusions: JSON.parse(row.exclusions) as string[],
  }));
}

/** Of a partitioned table the parent counts: its partitions draw from the same sequence. */
async function readSequences(session: Session): Promise<DoctorSequence[]> {
  const rows = await session.query<
    Record<
      | 'sequence_schema'
      | 'sequence'
      | 'table_schema'
      | 'table'
      | 'column'
      | 'type'
      | 'global'
      | 'increment',
      string
    >
  >(/* sql */ `
    SELECT DISTINCT ON (s.oid)
           sn.nspname AS sequence_schema, s.relname AS sequence,
           n.nspname AS table_schema, c.relname AS table, a.attname AS column,
           format_type(a.atttypid, NULL) AS type, uses.is_global AS global,
           q.seqincrement AS increment
    FROM (
        -- Identity columns own their sequence; the defaults of others name it.
        SELECT d.refobjid AS relation, d.refobjsubid AS attnum, d.objid AS sequence, false AS is_global
        FROM pg_depend AS d
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i'
        UNION ALL
        SELECT f.adrelid, f.adnum, d.refobjid, strpos(pg_get_expr(f.adbin, f.adrelid), 'bdr.global_seq_nextval(') > 0
        FROM pg_attrdef AS f
        JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
         AND d.refclassid = 'pg_class'::regclass
    ) AS uses
    JOIN pg_class AS s ON s.oid = uses.sequence AND s.relkind = 'S'
    JOIN pg_namespace AS sn ON sn.oid = s.relnamespace
    JOIN pg_sequence AS q ON q.seqrelid = s.oid
    JOIN pg_class AS c ON c.oid = uses.relation
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = uses.attnum
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND ${USER_TABLES}
      AND EXISTS (
          SELECT FROM pg_index AS i
          WHERE i.indrelid = c.oid AND i.indisunique
            AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
      )
    ORDER BY s.oid, c.relkind = 'r', n.nspname, c.relname, a.attnum
  `);
  return rows.map((row) => ({
    name: { schema: row.sequence_schema, name: row.sequence },
    table: { schema: row.table_schema, name: row.table },
    column: row.column,
    type: row.type,
    isGlobal: row.global === 't',
    increment: BigInt(row.increment),
  }));
}

async function countLargeObjects(session: Session): Promise<number> {
  const [row] = await session.query<{ count: string }>(
    /* sql */ `SELECT count(*) AS count FROM pg_largeobject_metadata`,
  );
  return Number(row?.count);
}

async function readDatabase(
  session: Session,
): Promise<Pick<DoctorTables, 'encoding' | 'subscriptions'>> {
  const [row] = await session.query<{ encoding: string; subscriptions: string }>(/* sql */ `
    SELECT pg_encoding_to_char(d.encoding) AS encoding,
           (
               SELECT coalesce(json_agg(s.subname ORDER BY s.subname), '[]')
               FROM pg_subscription AS s WHERE s.subdbid = d.oid
           ) AS subscriptions
    FROM pg_database AS d
    WHERE d.datname = current_database()
  `);
  return {
    encoding: row?.encoding ?? '',
    subscriptions: JSON.parse(row?.subscriptions ?? '[]') as string[],
  };
}
