import { setMaxListeners } from 'node:events';
import { messageOf } from '../../src/base/errors.ts';
import { pause } from '../../src/base/wait.ts';
import { Random } from '../support/sim/random.ts';
import type { ChaosNode } from './chaos-node.ts';
import { Client } from './client.ts';
import { explain } from './explain.ts';
import type { Finding } from './findings.ts';
import { ChaosGroup } from './group.ts';
import { Ledger } from './ledger.ts';
import type { NodeState } from './node-state.ts';
import { readNode } from './read-node.ts';
import { describeLinks, settle } from './settle.ts';
import { Trouble } from './trouble.ts';
import { judge } from './verdict.ts';
import { Workload } from './workload.ts';

export interface RunRequest {
  readonly minutes: number;
  readonly nodes: number;
  readonly seed: number;
  /** For data and logs. */
  readonly dir: string;
  readonly agentEnv: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  /** Progress, a line each few seconds. */
  readonly say: (text: string) => void;
  /** Every fault, as it begins and ends. */
  readonly note: (text: string) => void;
}

/** What a run has come to. */
export interface RunResult {
  /** Transactions that clients were told are committed, and the rows that they wrote. */
  readonly transactions: number;
  readonly writes: number;
  /** Transactions whose connection broke in COMMIT. */
  readonly unknown: number;
  /** Failed statements by SQLSTATE. */
  readonly refused: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly conflicts: number;
  /** On each node, in the end. */
  readonly rows: number;
  readonly settleSeconds: number;
  readonly findings: readonly (Finding & { readonly lines: readonly string[] })[];
}

const CLIENTS_OF_A_NODE = 2;
/** Of the longest pause between a client's transactions: each node of a small machine must apply what the clients of all others write. */
const PAUSE_MS_A_NODE = 75;
const TELL_MS = 5000;
/** Nodes that were down have much to catch up with. */
const SETTLE_MINUTES = 5;
const SETTLE_TIMES = 2;

/** What statements may meet where clients write the same rows and servers go down. */
const EXPECTED_REFUSALS = new Set([
  'connection lost',
  '23505', // a key that was changed to one that is there
  '40P01', // deadlock between clients
  '57P01', // the server shuts down
  '57P02', // a backend was killed
  '57P03',
]);

/** A group, clients that write to it, faults; then peace, and the verdict. */
export async function runChaos(request: RunRequest): Promise<RunResult> {
  const { signal, say } = request;
  say(`starting ${request.nodes} nodes in ${request.dir}`);
  await using group = await ChaosGroup.start(request);
  const { nodes } = group;
  const deadlineMs = (SETTLE_MINUTES + SETTLE_TIMES * request.minutes) * 60_000;
  const ledger = new Ledger();
  const troubles = await makeTrouble(request, nodes, ledger);
  for (const node of nodes) {
    node.watchAgent();
    node.startAgent();
  }
  say('all faults are over, waiting until every node has everything');
  const healedAt = performance.now();
  const findings: Finding[] = [];
  try {
    await settle(nodes, { deadlineMs, signal });
  } catch (error) {
    signal.throwIfAborted();
    const links = await describeLinks(nodes);
    const text = [messageOf(error), ...links].join('\n  ');
    findings.push({ kind: 'the group does not settle', text });
  }
  const settleSeconds = (performance.now() - healedAt) / 1000;
  const states: NodeState[] = [];
  for (const node of nodes) states.push(await readNode(node, signal));
  const verdict = judge(ledger.entries, states);
  findings.push(...verdict.findings, ...agentFaults(nodes), ...clientErrors(ledger));
  return {
    transactions: ledger.entries.length - ledger.unknown,
    writes: ledger.writes,
    unknown: ledger.unknown,
    refused: Object.fromEntries(ledger.refused),
    faults: sum(troubles.map(({ counts }) => counts)),
    conflicts: states.reduce((count, { history }) => count + history.length, 0),
    rows: rowsOf(states[0]),
    settleSeconds,
    findings: findings.map((finding) => ({
      ...finding,
      lines: explain(finding, verdict.committed, states),
    })),
  };
}

/** Clients write and everything breaks, for as long as was asked. Returns when all faults are over and all clients have ended. */
async function makeTrouble(
  { minutes, seed, signal, say, note }: RunRequest,
  nodes: readonly ChaosNode[],
  ledger: Ledger,
): Promise<Trouble[]> {
  const random = new Random(seed);
  const next = () => new Random(random.below(2 ** 31));
  const clients = nodes.flatMap((node) =>
    Array.from({ length: CLIENTS_OF_A_NODE }, (_, number) => {
      const client = `${node.name}.${number}`;
      const workload = new Workload(next(), node.name, client, nodes.length * PAUSE_MS_A_NODE);
      return new Client(node, workload, ledger);
    }),
  );
  const troubles = nodes.map((node) => new Trouble(node, next(), note));
  const over = new AbortController();
  const stop = over.signal;
  setMaxListeners(0, stop);
  const end = () => over.abort();
  signal.addEventListener('abort', end, { once: true });
  const endsAt = performance.now() + minutes * 60_000;
  const timer = setTimeout(end, minutes * 60_000);
  const progress = async () => {
    for (;;) {
      await pause(TELL_MS, stop);
      if (stop.aborted) return;
      say(describeProgress(endsAt - performance.now(), ledger, troubles));
    }
  };
  const tasks = [...[...clients, ...troubles].map((actor) => actor.run(stop)), progress()];
  try {
    await Promise.all(tasks);
  } finally {
    clearTimeout(timer);
    end(); // if one has failed, the others end too
    await Promise.allSettled(tasks);
  }
  signal.throwIfAborted();
  return troubles;
}

function describeProgress(leftMs: number, ledger: Ledger, troubles: readonly Trouble[]): string {
  const faults = Object.values(sum(troubles.map(({ counts }) => counts)));
  const now = troubles.map(({ current }, index) => current && `node${index + 1} ${current}`);
  return [
    `${Math.ceil(leftMs / 1000)} s left`,
    `${ledger.entries.length - ledger.unknown} transactions told, ${ledger.unknown} unknown`,
    `${ledger.writes} writes`,
    `${faults.reduce((a, b) => a + b, 0)} faults`,
    now.filter(Boolean).join(', ') || 'no fault now',
  ].join('; ');
}

function agentFaults(nodes: readonly ChaosNode[]): Finding[] {
  return nodes
    .flatMap((node) => [...node.agentFaults, ...node.programFaults()])
    .map((text) => ({ kind: 'an agent is at fault', text }));
}

function clientErrors({ refused }: Ledger): Finding[] {
  return [...refused]
    .filter(([reason]) => !EXPECTED_REFUSALS.has(reason))
    .map(([reason, count]) => ({
      kind: 'a client met an error',
      text: `${count} transactions failed with SQLSTATE ${reason}`,
    }));
}

function rowsOf(state: NodeState | undefined): number {
  const parts = [...(state?.journal.values() ?? [])].map((entry) => entry.parts);
  const rows = [...(state?.tables.values() ?? [])].map(({ size }) => size);
  return [...parts, ...rows].reduce((a, b) => a + b, 0);
}

function sum(counts: readonly ReadonlyMap<string, number>[]): Record<string, number> {
  const all: Record<string, number> = {};
  for (const [name, count] of counts.flatMap((map) => [...map])) {
    all[name] = (all[name] ?? 0) + count;
  }
  return all;
}
