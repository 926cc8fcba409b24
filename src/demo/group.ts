import { quoteIdent } from '../base/names.ts';
import { pause } from '../base/wait.ts';
import { ACCOUNTS_TABLE } from './accounts.ts';
import type { DemoNode } from './demo-node.ts';
import type { Demo } from './demo.ts';
import type { Steps } from './steps.ts';

/** The database of the group. */
export const DEMO_DATABASE = 'demo';

const READY_MS = 180_000;

/**
 * Makes one group of all nodes, by the SQL that a user would type. Each step looks first whether it was done before, so that
 * a demo that was started earlier, or interrupted, goes on. Returns whether there was anything to do.
 */
export async function formGroup(demo: Demo, steps: Steps, signal: AbortSignal): Promise<boolean> {
  const [first, ...others] = demo.nodes;
  if (!first) return false;
  const states = await Promise.all(demo.nodes.map(isMember));
  if (!states.includes(false)) {
    await steps('the group is there already', () => waitUntilReady(demo.nodes, signal));
    return false;
  }
  if (!states[0]) {
    await steps(`create the group on ${first.name}`, async (note) => {
      await makeDatabase(first);
      await first.query(ACCOUNTS_TABLE);
      await first.query(
        /* sql */ `SELECT bdr.bdr_group_create(local_node_name := $1, node_external_dsn := $2)`,
        [first.name, first.dsn],
      );
      await waitForReady(first, note, signal);
    });
  }
  for (const [index, node] of others.entries()) {
    if (states[index + 1]) continue;
    await steps(`join ${node.name} by way of ${first.name}`, async (note) => {
      await makeDatabase(node);
      await node.query(
        /* sql */ `
          SELECT bdr.bdr_group_join(
              local_node_name := $1, node_external_dsn := $2, join_using_dsn := $3
          )
        `,
        [node.name, node.dsn, first.dsn],
      );
      await waitForReady(node, note, signal);
    });
  }
  await steps('wait until all nodes are ready', async () => {
    await waitUntilReady(demo.nodes, signal);
    await waitForApply(demo.nodes, signal);
  });
  return true;
}

/** Returns when every node has applied, durably, what was committed on any of them before. */
export async function waitForApply(
  nodes: readonly DemoNode[],
  signal: AbortSignal,
  timeout = '30 s',
): Promise<void> {
  await Promise.all(
    nodes.map((node) =>
      cancellable(node, signal, /* sql */ `SELECT bdr.bdr_wait_for_apply($1::interval)`, [timeout]),
    ),
  );
}

async function waitUntilReady(nodes: readonly DemoNode[], signal: AbortSignal): Promise<void> {
  await Promise.all(nodes.map((node) => waitForReady(node, () => undefined, signal)));
}

/** Waits for the node's join and tells its steps meanwhile. */
async function waitForReady(
  node: DemoNode,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const over = new AbortController();
  // Only shown: what is wrong with the node, the wait itself tells.
  const told = tellProgress(node, note, AbortSignal.any([signal, over.signal])).catch(
    () => undefined,
  );
  try {
    await cancellable(node, signal, /* sql */ `SELECT bdr.bdr_node_join_wait_for_ready()`);
  } finally {
    over.abort();
    await told;
    note('');
  }
}

async function tellProgress(
  node: DemoNode,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  await using session = await node.connect();
  while (!signal.aborted) {
    const [row] = await session.query<{ step: string | null; text: string | null }>(/* sql */ `
      SELECT join_step AS step, join_progress ->> 'text' AS text FROM bdr.bdr_local_node
    `);
    if (row?.step) note([row.step, row.text].filter(Boolean).join(': '));
    await pause(200, signal);
  }
}

/** Runs a statement that waits; it is given up when the signal is raised. */
async function cancellable(
  node: DemoNode,
  signal: AbortSignal,
  sql: string,
  params: readonly string[] = [],
): Promise<void> {
  const settings = { statement_timeout: String(READY_MS) };
  await using session = await node.connect(node.database, { signal, settings });
  const giveUp = () => session.abort();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    await session.query(sql, params);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

async function makeDatabase(node: DemoNode): Promise<void> {
  if (!(await hasDatabase(node))) {
    await using session = await node.connect('postgres');
    await session.query(`CREATE DATABASE ${quoteIdent(node.database)}`);
  }
  await node.query(`CREATE EXTENSION IF NOT EXISTS bdr`);
}

async function isMember(node: DemoNode): Promise<boolean> {
  if (!(await hasDatabase(node))) return false;
  const [extension] = await node.query(`SELECT FROM pg_extension WHERE extname = 'bdr'`);
  if (!extension) return false;
  const [row] = await node.query<{ active: string }>(`SELECT bdr.bdr_is_active_in_db() AS active`);
  return row?.active === 't';
}

async function hasDatabase(node: DemoNode): Promise<boolean> {
  await using session = await node.connect('postgres');
  const rows = await session.query(`SELECT FROM pg_database WHERE datname = $1`, [node.database]);
  return rows.length > 0;
}
