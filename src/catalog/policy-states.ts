import type { QualifiedName } from '../base/names.ts';
import type { TablePolicy } from '../conflict/policy.ts';
import type { Session } from '../postgres/session.ts';

/** A conflict handler as this node has it. */
export interface HandlerState {
  readonly name: string;
  /** `schema.function(types)` */
  readonly signature: string;
  readonly state: 'usable' | 'missing' | 'unfit' | 'not_owners';
}

/** The conflict policy of a table as this node has it: what is set travels, tables and functions are each node's own. */
export interface PolicyState {
  readonly table: QualifiedName;
  readonly policy: TablePolicy['name'];
  /** Whether the table is here. */
  readonly isHere: boolean;
  /** Whether it has a primary key that is checked at once. */
  readonly hasKey: boolean;
  /** Whether its changes tell what their writers knew: REPLICA IDENTITY FULL. */
  readonly tellsOldRows: boolean;
  /** Names of nodes that are no members, of those that are ranked. */
  readonly unknownNodes: readonly string[];
  readonly handlers: readonly HandlerState[];
}

/** All policies that are set, by table. */
export async function readPolicyStates(session: Session): Promise<PolicyState[]> {
  const rows = await session.query<{ state: string }>(/* sql */ `
    SELECT json_build_object(
        'table', json_build_object('schema', p.schema_name, 'name', p.table_name),
        'policy', p.policy,
        'isHere', c.oid IS NOT NULL,
        'hasKey', EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate),
        'tellsOldRows', coalesce(c.relreplident = 'f', false),
        'unknownNodes', coalesce((
            SELECT json_agg(name)
            FROM unnest(p.nodes) AS name
            WHERE NOT EXISTS (SELECT FROM bdr.bdr_nodes AS n WHERE n.node_name = name AND n.node_status <> 'k')
        ), '[]'),
        'handlers', coalesce((
            SELECT json_agg(json_build_object('name', h.ch_name, 'signature', h.ch_fun, 'state', CASE
                WHEN f.oid IS NULL THEN 'missing'
                WHEN bdr.internal_handler_flaw(c.oid::regclass, f.oid::regprocedure) IS NOT NULL THEN 'unfit'
                WHEN NOT bdr.internal_is_owners_handler(c.oid::regclass, f.oid::regprocedure) THEN 'not_owners'
                ELSE 'usable'
            END) ORDER BY h.ch_name)
            FROM bdr.bdr_conflict_handlers AS h
            LEFT JOIN pg_proc AS f ON f.oid = to_regprocedure(h.ch_fun)
            WHERE (h.ch_schema, h.ch_table) = (p.schema_name, p.table_name)
        ), '[]')
    )::text AS state
    FROM bdr.conflict_policy AS p
    LEFT JOIN (pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace AND c.relkind = 'r')
        ON n.nspname = p.schema_name AND c.relname = p.table_name
    ORDER BY p.schema_name, p.table_name
  `);
  return rows.map(({ state }) => JSON.parse(state) as PolicyState);
}
