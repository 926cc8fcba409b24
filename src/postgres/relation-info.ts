import { quoteQualified, type QualifiedName } from '../base/names.ts';
import type { Session } from './session.ts';

/** A column of a local table, as far as writing to it goes. */
export interface LocalColumn {
  readonly name: string;
  /**
   * The type's SQL name without modifiers, with its schema unless that is pg_catalog: a cast to varchar(5) would cut a longer
   * value off in silence, where assigning it is an error. Of a domain the type that it is made of: what a value is compared with
   * need not be of the domain, and what is written becomes so when it is assigned.
   */
  readonly type: string;
  readonly isDomain: boolean;
  /** The equality of the unique index that the column is in, as an operator with its schema; undefined without such an index. */
  readonly equals: string | undefined;
  /** Values that `equals` calls equal have one hash by the type's default hash function. */
  readonly hashable: boolean;
  /** ` COLLATE …`, where the column's collation is not that of its type; else empty. */
  readonly collate: string;
  /** Computed by the server: never written. */
  readonly generated: boolean;
  /** Local: its values stay on each node, whatever peers send. */
  readonly stays: boolean;
  /** GENERATED ALWAYS AS IDENTITY: an INSERT must override it, an UPDATE may not name it. */
  readonly identityAlways: boolean;
  /**
   * A cast from text reads a value as the type's input function does. Not where a cast function of another meaning is there (text
   * to regclass), and not for a domain with a length, which an explicit cast would cut to in silence.
   */
  readonly castsFromText: boolean;
  /** A value can be long, and then be stored apart from its row (TOASTed). */
  readonly isVarlena: boolean;
}

/**
 * The REPLICA IDENTITY of a table that has none which the server could use; `GENERATED` where FULL would be, or is, none either, which
 * PostgreSQL refuses from 18 on in a table with generated columns.
 */
export type MissingIdentity = 'DEFAULT' | 'NOTHING' | 'GENERATED';

/** A local table. */
export interface LocalRelation {
  readonly oid: string;
  readonly name: QualifiedName;
  readonly columns: ReadonlyMap<string, LocalColumn>;
  /** The primary key's columns in order; empty when there is none. */
  readonly primaryKey: readonly string[];
  /** A generated column of the key that the server sends of changed rows, but for that column. */
  readonly generatedKeyColumn: string | undefined;
  readonly missingIdentity: MissingIdentity | undefined;
  /** There is a deferrable unique or exclusion constraint, which ON CONFLICT cannot use and would not notice. */
  readonly deferrable: boolean;
  /** The column sets of the unique indexes that are checked at once and hold every row. */
  readonly immediateKeys: readonly (readonly string[])[];
  /** Triggers fire in replica role: what they see and do depends on the order of the rows. */
  readonly hasReplicaTriggers: boolean;
  /** It has rules with which the server takes no INSERT … ON CONFLICT: of UPDATE, disabled ones too, or of INSERT that fire in replica role. */
  readonly refusesOnConflict: boolean;
}

/**
 * Reads a table's columns and keys; undefined when there is no such ordinary table (partitions are ordinary, their parents are not).
 * `sought`: its name or its OID.
 */
