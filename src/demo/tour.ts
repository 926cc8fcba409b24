import {
  insertAccount,
  insertSeen,
  readAccount,
  seenOn,
  updateAccount,
  type Account,
} from './accounts.ts';
import { waitUntilEqual } from './compare.ts';
import type { Demo } from './demo.ts';
import type { DemoNode } from './demo-node.ts';
import { formGroup, waitForApply } from './group.ts';
import type { Steps } from './steps.ts';

/** What `bdr demo --check` does: a group's life in a few steps. Throws in the step that fails. */
export async function tour(demo: Demo, steps: Steps, signal: AbortSignal): Promise<void> {
  await demo.start();
  await formGroup(demo, steps, signal);
  const { nodes } = demo;
  const [one, two] = nodes;
  if (!one || !two) throw new Error('assertion failed: a tour takes two nodes');

  const ada = await insertStep(one, 'Ada', 100, { nodes, steps, signal });
  const bob = await insertStep(two, 'Bob', 200, { nodes, steps, signal });
  await steps('updates both ways', async () => {
    const adaNow = { id: ada, name: 'Ada', balance: '150' };
    const bobNow = { id: bob, name: 'Bob', balance: '250' };
    await Promise.all([updateAccount(two, adaNow), updateAccount(one, bobNow)]);
    await seenOn(nodes, adaNow, signal);
    await seenOn(nodes, bobNow, signal);
  });
  await steps(`a definition: a column added on ${two.name} is there on all nodes`, async () => {
    await two.query(
      `ALTER TABLE public.accounts ADD COLUMN IF NOT EXISTS opened_at timestamptz NOT NULL DEFAULT now()`,
    );
    await waitForApply([two], signal);
    await waitUntilEqual(nodes, signal);
  });
  await steps('a conflict: the same row changed on two nodes', () =>
    conflict(nodes, one, two, ada, signal),
  );
  await steps(`kill -9 the agent of ${two.name}, write on all nodes, start it again`, () =>
    crash(nodes, two, signal),
  );
  await steps('all nodes are equal, row by row', async (note) => {
    await waitForApply(nodes, signal);
    const { tables, rows } = await waitUntilEqual(nodes, signal);
    note(`${tables} table${tables === 1 ? '' : 's'}, ${rows} rows`);
  });
}

interface Stage {
  readonly nodes: readonly DemoNode[];
  readonly steps: Steps;
  readonly signal: AbortSignal;
}

async function insertStep(
  writer: DemoNode,
  name: string,
  balance: number,
  { nodes, steps, signal }: Stage,
): Promise<string> {
  const readers = nodes.filter((node) => node !== writer);
  const title = `insert on ${writer.name}, read on ${readers.map((node) => node.name).join(', ')}`;
  return steps(title, async (note) => {
    const { id, ms } = await insertSeen(writer, readers, { name, balance }, signal);
    note(`seen after ${ms.toFixed(0)} ms`);
    await waitForApply([writer], signal);
    return id;
  });
}

/** Both change the row before either has heard of the other: the later commit wins, the other is in the history. */
async function conflict(
  nodes: readonly DemoNode[],
  one: DemoNode,
  two: DemoNode,
  id: string,
  signal: AbortSignal,
): Promise<void> {
  const loser: Account = { id, name: 'Ada of node1', balance: '111' };
  const winner: Account = { id, name: 'Ada of node2', balance: '222' };
  await Promise.all(nodes.map((node) => node.query(`SELECT bdr.bdr_apply_pause()`)));
  await updateAccount(one, loser);
  await updateAccount(two, winner);
  for (const [node, own] of [
    [one, loser],
    [two, winner],
  ] as const) {
    const there = await readAccount(node, id);
    if (there?.name !== own.name) {
      throw new Error(`apply is paused, and yet ${node.name} has "${there?.name}"`);
    }
  }
  await Promise.all(nodes.map((node) => node.query(`SELECT bdr.bdr_apply_resume()`)));
  await waitForApply(nodes, signal);
  await seenOn(nodes, winner, signal);
  await waitUntilEqual(nodes, signal);
  const histories = await Promise.all(
    nodes.map((node) => conflictsBetween(node, loser.name, winner.name)),
  );
  if (!histories.some((count) => count > 0)) {
    throw new Error('no node has the conflict in bdr.bdr_conflict_history, with both rows');
  }
}

async function conflictsBetween(node: DemoNode, a: string, b: string): Promise<number> {
  const rows = await node.query(
    /* sql */ `
      SELECT FROM bdr.bdr_conflict_history
      WHERE object_name = 'accounts'
        AND ARRAY[local_tuple ->> 'name', remote_tuple ->> 'name'] @> ARRAY[$1, $2]
    `,
    [a, b],
  );
  return rows.length;
}

async function crash(
  nodes: readonly DemoNode[],
  victim: DemoNode,
  signal: AbortSignal,
): Promise<void> {
  await victim.agent?.kill();
  const written: Account[] = [];
  for (const node of nodes) {
    const name = `written on ${node.name} meanwhile`;
    const id = await insertAccount(node, name, 1);
    written.push({ id, name, balance: '1' });
  }
  await victim.startAgent(signal);
  await waitForApply(nodes, signal, '60 s');
  for (const account of written) await seenOn(nodes, account, signal);
  await waitUntilEqual(nodes, signal);
}
