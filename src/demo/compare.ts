import { BdrError } from '../base/errors.ts';
import { displayName, quoteIdent, quoteQualified, type QualifiedName } from '../base/names.ts';
import type { Session } from '../postgres/session.ts';
import type { DemoNode } from './demo-node.ts';
import { until } from './until.ts';

interface Difference {
  readonly table: string;
  readonly detail: string;
}

/** Compares every table of all nodes row by row, until they are equal. Returns how many tables and rows that were. */
export async function waitUntilEqual(
  nodes: readonly DemoNode[],
  signal: AbortSignal,
  deadlineMs = 15_000,
): Promise<{ tables: number; rows: number }> {
  const [first, ...others] = nodes;
  if (!first) return { tables: 0, rows: 0 };
  let difference: Difference | undefined;
  try {
    return await until(
      'all tables are equal on all nodes',
      async () => {
        const content = await readTables(first);
        difference = undefined;
        for (const other of others) {
          difference ??= differs(first.name, content, other.name, await readTables(other));
        }
        if (difference) return undefined;
        const rows = [...content.values()].reduce((sum, table) => sum + table.length, 0);
        return { tables: content.size, rows };
      },
      { deadlineMs, everyMs: 100, signal },
    );
  } catch (error) {
    if (!difference || signal.aborted) throw error;
    throw new BdrError('wait_too_long', {
      message: `table ${difference.table} is not equal on all nodes`,
      detail: difference.detail,
      cause: error,
    });
  }
}

type Content = ReadonlyMap<string, readonly string[]>;

/** The rows of every user table as text, in one order everywhere, without what stays on each node. */
async function readTables(node: DemoNode): Promise<Content> {
  await using session = await node.connect();
  const content = new Map<string, string[]>();
  for (const table of await listTables(session)) {
    const row = `ROW(${table.columns.map((column) => `t.${quoteIdent(column)}`).join(', ')})::text`;
    const rows = await session.query<{ row: string }>(
      `SELECT ${row} AS row FROM ${quoteQualified(table.name)} AS t ORDER BY ${row} COLLATE "C"`,
    );
    content.set(
      displayName(table.name),
      rows.map(({ row }) => row),
    );
  }
  return content;
}

interface ComparedTable {
  readonly name: QualifiedName;
  /** Those whose values do not stay on each node. */
  readonly columns: readonly string[];
}

async function listTables(session: Session): Promise<ComparedTable[]> {
  const tables = await session.query<{ schema: string; name: string; columns: string }>(/* sql */ `
    SELECT n.nspname AS schema, c.relname AS name,
           (
               SELECT coalesce(json_agg(a.attname ORDER BY a.attnum), '[]')
               FROM pg_attribute AS a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 AND a.attname <> ALL (bdr.internal_local_columns(c.oid))
           ) AS columns
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence = 'p'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'bdr', 'bdr_guard')
    ORDER BY 1, 2
  `);
  return tables.map(({ schema, name, columns }) => ({
    name: { schema, name },
    columns: JSON.parse(columns) as string[],
  }));
}

function differs(aName: string, a: Content, bName: string, b: Content): Difference | undefined {
  for (const table of new Set([...a.keys(), ...b.keys()])) {
    const [inA, inB] = [a.get(table), b.get(table)];
    if (!inA || !inB) return { table, detail: `It is missing on ${inA ? bName : aName}.` };
    const [setA, setB] = [new Set(inA), new Set(inB)];
    const onlyA = inA.find((row) => !setB.has(row));
    const onlyB = inB.find((row) => !setA.has(row));
    if (onlyA === undefined && onlyB === undefined && inA.length === inB.length) continue;
    const parts = [
      `${inA.length} rows on ${aName}, ${inB.length} on ${bName}.`,
      onlyA && `Only on ${aName}: ${onlyA}.`,
      onlyB && `Only on ${bName}: ${onlyB}.`,
    ];
    return { table, detail: parts.filter(Boolean).join(' ') };
  }
  return undefined;
}
