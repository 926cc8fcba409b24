import type { QualifiedName } from '../base/names.ts';
import type { ConflictType } from '../conflict/decide.ts';
import type { TablePolicy } from '../conflict/policy.ts';
import type { Session } from '../postgres/session.ts';

/** What is set for a table by bdr_set_conflict_policy(); undefined for last update wins. */
export async function readTablePolicy(
  session: Session,
  { schema, name }: QualifiedName,
): Promise<TablePolicy | undefined> {
  const { rows } = await session.execute<{ policy: TablePolicy['name']; nodes: string | null }>(
    'bdr_table_policy',
    /* sql */ `
      SELECT p.policy, array_to_json(p.nodes)::text AS nodes
      FROM bdr.conflict_policy AS p
      WHERE p.schema_name = $1 AND p.table_name = $2
    `,
    [schema, name],
  );
  const [row] = rows;
  if (row?.policy !== 'node_priority') return row && { name: row.policy };
  return { name: row.policy, nodes: JSON.parse(row.nodes ?? '[]') as string[] };
}

/** A function that a user has made a conflict handler, as this node has it. */
export interface ConflictHandler {
  readonly name: string;
  /** `schema.function(types)` */
  readonly signature: string;
  /** Null where this node has no such function. */
  readonly found: {
    readonly name: QualifiedName;
    /** OID. */
    readonly owner: string;
    /** Why it cannot be a handler here; null where it can. */
    readonly flaw: string | null;
  } | null;
}

/**
 * The handlers of a table for a type of conflict, in the order in which they are asked: those in whose time frame two versions lie
 * that are so many microseconds apart.
 */
export async function readConflictHandlers(
  session: Session,
  { oid, name }: { readonly oid: string; readonly name: QualifiedName },
  type: ConflictType,
  apartUs: number,
): Promise<ConflictHandler[]> {
  const rows = await session.query<{
    name: string;
    signature: string;
    schema: string | null;
    function: string | null;
    owner: string | null;
    flaw: string | null;
  }>(
    /* sql */ `
      SELECT h.ch_name AS name, h.ch_fun AS signature,
             n.nspname AS schema, p.proname AS function, p.proowner AS owner,
             coalesce(
                 bdr.internal_handler_flaw($1::oid::regclass, p.oid::regprocedure),
                 CASE
                     WHEN NOT bdr.internal_is_owners_handler($1::oid::regclass, p.oid::regprocedure)
                     THEN 'the owner of the table has not the rights of the function''s owner, with which it runs'
                 END
             ) AS flaw
      FROM bdr.bdr_conflict_handlers AS h
      LEFT JOIN (pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace) ON p.oid = to_regprocedure(h.ch_fun)
      WHERE h.ch_schema = $2 AND h.ch_table = $3 AND h.ch_type = $4::bdr.bdr_conflict_type
        AND (h.ch_timeframe IS NULL OR make_interval(secs => $5::float8 / 1000000) <= h.ch_timeframe)
      ORDER BY h.ch_name
    `,
    [oid, name.schema, name.name, type, apartUs],
  );
  return rows.map((row) => ({
    name: row.name,
    signature: row.signature,
    found:
      row.schema === null || row.function === null || row.owner === null
        ? null
        : {
            name: { schema: row.schema, name: row.function },
            owner: row.owner,
            flaw: row.flaw,
          },
  }));
}

/** OIDs of the tables here that have a policy, as a subquery. */
export const POLICY_TABLES = /* sql */ `
  SELECT c.oid
  FROM bdr.conflict_policy AS p
  JOIN pg_namespace AS n ON n.nspname = p.schema_name
  JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = p.table_name
`;
