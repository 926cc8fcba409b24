import { messageOf } from '../../src/base/errors.ts';
import type { ChaosNode } from './chaos-node.ts';
import { explain } from './explain.ts';
import type { Finding } from './findings.ts';
import { ChaosGroup } from './group.ts';
import { Ledger } from './ledger.ts';
import type { NodeState } from './node-state.ts';
import { readNode } from './read-node.ts';
import { describeLinks, settle } from './settle.ts';
import { storm, type StormRequest } from './storm.ts';
import { judge } from './verdict.ts';

export interface RunRequest extends StormRequest {
  readonly nodes: number;
  /** For data and logs. */
  readonly dir: string;
  readonly agentEnv: Readonly<Record<string, string | undefined>>;
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
  const faults = await storm(request, nodes, ledger);
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
    faults,
    conflicts: states.reduce((count, { history }) => count + history.length, 0),
    rows: rowsOf(states[0]),
    settleSeconds,
    findings: findings.map((finding) => ({
      ...finding,
      lines: explain(finding, verdict.committed, states),
    })),
  };
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
