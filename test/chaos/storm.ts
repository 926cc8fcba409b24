import { setMaxListeners } from 'node:events';
import { pause } from '../../src/base/wait.ts';
import { Random } from '../support/sim/random.ts';
import type { ChaosNode } from './chaos-node.ts';
import { Client } from './client.ts';
import type { Ledger } from './ledger.ts';
import { Trouble } from './trouble.ts';
import { Workload } from './workload.ts';

export interface StormRequest {
  readonly minutes: number;
  readonly seed: number;
  readonly signal: AbortSignal;
  /** Progress, a line each few seconds. */
  readonly say: (text: string) => void;
  /** Every fault, as it begins and ends. */
  readonly note: (text: string) => void;
}

const CLIENTS_OF_A_NODE = 2;
/** Of the longest pause between a client's transactions: each node of a small machine must apply what the clients of all others write. */
const PAUSE_MS_A_NODE = 75;
const TELL_MS = 5000;

/**
 * Clients write and everything breaks, for as long as was asked. Returns when all faults are over and all clients
 * have ended: how often each fault has struck.
 */
export async function storm(
  { minutes, seed, signal, say, note }: StormRequest,
  nodes: readonly ChaosNode[],
  ledger: Ledger,
): Promise<Record<string, number>> {
  const random = new Random(seed);
  const next = () => new Random(random.below(2 ** 31));
  const clients = nodes.flatMap((node) =>
    Array.from({ length: CLIENTS_OF_A_NODE }, (_, number) => {
      const client = `${node.name}.${number}`;
      const workload = new Workload(next(), client, nodes.length * PAUSE_MS_A_NODE);
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
  return countFaults(troubles);
}

function describeProgress(leftMs: number, ledger: Ledger, troubles: readonly Trouble[]): string {
  const faults = Object.values(countFaults(troubles));
  const now = troubles.map(({ current }, index) => current && `node${index + 1} ${current}`);
  return [
    `${Math.ceil(leftMs / 1000)} s left`,
    `${ledger.entries.length - ledger.unknown} transactions told, ${ledger.unknown} unknown`,
    `${ledger.writes} writes`,
    `${faults.reduce((a, b) => a + b, 0)} faults`,
    now.filter(Boolean).join(', ') || 'no fault now',
  ].join('; ');
}

/** How often each fault has struck, on all nodes. */
function countFaults(troubles: readonly Trouble[]): Record<string, number> {
  const all: Record<string, number> = {};
  for (const [name, count] of troubles.flatMap(({ counts }) => [...counts])) {
    all[name] = (all[name] ?? 0) + count;
  }
  return all;
}
