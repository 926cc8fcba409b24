import type { ConflictType, Resolution } from '../conflict/decide.ts';
import type { Session } from '../postgres/session.ts';
import type { ConflictAction } from './conflict-history.ts';
import { momentSql, type Moment } from './monitoring.ts';

/** A conflict of the history, as far as people are shown it in one line. */
export interface ConflictEntry {
  readonly id: number;
  readonly at: Moment;
  readonly schema: string;
  readonly table: string;
  /** `id=5, part=x`; null where none is known. */
  readonly key: string | null;
  readonly type: ConflictType;
  readonly resolution: Resolution;
  /** What this node did with its row. */
  readonly action: ConflictAction;
  readonly certainlyConcurrent: boolean;
  /** Who wrote the row that was here, or deleted it. Null where nobody is known. */
  readonly local: string | null;
  /** Whose change arrived. */
  readonly remote: string;
  /** All of it, as JSON text in one line: the server's own, since a number in a row may be too long for ours. */
  readonly json: string;
}

/** A table as somebody names it; in any schema where none is given. */
export interface TableName {
  readonly schema: string | null;
  readonly name: string;
}

/** Which conflicts are asked for. */
export interface ConflictFilter {
  readonly table: TableName | undefined;
  /** Those that were resolved from then on. */
  readonly since: Moment | undefined;
}

/** Reads conflicts of this node with numbers above `after`, but for some, in the order of the numbers. */
export async function readConflicts(
  session: Session,
  { table, since }: ConflictFilter,
  range: { readonly after: number; readonly except: readonly number[]; readonly most: number },
): Promise<ConflictEntry[]> {
  const rows = await session.query<
    Record<'id' | 'at' | 'schema' | 'table' | 'certain' | 'remote' | 'json', string> & {
      key: string | null;
      type: ConflictType;
      resolution: Resolution;
      action: ConflictAction;
      local: string | null;
    }
  >(
    /* sql */ `
      SELECT c.id, c.at, c.schema, c.table, c.type, c.resolution, c.action, c.certain, c.local, c.remote,
             (SELECT string_agg(k.key || '=' || coalesce(k.value, 'null'), ', ' ORDER BY k.n)
              FROM json_each_text(c.key) WITH ORDINALITY AS k (key, value, n)) AS key,
             json_build_object(
                 'id', c.id, 'at', c.at, 'schema', c.schema, 'table', c.table, 'key', c.key,
                 'type', c.type, 'resolution', c.resolution, 'policy', c.policy, 'rule', c.rule, 'action', c.action,
                 'certainlyConcurrent', c.certain,
                 'local', json_build_object('node', c.local, 'committedAt', c.local_at, 'row', c.local_row),
                 'remote', json_build_object('node', c.remote, 'committedAt', c.remote_at, 'xid', c.remote_xid,
                                             'commitLsn', c.remote_lsn, 'row', c.remote_row)
             )::text AS json
      FROM (
          SELECT h.conflict_id AS id, ${momentSql('h.local_conflict_time', 'US')} AS at,
                 h.object_schema AS schema, h.object_name AS table, h.row_key AS key,
                 h.conflict_type AS type, h.conflict_resolution AS resolution, h.policy, h.rule, h.action,
                 h.certainly_concurrent AS certain,
                 ${nodeSql('h.local_tuple_origin')} AS local,
                 ${momentSql('h.local_commit_time', 'US')} AS local_at, h.local_tuple AS local_row,
                 ${nodeSql('h.remote_node')} AS remote,
                 ${momentSql('h.remote_commit_time', 'US')} AS remote_at, h.remote_tuple AS remote_row,
                 h.remote_txid AS remote_xid, h.remote_commit_lsn AS remote_lsn
          FROM bdr.bdr_conflict_history AS h
          WHERE h.local_node_sysid = (SELECT node_sysid FROM bdr.bdr_local_node)
            AND h.conflict_id > $1 AND h.conflict_id <> ALL ($2::bigint[])
            AND ($3::text IS NULL OR h.object_schema = $3) AND ($4::text IS NULL OR h.object_name = $4)
            AND ($5::timestamptz IS NULL OR h.local_conflict_time >= $5)
          ORDER BY h.conflict_id
          LIMIT $6
      ) AS c
      ORDER BY c.id
    `,
    [
      range.after,
      `{${range.except.join(',')}}`,
      table?.schema ?? null,
      table?.name ?? null,
      since ?? null,
      range.most,
    ],
  );
  return rows.map(({ certain, json, ...row }) => ({
    ...row,
    id: Number(row.id),
    certainlyConcurrent: certain === 't',
    // A user's JSON may hold line breaks: between values, for inside strings there are none.
    json: json.replaceAll(/[\r\n]+/g, ' '),
  }));
}

