import { quoteIdent } from '../../src/base/names.ts';
import type { ChaosNode } from './chaos-node.ts';
import type { FoundRow, HistoryEntry, NodeState } from './node-state.ts';
import { CONTENDED, imageOf, JOURNAL, type ContendedTable } from './tables.ts';

/** Reads all that is compared. */
export async function readNode(node: ChaosNode, signal: AbortSignal): Promise<NodeState> {
  await using session = await node.connect({ signal });
  const tables = new Map<string, Map<string, FoundRow>>();
  for (const table of CONTENDED) {
    const rows = await session.query<FoundRow & { key: string }>(/* sql */ `
      SELECT ${table.key('t')} AS key, t.tag, ${imageOf(table, 't')} AS image, left((t.*)::text, 100) AS text
      FROM public.${quoteIdent(table.name)} AS t ORDER BY 1
    `);
    tables.set(table.name, new Map(rows.map(({ key, ...row }) => [key, row])));
  }
  const journal = await session.query<
    Record<'entry' | 'parts' | 'different' | 'at', string>
  >(/* sql */ `
      SELECT entry, count(*) AS parts, count(DISTINCT part) AS different,
          coalesce(max((extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint), 0) AS at
      FROM public.${JOURNAL} GROUP BY entry
    `);
  const [self] = await session.query<{ number: string }>(/* sql */ `
    SELECT n.node_seq_id AS number FROM bdr.bdr_nodes AS n WHERE n.node_name = bdr.bdr_get_local_node_name()
  `);
  const history = await session.query<HistoryEntry>(/* sql */ `
    SELECT h.object_name AS table, ${keyInHistory()} AS key,
        h.local_tuple ->> 'tag' AS "localTag", h.remote_tuple ->> 'tag' AS "remoteTag",
        concat_ws(' ', h.local_conflict_time::time, h.conflict_type, h.conflict_resolution,
            'local', coalesce(h.local_tuple ->> 'tag', '-'), 'of', h.local_commit_time::time,
            'remote', coalesce(h.remote_tuple ->> 'tag', '-'), 'of', h.remote_commit_time::time) AS text
    FROM bdr.bdr_conflict_history AS h ORDER BY h.conflict_id
  `);
  return {
    name: node.name,
    number: Number(self?.number),
    tables,
    journal: new Map(
      journal.map(({ entry, parts, different, at }) => [
        entry,
        { parts: Number(parts), differentParts: Number(different), committedAt: BigInt(at) },
      ]),
    ),
    history,
  };
}

/** The key of the row that a conflict is about, whichever of the two rows tells it. */
function keyInHistory(): string {
  const either = ({ keyInHistory: key }: ContendedTable) =>
    `coalesce(${key('h.local_tuple')}, ${key('h.remote_tuple')})`;
  const cases = CONTENDED.map((table) => `WHEN '${table.name}' THEN ${either(table)}`);
  return `CASE h.object_name ${cases.join(' ')} END`;
}
