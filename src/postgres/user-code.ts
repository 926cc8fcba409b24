import type { QualifiedName } from '../base/names.ts';
import type { Session } from './session.ts';

/** What of a table runs code of some role when a row is read or written in replica role. */
export interface UserCode {
  readonly table: QualifiedName;
  /** The OID of the table's owner. */
  readonly owner: string;
  /** The table's owner is a superuser, who needs no such trick. */
  readonly isOwnersTrusted: boolean;
  /** For people: `CHECK constraint positive: app.is_positive(integer)`, and the like; empty when there is none. */
  readonly places: readonly string[];
  /** Those of them whose code belongs to a role that is no superuser. */
  readonly untrusted: readonly string[];
  /** Types of columns, or what they are made of, belong to a role that is no superuser: it may give them casts at any time. */
  readonly hasUsersTypes: boolean;
  /** Columns whose type runs such code, or may at any time, wherever a value is read: not only where it is put into the table. */
  readonly opaqueColumns: readonly string[];
}

/**
 * Finds what runs users' code when apply writes to tables, or looks at them (DESIGN 3.5): it would run with the rights of apply.
 * Looking is enough for what the planner computes beforehand: an index on `f(1)`, say. Held for harmless are only the server's own
 * functions that are immutable, and a few others that defaults use: query_to_xml(), say, is the server's own too, and runs any
 * SQL. What is found without need costs time, what is missed costs the server.
 *
 * What is found stays true while the table is locked, all but for types: domains and composite types of ordinary roles count
 * whatever they are made of now, because their owner may change that at any time.
 *
 * Row security, foreign keys, and triggers and rules that are not ALWAYS or REPLICA do not count in apply sessions. Operator
 * classes and base types are made by superusers only.
 */
export async function readUserCode(
  session: Session,
  tables: readonly QualifiedName[],
): Promise<UserCode[]> {
  // Prepared: to plan it takes longer than to run it.
  const { rows } = await session.execute<{
    schema: string;
    name: string;
    owner: string;
    trusted: string;
    places: string;
    untrusted: string;
    types: string;
    opaque: string;
  }>('bdr_user_code', USER_CODE, [JSON.stringify(tables)]);
  return rows.map((row) => ({
    table: { schema: row.schema, name: row.name },
    owner: row.owner,
    isOwnersTrusted: row.trusted === 't',
    places: JSON.parse(row.places) as string[],
    untrusted: JSON.parse(row.untrusted) as string[],
    hasUsersTypes: row.types === 't',
    opaqueColumns: JSON.parse(row.opaque) as string[],
  }));
}

/** The first object id that is none of the server's own. */
const FIRST_NORMAL_OID = 16384;