export async function readRelation(
  session: Session,
  sought: QualifiedName | number,
): Promise<LocalRelation | undefined> {
  const [oid, name] =
    typeof sought === 'number' ? [String(sought), null] : [null, quoteQualified(sought)];
  // Prepared: to plan these takes ten times as long as to run them, and a schema has many tables.
  const {
    rows: [table],
  } = await session.execute<{
    oid: string;
    schema: string;
    name: string;
    indexes: string;
    triggers: string;
    rules: string;
    generated_key: string | null;
    missing_identity: MissingIdentity | null;
    local: string;
  }>(
    'bdr_relation',
    /* sql */ `
      SELECT c.oid, n.nspname AS schema, c.relname AS name,
             EXISTS (
                 SELECT FROM pg_trigger AS t
                 WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')
             ) AS triggers,
             EXISTS (
                 SELECT FROM pg_rewrite AS w
                 WHERE w.ev_class = c.oid AND (w.ev_type = '2' OR w.ev_type = '3' AND w.ev_enabled IN ('A', 'R'))
             ) AS rules,
             bdr.internal_generated_key_column(c.oid) AS generated_key,
             CASE
                 WHEN EXISTS (
                     SELECT FROM pg_index AS i
                     WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
                       AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
                 ) THEN NULL
                 WHEN current_setting('server_version_num')::integer >= 180000 AND EXISTS (
                     SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped
                 ) THEN 'GENERATED'
                 WHEN c.relreplident = 'f' THEN NULL
                 -- Where the index is gone that was to be used, the server takes it for NOTHING.
                 WHEN c.relreplident = 'd' THEN 'DEFAULT' ELSE 'NOTHING'
             END AS missing_identity,
             array_to_json(bdr.internal_local_columns(c.oid)) AS local,
             coalesce((
                 SELECT json_agg(json_build_object(
                     'primary', i.indisprimary,
                     'immediate', i.indimmediate,
                     'whole', i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid,
                     'columns', ARRAY(
                         SELECT a.attname
                         FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
                         JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                         -- Columns behind those of the key are only included.
                         WHERE k.position <= i.indnkeyatts
                         ORDER BY k.position
                     )
                 ))
                 FROM pg_index AS i
                 WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)
             ), '[]') AS indexes
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.oid = coalesce($1::oid, to_regclass($2)::oid) AND c.relkind = 'r'
    `,
    [oid, name],
  );
  if (!table) return undefined;
  const indexes = JSON.parse(table.indexes) as UniqueIndex[];
  const staying = JSON.parse(table.local) as string[];
  const { rows: columns } = await session.execute<{
    name: string;
    type: string;
    domain: string;
    equals: string | null;
    hashable: string;
    collate: string;
    generated: string;
    always: string;
    casts: string;
    varlena: string;
  }>(
    'bdr_relation_columns',
    /* sql */ `
      SELECT a.attname AS name,
             format_type(b.oid, -1) AS type,
             t.typtype = 'd' AS domain,
             CASE WHEN e.name IS NOT NULL THEN format('OPERATOR(%I.%s)', e.schema, e.name) END AS equals,
             e.hashes AND bdr.internal_is_hashable(a.atttypid) AS hashable,
             coalesce((
                 SELECT format(' COLLATE %I.%I', n.nspname, c.collname)
                 FROM pg_collation AS c
                 JOIN pg_namespace AS n ON n.oid = c.collnamespace
                 WHERE c.oid = a.attcollation AND c.oid <> (SELECT p.typcollation FROM pg_type AS p WHERE p.oid = b.oid)
             ), '') AS collate,
             a.attgenerated <> '' AS generated,
             a.attidentity = 'a' AS always,
             NOT b.has_length AND NOT EXISTS (
                 SELECT FROM pg_cast AS f
                 WHERE f.castsource = 'text'::regtype AND f.casttarget = b.oid AND f.castmethod = 'f'
                   AND f.casttarget NOT IN ('"char"'::regtype, 'name'::regtype, 'xml'::regtype)
             ) AS casts,
             t.typlen = -1 AS varlena
      FROM pg_attribute AS a
      JOIN pg_type AS t ON t.oid = a.atttypid
      LEFT JOIN LATERAL (
          SELECT n.nspname AS schema, o.oprname AS name,
                 -- The operator belongs to a hash function that the server takes by default.
                 EXISTS (
                     SELECT FROM pg_amop AS h
                     JOIN pg_am AS hm ON hm.oid = h.amopmethod AND hm.amname = 'hash'
                     JOIN pg_opclass AS hc ON hc.opcfamily = h.amopfamily AND hc.opcdefault
                     WHERE h.amopopr = o.oid
                 ) AS hashes
          FROM pg_index AS i
          CROSS JOIN unnest(i.indkey::int2[], i.indclass::oid[]) AS k (attnum, opclass)
          JOIN pg_opclass AS c ON c.oid = k.opclass
          JOIN pg_amop AS e ON e.amopfamily = c.opcfamily AND e.amopstrategy = 3
                           AND e.amoplefttype = c.opcintype AND e.amoprighttype = c.opcintype
          JOIN pg_am AS m ON m.oid = c.opcmethod AND m.amname = 'btree'
          JOIN pg_operator AS o ON o.oid = e.amopopr
          JOIN pg_namespace AS n ON n.oid = o.oprnamespace
          WHERE i.indrelid = a.attrelid AND i.indisunique AND k.attnum = a.attnum
          ORDER BY i.indisprimary DESC
          LIMIT 1
      ) AS e ON true
      CROSS JOIN LATERAL (
          WITH RECURSIVE base AS (
              SELECT t.oid, t.typtype, t.typbasetype, false AS has_length
              FROM pg_type AS t
              WHERE t.oid = a.atttypid
              UNION ALL
              SELECT t.oid, t.typtype, t.typbasetype, d.has_length OR d.typtypmod >= 0
              FROM (
                  SELECT base.*, p.typtypmod
                  FROM base
                  JOIN pg_type AS p ON p.oid = base.oid
                  WHERE base.typtype = 'd'
              ) AS d
              JOIN pg_type AS t ON t.oid = d.typbasetype
          )
          SELECT base.oid, base.has_length FROM base WHERE base.typtype <> 'd'
      ) AS b
      WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
      ORDER BY a.attnum
    `,
    [table.oid],
  );
  return {
    oid: table.oid,
    name: { schema: table.schema, name: table.name },
    columns: new Map(
      columns.map((column) => [
        column.name,
        {
          name: column.name,
          type: column.type,
          isDomain: column.domain === 't',
          equals: column.equals ?? undefined,
          hashable: column.hashable === 't',
          collate: column.collate,
          generated: column.generated === 't',
          stays: staying.includes(column.name),
          identityAlways: column.always === 't',
          castsFromText: column.casts === 't',
          isVarlena: column.varlena === 't',
        },
      ]),
    ),
    primaryKey: indexes.find((index) => index.primary)?.columns ?? [],
    generatedKeyColumn: table.generated_key ?? undefined,
    missingIdentity: table.missing_identity ?? undefined,
    deferrable: indexes.some((index) => !index.immediate),
    hasReplicaTriggers: table.triggers === 't',
    refusesOnConflict: table.rules === 't',
    immediateKeys: indexes
      .filter((index) => index.immediate && index.whole)
      .map((index) => index.columns),
  };
}

interface UniqueIndex {
  readonly primary: boolean;
  readonly immediate: boolean;
  /** Holds every row, by plain columns. */
  readonly whole: boolean;
  readonly columns: readonly string[];
}
