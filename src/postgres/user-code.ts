import type { QualifiedName } from '../base/names.ts';
import type { Session } from './session.ts';

/** What of a table runs a function of some role when a row is written in replica role. */
export interface UserCode {
  readonly table: QualifiedName;
  /** The table's owner is a superuser, who needs no such trick. */
  readonly isOwnersTrusted: boolean;
  /** For people: `CHECK constraint positive: app.is_positive(integer)`, and the like; empty when there is none. */
  readonly places: readonly string[];
}

/**
 * Finds what runs users' code when apply writes to tables (DESIGN 3.5): it would run with the rights of apply. Held for harmless
 * are only the server's own functions that are immutable, and a few others that defaults use: query_to_xml(), say, is the
 * server's own too, and runs any SQL. What is found without need costs time, what is missed costs the server.
 *
 * Row security, foreign keys, and triggers and rules that are not ALWAYS or REPLICA do not count in apply sessions. Operator
 * classes and base types are made by superusers only.
 */
export async function readUserCode(
  session: Session,
  tables: readonly QualifiedName[],
): Promise<UserCode[]> {
  const rows = await session.query<{
    schema: string;
    name: string;
    trusted: string;
    places: string;
  }>(USER_CODE, [JSON.stringify(tables)]);
  return rows.map(({ schema, name, trusted, places }) => ({
    table: { schema, name },
    isOwnersTrusted: trusted === 't',
    places: JSON.parse(places) as string[],
  }));
}

/** The first object id that is none of the server's own. */
const FIRST_NORMAL_OID = 16384;

const USER_CODE = /* sql */ `
  WITH RECURSIVE relations AS (
      SELECT c.oid, n.nspname AS schema, c.relname AS name, r.rolsuper AS trusted
      FROM json_to_recordset($1::json) AS asked (schema text, name text)
      JOIN pg_namespace AS n ON n.nspname = asked.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = asked.name AND c.relkind = 'r'
      JOIN pg_roles AS r ON r.oid = c.relowner
  ),
  -- The columns' types and what these are made of.
  types AS (
      SELECT r.oid AS relation, a.atttypid AS type
      FROM relations AS r
      JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
      UNION
      SELECT outside.relation, inside.type
      FROM types AS outside
      JOIN pg_type AS t ON t.oid = outside.type AND t.oid >= ${FIRST_NORMAL_OID}
      CROSS JOIN LATERAL (
          SELECT t.typbasetype WHERE t.typbasetype <> 0
          UNION ALL
          SELECT t.typelem WHERE t.typelem <> 0
          UNION ALL
          SELECT a.atttypid FROM pg_attribute AS a
          WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
          UNION ALL
          SELECT g.rngsubtype FROM pg_range AS g WHERE t.oid IN (g.rngtypid, g.rngmultitypid)
      ) AS inside (type)
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
      -- Rows are kept in the conflict history as JSON.
      SELECT t.relation, format('cast of %s to %s', t.type::regtype, c.casttarget::regtype), c.castfunc
      FROM types AS t
      JOIN pg_cast AS c ON c.castsource = t.type AND c.casttarget IN ('json'::regtype, 'jsonb'::regtype) AND c.castfunc <> 0
  ),
  places AS (
      SELECT c.relation, format('%s: %s', c.place, p.oid::regprocedure) AS place
      FROM called AS c
      JOIN pg_proc AS p ON p.oid = c.function
      JOIN pg_language AS l ON l.oid = p.prolang
      WHERE NOT (
          p.oid < ${FIRST_NORMAL_OID}
          AND (p.provolatile = 'i' OR p.proname IN (
              'nextval', 'now', 'transaction_timestamp', 'statement_timestamp', 'clock_timestamp', 'gen_random_uuid',
              'uuidv4', 'uuidv7', 'random'
          ))
      )
        -- What superusers alone can make, and what is given nothing to run.
        AND NOT (p.oid >= ${FIRST_NORMAL_OID} AND l.lanname = 'c' AND p.provolatile = 'i')
      UNION
      SELECT r.oid, format('rule %I', w.rulename)
      FROM relations AS r
      JOIN pg_rewrite AS w ON w.ev_class = r.oid AND w.ev_type <> '1' AND w.ev_enabled IN ('A', 'R')
  )
  SELECT r.schema, r.name, r.trusted,
         coalesce((SELECT json_agg(p.place ORDER BY p.place) FROM places AS p WHERE p.relation = r.oid), '[]') AS places
  FROM relations AS r
  ORDER BY 1, 2
`;