const USER_CODE = /* sql */ `
  WITH RECURSIVE relations AS (
      SELECT c.oid, n.nspname AS schema, c.relname AS name, r.oid AS owner, r.rolsuper AS trusted
      FROM json_to_recordset($1::json) AS asked (schema text, name text)
      JOIN pg_namespace AS n ON n.nspname = asked.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = asked.name AND c.relkind = 'r'
      JOIN pg_roles AS r ON r.oid = c.relowner
  ),
  -- The columns' types and what these are made of. A column's own type, and what it is a domain of, is not inside of another.
  types AS (
      SELECT r.oid AS relation, a.attname AS column, a.atttypid AS type, false AS inside
      FROM relations AS r
      JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
      UNION
      SELECT outside.relation, outside.column, part.type, outside.inside OR part.inside
      FROM types AS outside
      JOIN pg_type AS t ON t.oid = outside.type AND t.oid >= ${FIRST_NORMAL_OID}
      CROSS JOIN LATERAL (
          SELECT t.typbasetype, false WHERE t.typbasetype <> 0
          UNION ALL
          SELECT t.typelem, true WHERE t.typelem <> 0
          UNION ALL
          SELECT a.atttypid, true FROM pg_attribute AS a
          WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
          UNION ALL
          SELECT g.rngsubtype, true FROM pg_range AS g WHERE t.oid IN (g.rngtypid, g.rngmultitypid)
      ) AS part (type, inside)
  ),
  -- Of ordinary roles.
  users_types AS (
      SELECT t.relation, t.column, t.type, t.inside, y.typtype AS kind, o.rolname AS owner
      FROM types AS t
      JOIN pg_type AS y ON y.oid = t.type AND y.oid >= ${FIRST_NORMAL_OID}
      JOIN pg_roles AS o ON o.oid = y.typowner AND NOT o.rolsuper
  ),
  expressions AS (
      SELECT r.oid AS relation, format('CHECK constraint %I', x.conname) AS place, x.conbin::text AS tree
      FROM relations AS r
      JOIN pg_constraint AS x ON x.conrelid = r.oid AND x.contype = 'c'
      UNION ALL
      -- A default counts where the provider does not have the column.
      SELECT r.oid, format('%s column %I', CASE WHEN a.attgenerated = '' THEN 'default of' ELSE 'generated' END, a.attname),
             d.adbin::text
      FROM relations AS r
      JOIN pg_attrdef AS d ON d.adrelid = r.oid
      JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum = d.adnum
      UNION ALL
      SELECT r.oid, format('index %I', x.relname), concat(i.indexprs::text, i.indpred::text)
      FROM relations AS r
      JOIN pg_index AS i ON i.indrelid = r.oid
      JOIN pg_class AS x ON x.oid = i.indexrelid
      UNION ALL
      SELECT r.oid, format('statistics %I', s.stxname), s.stxexprs::text
      FROM relations AS r
      JOIN pg_statistic_ext AS s ON s.stxrelid = r.oid
      UNION ALL
      SELECT r.oid, format('partition key of %s', p.partrelid::regclass), p.partexprs::text
      FROM relations AS r
      CROSS JOIN pg_partition_ancestors(r.oid) AS above
      JOIN pg_partitioned_table AS p ON p.partrelid = above
      UNION ALL
      SELECT t.relation, format('domain %s', t.type::regtype), x.conbin::text
      FROM types AS t
      JOIN pg_constraint AS x ON x.contypid = t.type
  ),
  called AS (
      SELECT e.relation, e.place, (found.oid)[1]::oid AS function
      FROM expressions AS e
      -- Every function that a stored expression calls stands in it by number, those of operators too.
      CROSS JOIN regexp_matches(e.tree, ':(?:func|opfunc|hashfunc|negfunc)id (\\d+)', 'g') AS found (oid)
      UNION
      SELECT r.oid, format('trigger %I', t.tgname), t.tgfoid
      FROM relations AS r
      JOIN pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')
      UNION
      SELECT t.relation, format('type %s', t.type::regtype), io.function
      FROM types AS t
      JOIN pg_type AS p ON p.oid = t.type
      CROSS JOIN unnest(ARRAY[p.typinput, p.typoutput, p.typreceive, p.typsend]) AS io (function)
      WHERE io.function >= ${FIRST_NORMAL_OID}
      UNION
      -- Values are made from text, and rows are kept in the conflict history as JSON.
      SELECT t.relation, format('cast of %s to %s', c.castsource::regtype, c.casttarget::regtype), c.castfunc
      FROM types AS t
      JOIN pg_cast AS c ON t.type IN (c.castsource, c.casttarget) AND c.castfunc <> 0
      WHERE t.type >= ${FIRST_NORMAL_OID}
      UNION
      SELECT t.relation, format('range type %s', t.type::regtype), f.function
      FROM types AS t
      JOIN pg_range AS g ON g.rngtypid = t.type
      CROSS JOIN unnest(ARRAY[g.rngcanonical, g.rngsubdiff]) AS f (function)
      WHERE t.type >= ${FIRST_NORMAL_OID}
  ),
  places AS (
      SELECT c.relation, format('%s: %s', c.place, p.oid::regprocedure) AS place, NOT o.rolsuper AS untrusted
      FROM called AS c
      JOIN pg_proc AS p ON p.oid = c.function
      JOIN pg_roles AS o ON o.oid = p.proowner
      JOIN pg_language AS l ON l.oid = p.prolang
      WHERE NOT (
          p.oid < ${FIRST_NORMAL_OID}
          AND (p.provolatile = 'i' OR p.proname IN (
              'nextval', 'now', 'transaction_timestamp', 'statement_timestamp', 'clock_timestamp', 'gen_random_uuid',
              'uuidv4', 'uuidv7', 'random'
          ))
      )
        -- What superusers alone can make, and what is given nothing to run.
        AND NOT (
            p.oid >= ${FIRST_NORMAL_OID} AND l.lanname IN ('c', 'internal')
            AND (p.provolatile = 'i' OR p.pronargs = 0 AND p.prorettype <> 'trigger'::regtype)
        )
        -- It draws from a sequence, as nextval() does.
        AND NOT (p.pronamespace = to_regnamespace('bdr') AND p.proname = 'global_seq_nextval' AND o.rolsuper)
      UNION
      SELECT u.relation, format('type %s of role %I', u.type::regtype, u.owner), true
      FROM users_types AS u
      WHERE u.kind IN ('c', 'd')
      UNION
      -- A value that an expression makes a domain's, or of a type that may hold a domain's.
      SELECT e.relation, format('%s: type %s', e.place, y.oid::regtype), NOT o.rolsuper
      FROM expressions AS e
      CROSS JOIN regexp_matches(e.tree, ':(?:resulttype|consttype|funcresulttype|opresulttype|row_typeid|array_typeid|typeId) (\\d+)', 'g') AS found (oid)
      JOIN pg_type AS y ON y.oid = (found.oid)[1]::oid AND y.oid >= ${FIRST_NORMAL_OID}
      JOIN pg_roles AS o ON o.oid = y.typowner
      WHERE (y.typtype IN ('c', 'd', 'r', 'm') OR y.typelem <> 0) AND e.place NOT LIKE 'domain %'
      UNION
      SELECT r.oid, format('rule %I', w.rulename), NOT r.trusted
      FROM relations AS r
      JOIN pg_rewrite AS w ON w.ev_class = r.oid AND w.ev_type <> '1' AND w.ev_enabled IN ('A', 'R')
  )
  SELECT r.schema, r.name, r.owner, r.trusted, p.places, p.untrusted,
         EXISTS (SELECT FROM users_types AS u WHERE u.relation = r.oid) AS types,
         coalesce((
             SELECT json_agg(DISTINCT t.column)
             FROM types AS t
             WHERE t.relation = r.oid
               AND (EXISTS (
                       SELECT FROM users_types AS u
                       WHERE (u.relation, u.column, u.type, u.inside) = (t.relation, t.column, t.type, t.inside)
                         AND (u.kind = 'c' OR u.kind = 'd' AND u.inside)
                   ) OR EXISTS (
                       SELECT FROM pg_cast AS c JOIN pg_proc AS f ON f.oid = c.castfunc JOIN pg_roles AS o ON o.oid = f.proowner
                       WHERE t.type IN (c.castsource, c.casttarget) AND NOT o.rolsuper
                   ))
         ), '[]') AS opaque
  FROM relations AS r
  CROSS JOIN LATERAL (
      SELECT coalesce(json_agg(p.place ORDER BY p.place), '[]') AS places,
             coalesce(json_agg(p.place ORDER BY p.place) FILTER (WHERE p.untrusted), '[]') AS untrusted
      FROM places AS p
      WHERE p.relation = r.oid
  ) AS p
  ORDER BY 1, 2
`;
