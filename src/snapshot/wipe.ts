import { quoteIdent } from '../base/names.ts';
import type { Session } from '../postgres/session.ts';

/** What a database held before a copy began: that stays. */
export interface Before {
  readonly schemas: readonly string[];
  readonly extensions: readonly string[];
  /** Other objects, as `<catalog>/<oid>`: usually none, because the database was free of user tables. */
  readonly objects: readonly string[];
}

/** Every object that a dump can make, apart from schemas, extensions and what belongs to those or to other objects. */
const OBJECTS = /* sql */ `
  SELECT object.classid, object.objid
  FROM (
      SELECT 'pg_class'::regclass::oid AS classid, c.oid AS objid, c.relnamespace AS namespace FROM pg_class AS c
      WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      UNION ALL SELECT 'pg_proc'::regclass, p.oid, p.pronamespace FROM pg_proc AS p
      UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typnamespace FROM pg_type AS t
                WHERE t.typtype IN ('b', 'd', 'e', 'p', 'r')
                   OR EXISTS (SELECT FROM pg_class AS c WHERE c.oid = t.typrelid AND c.relkind = 'c')
      UNION ALL SELECT 'pg_operator'::regclass, o.oid, o.oprnamespace FROM pg_operator AS o
      UNION ALL SELECT 'pg_opclass'::regclass, k.oid, k.opcnamespace FROM pg_opclass AS k
      UNION ALL SELECT 'pg_opfamily'::regclass, f.oid, f.opfnamespace FROM pg_opfamily AS f
      UNION ALL SELECT 'pg_collation'::regclass, l.oid, l.collnamespace FROM pg_collation AS l
      UNION ALL SELECT 'pg_conversion'::regclass, v.oid, v.connamespace FROM pg_conversion AS v
      UNION ALL SELECT 'pg_ts_config'::regclass, g.oid, g.cfgnamespace FROM pg_ts_config AS g
      UNION ALL SELECT 'pg_ts_dict'::regclass, g.oid, g.dictnamespace FROM pg_ts_dict AS g
      UNION ALL SELECT 'pg_ts_parser'::regclass, g.oid, g.prsnamespace FROM pg_ts_parser AS g
      UNION ALL SELECT 'pg_ts_template'::regclass, g.oid, g.tmplnamespace FROM pg_ts_template AS g
      UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, s.stxnamespace FROM pg_statistic_ext AS s
      -- Those below are in no schema.
      UNION ALL SELECT 'pg_foreign_server'::regclass, s.oid, NULL FROM pg_foreign_server AS s
      UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, w.oid, NULL FROM pg_foreign_data_wrapper AS w
      UNION ALL SELECT 'pg_event_trigger'::regclass, e.oid, NULL FROM pg_event_trigger AS e WHERE e.evtname NOT LIKE 'bdr%'
      UNION ALL SELECT 'pg_cast'::regclass, x.oid, NULL FROM pg_cast AS x WHERE x.oid >= 16384
      UNION ALL SELECT 'pg_language'::regclass, l.oid, NULL FROM pg_language AS l WHERE l.oid >= 16384
      UNION ALL SELECT 'pg_am'::regclass, m.oid, NULL FROM pg_am AS m WHERE m.oid >= 16384
  ) AS object
  LEFT JOIN pg_namespace AS n ON n.oid = object.namespace
  WHERE (object.namespace IS NULL
         OR (n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'bdr', 'bdr_guard')))
    AND NOT EXISTS (
        SELECT FROM pg_depend AS d
        -- As a whole: the columns of a partition key belong to their own table.
        WHERE d.classid = object.classid AND d.objid = object.objid AND d.objsubid = 0 AND d.deptype IN ('e', 'i')
    )
`;

/** Kinds of objects that DROP calls by other names than pg_identify_object(). */
const KINDS_IN_DROP: Readonly<Record<string, string>> = {
  'foreign-data wrapper': 'foreign data wrapper',
  'statistics object': 'statistics',
};

/** Asked before a copy begins. */
export async function objectsBefore(session: Session): Promise<Before> {
  const rows = await session.query<{ kind: keyof Before; name: string }>(/* sql */ `
    SELECT 'schemas' AS kind, nspname::text AS name FROM pg_namespace
    UNION ALL
    SELECT 'extensions', extname::text FROM pg_extension
    UNION ALL
    SELECT 'objects', format('%s/%s', object.classid, object.objid) FROM (${OBJECTS}) AS object
  `);
  const names = (kind: string) => rows.filter((row) => row.kind === kind).map((row) => row.name);
  return { schemas: names('schemas'), extensions: names('extensions'), objects: names('objects') };
}

/** Empties a database of what an interrupted copy has put there: everything but what was there before. */
export async function wipeDatabase(session: Session, before: Before): Promise<void> {
  await session.transaction(async () => {
    await session.script('SET LOCAL session_replication_role = replica');
    const extensions = await session.query<{ name: string }>(
      /* sql */ `SELECT extname AS name FROM pg_extension WHERE extname <> ALL ($1)`,
      [`{${before.extensions.map(quoteIdent).join(',')}}`],
    );
    for (const { name } of extensions) {
      await session.script(`DROP EXTENSION IF EXISTS ${quoteIdent(name)} CASCADE`);
    }
    const schemas = await session.query<{ name: string }>(
      /* sql */ `
        SELECT nspname AS name FROM pg_namespace
        WHERE nspname <> ALL ($1) AND nspname !~ '^pg_(temp|toast)'
      `,
      [`{${before.schemas.map(quoteIdent).join(',')}}`],
    );
    for (const { name } of schemas) {
      await session.script(`DROP SCHEMA IF EXISTS ${quoteIdent(name)} CASCADE`);
    }
    for (;;) {
      const [object] = await session.query<{ type: string; identity: string }>(
        /* sql */ `
          SELECT o.type, o.identity
          FROM (${OBJECTS}) AS object
          CROSS JOIN LATERAL pg_identify_object(object.classid, object.objid, 0) AS o
          WHERE format('%s/%s', object.classid, object.objid) <> ALL ($1)
          LIMIT 1
        `,
        [`{${before.objects.join(',')}}`],
      );
      if (!object) return;
      const kind = KINDS_IN_DROP[object.type] ?? object.type;
      await session.script(`DROP ${kind} IF EXISTS ${object.identity} CASCADE`);
    }
  });
}
