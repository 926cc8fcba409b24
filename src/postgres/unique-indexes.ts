import type { Session } from './session.ts';

/** A unique index as far as it tells which rows have the same value in it. Texts are SQL of the server's own making. */
export interface UniqueIndex {
  /** What it compares, in order; columns stand there without the table's name. */
  readonly terms: readonly UniqueTerm[];
  /** Of a partial index, likewise. */
  readonly predicate: string | null;
  readonly nullsNotDistinct: boolean;
  /** Checked with each row, and not at the end of a statement or transaction. */
  readonly immediate: boolean;
}

export interface UniqueTerm {
  readonly expression: string;
  /** The column's name, where it is one. */
  readonly column: string | null;
  /** The operator that calls two values equal, with its schema. */
  readonly equals: string;
  /** `::type`, to be put behind a value of a domain; else empty. The operators of enums do not take domains over these. */
  readonly cast: string;
  /** ` COLLATE …`; empty for what has none. */
  readonly collate: string;
}

/** A column that the server computes, and out of what. */
export interface GeneratedColumn {
  readonly name: string;
  readonly expression: string;
}

/** What makes rows of a table collide. */
export interface Uniqueness {
  readonly indexes: readonly UniqueIndex[];
  readonly generated: readonly GeneratedColumn[];
}

/** Reads a table's unique indexes, those of constraints too, and its stored generated columns, which they may be on. */
export async function readUniqueness(session: Session, oid: string): Promise<Uniqueness> {
  const [row] = await session.query<{ indexes: string; generated: string }>(
    /* sql */ `
      SELECT coalesce((
                 SELECT json_agg(json_build_object(
                            'terms', terms.list,
                            'predicate', pg_get_expr(i.indpred, i.indrelid),
                            -- From 15 on.
                            'nullsNotDistinct', coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
                            'immediate', i.indimmediate
                        ) ORDER BY i.indexrelid)
                 FROM pg_index AS i
                 JOIN pg_class AS c ON c.oid = i.indexrelid
                 JOIN pg_am AS m ON m.oid = c.relam AND m.amname = 'btree'
                 CROSS JOIN LATERAL (
                     SELECT json_agg(json_build_object(
                                'expression', pg_get_indexdef(i.indexrelid, k.n::integer, false),
                                'column', a.attname,
                                'equals', format('OPERATOR(%I.%s)', n.nspname, o.oprname),
                                'cast', coalesce('::' || (
                                    SELECT format_type(bdr.internal_base_type(t.oid), -1)
                                    FROM pg_attribute AS ia
                                    JOIN pg_type AS t ON t.oid = ia.atttypid AND t.typtype = 'd'
                                    WHERE ia.attrelid = i.indexrelid AND ia.attnum = k.n
                                ), ''),
                                'collate', CASE WHEN co.oid IS NULL THEN '' ELSE format(' COLLATE %I.%I', cn.nspname, co.collname) END
                            ) ORDER BY k.n) AS list
                     FROM unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[])
                              WITH ORDINALITY AS k (attnum, opclass, coll, n)
                     JOIN pg_opclass AS oc ON oc.oid = k.opclass
                     JOIN pg_amop AS e ON e.amopfamily = oc.opcfamily AND e.amopstrategy = 3
                                      AND e.amoplefttype = oc.opcintype AND e.amoprighttype = oc.opcintype
                     JOIN pg_operator AS o ON o.oid = e.amopopr
                     JOIN pg_namespace AS n ON n.oid = o.oprnamespace
                     LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
                     LEFT JOIN (pg_collation AS co JOIN pg_namespace AS cn ON cn.oid = co.collnamespace)
                            ON co.oid = k.coll
                     -- Columns behind those of the key are only included.
                     WHERE k.n <= i.indnkeyatts
                 ) AS terms
                 -- One that is not valid yet, or no more, is kept unique all the same.
                 WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisready
             ), '[]')::text AS indexes,
             coalesce((
                 SELECT json_agg(json_build_object('name', a.attname, 'expression', pg_get_expr(d.adbin, d.adrelid)))
                 FROM pg_attribute AS a
                 JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                 WHERE a.attrelid = $1::oid AND a.attgenerated = 's' AND NOT a.attisdropped
             ), '[]')::text AS generated
    `,
    [oid],
  );
  return {
    indexes: JSON.parse(row?.indexes ?? '[]') as UniqueIndex[],
    generated: JSON.parse(row?.generated ?? '[]') as GeneratedColumn[],
  };
}
