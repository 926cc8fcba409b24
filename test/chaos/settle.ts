import { until } from '../../src/demo/until.ts';
import { pause } from '../../src/base/wait.ts';
import { HAS_LOOKED_BELOW, HAS_NOTHING_LEFT, HAS_READ_OWN_LOG } from '../support/settled.ts';
import type { ChaosNode } from './chaos-node.ts';

export interface SettleOptions {
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/** Returns when every node has applied all that any has committed, has read it in its own log, and has done what that asks for. */
export async function settle(
  nodes: readonly ChaosNode[],
  { deadlineMs, signal }: SettleOptions,
): Promise<void> {
  const end = performance.now() + deadlineMs;
  const left = () => Math.max(1000, Math.round(end - performance.now()));
  const marks = new Map<ChaosNode, string>();
  // What is told of lost rows is a write of its own, which the others have to apply.
  while (await settleOnce(nodes, marks, { left, signal })) {
    if (performance.now() > end) throw new Error('there is always something to tell of lost rows');
    await pause(100, signal);
  }
}

/** Returns whether a node has had something to tell since `marks`, which are then those of now. */
async function settleOnce(
  nodes: readonly ChaosNode[],
  marks: Map<ChaosNode, string>,
  { left, signal }: { readonly left: () => number; readonly signal: AbortSignal },
): Promise<boolean> {
  const ends = await Promise.all(
    nodes.map(async (node) => {
      const [row] = await node.query<{ lsn: string }>(
        'SELECT pg_current_wal_insert_lsn() AS lsn',
        [],
        { signal },
      );
      return row?.lsn ?? '0/0';
    }),
  );
  await Promise.all(
    nodes.map((node) =>
      node.query(`SELECT bdr.bdr_wait_for_apply($1::interval)`, [`${left()} ms`], { signal }),
    ),
  );
  for (const [index, node] of nodes.entries()) {
    await using session = await node.connect({ signal });
    const isDone = async (sql: string, params: readonly string[] = []) =>
      (await session.query<{ done: string }>(sql, params))[0]?.done === 't';
    await until(
      `${node.name} reads its own log`,
      () => isDone(HAS_READ_OWN_LOG, [ends[index] ?? '0/0']),
      { deadlineMs: left(), signal },
    );
    await until(
      `${node.name} looks below the deletions of others`,
      () => isDone(HAS_LOOKED_BELOW),
      { deadlineMs: left(), signal },
    );
  }
  let isNew = false;
  for (const node of nodes) {
    await using session = await node.connect({ signal });
    let mark = '';
    const isDone = async () => {
      const [row] = await session.query<{ done: string; mark: string }>(HAS_NOTHING_LEFT);
      mark = row?.mark ?? '';
      return row?.done === 't';
    };
    await until(`${node.name} has nothing left to read again or to tell`, isDone, {
      deadlineMs: left(),
      signal,
    });
    isNew ||= mark !== marks.get(node);
    marks.set(node, mark);
  }
  return isNew;
}

/** How the links of the nodes stand, a line each: for a group that does not settle. */
export async function describeLinks(nodes: readonly ChaosNode[]): Promise<string[]> {
  const lines: string[] = [];
  for (const node of nodes) {
    const links = await node.query<Record<string, string | null>>(/* sql */ `
      SELECT n.node_name AS provider, l.status, l.received_lsn, l.applied_lsn, l.status_error ->> 'message' AS error
      FROM bdr.bdr_links AS l
      JOIN bdr.bdr_nodes AS n
        ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.provider_sysid, l.provider_timeline, l.provider_dboid)
      ORDER BY 1
    `);
    for (const { provider, status, received_lsn, applied_lsn, error } of links) {
      lines.push(
        `${node.name} from ${provider}: ${status}, received ${received_lsn}, applied ${applied_lsn}${error === null ? '' : `, ${error}`}`,
      );
    }
  }
  return lines;
}