/** A node by its name, or, where bdr.bdr_nodes does not know it, by its identity. */
function nodeSql(prefix: string): string {
  const id = `(${prefix}_sysid, ${prefix}_timeline, ${prefix}_dboid)`;
  return (
    `coalesce((SELECT n.node_name FROM bdr.bdr_nodes AS n WHERE (n.node_sysid, n.node_timeline, n.node_dboid) = ${id}),` +
    ` ${prefix}_sysid || ':' || ${prefix}_timeline || ':' || ${prefix}_dboid)`
  );
}

/** Below this number there is nothing that was resolved since then. Numbers and times may cross by moments: a minute is left. */
export async function readNumberBefore(session: Session, since: Moment): Promise<number> {
  const [row] = await session.query<{ number: string }>(
    /* sql */ `
      SELECT coalesce(max(conflict_id), 0) AS number
      FROM bdr.bdr_conflict_history
      WHERE local_node_sysid = (SELECT node_sysid FROM bdr.bdr_local_node)
        AND local_conflict_time < $1::timestamptz - interval '1 minute'
    `,
    [since],
  );
  return Number(row?.number);
}

/** How far numbers are given out, and who may still hold one that nobody sees. */
export interface HistoryHorizon {
  /** The last number that was given out. */
  readonly last: number;
  /** The transactions that are open and have written conflicts, or are about to: who draws a number has locked the table before. */
  readonly writers: readonly string[];
}

export async function readHistoryHorizon(session: Session): Promise<HistoryHorizon> {
  const [row] = await session.query<{ last: string; writers: string | null }>(/* sql */ `
    SELECT last_value AS last, (
               SELECT json_agg(virtualtransaction)
               FROM pg_locks
               WHERE locktype = 'relation' AND relation = 'bdr.bdr_conflict_history'::regclass
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND mode = 'RowExclusiveLock'
           ) AS writers
    FROM bdr.bdr_conflict_history_id_seq
  `);
  return {
    last: Number(row?.last),
    writers: JSON.parse(row?.writers ?? '[]') as string[],
  };
}

/** A moment so long ago, or one that is written in any way that PostgreSQL reads. Throws the server's error where it does not. */
export async function readMoment(
  session: Session,
  asked: { readonly ago: string } | { readonly at: string },
): Promise<Moment> {
  const [expression, text] =
    'ago' in asked
      ? ['clock_timestamp() - $1::interval', asked.ago]
      : ['$1::timestamptz', asked.at];
  const [row] = await session.query<{ moment: Moment }>(`SELECT (${expression})::text AS moment`, [
    text,
  ]);
  return row?.moment ?? '';
}

/**
 * Reads the name of a table as SQL would: folded to lower case unless it is quoted. Undefined where the database has no such table
 * and its history no conflict of one. Throws the server's error where it is no name.
 */
export async function readTableName(
  session: Session,
  text: string,
): Promise<TableName | undefined> {
  const [row] = await session.query<{ schema: string | null; name: string; known: string }>(
    /* sql */ `
      SELECT t.schema, t.name,
             EXISTS (
                 SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE c.relname = t.name AND n.nspname = coalesce(t.schema, n.nspname) AND c.relkind IN ('r', 'p')
             ) OR EXISTS (
                 SELECT FROM bdr.bdr_conflict_history
                 WHERE object_name = t.name AND object_schema = coalesce(t.schema, object_schema)
             ) AS known
      FROM parse_ident($1) AS p,
           LATERAL (SELECT CASE WHEN cardinality(p) > 1 THEN p[cardinality(p) - 1] END, p[cardinality(p)]) AS t (schema, name)
      WHERE cardinality(p) <= 2
    `,
    [text],
  );
  return row?.known === 't' ? { schema: row.schema, name: row.name } : undefined;
}
