import { bulkDelete, bulkInsert, bulkUpdate } from './bulk.ts';
import { join } from './join.ts';
import { latency } from './latency.ts';
import { memory } from './memory.ts';
import { singleInserts } from './single-inserts.ts';
import { smallTx, smallTxHeld } from './small-tx.ts';
import { twoWay } from './two-way.ts';
import type { Plan, Workload } from './workload.ts';

/** In the order in which they run and are told. */
const WORKLOADS = {
  'small-tx': smallTx,
  'small-tx-held': smallTxHeld,
  'single-inserts': singleInserts,
  'bulk-insert': bulkInsert,
  'bulk-update': bulkUpdate,
  'bulk-delete': bulkDelete,
  latency,
  'two-way': twoWay,
  join,
  memory,
} as const satisfies Readonly<Record<string, (plan: Plan) => Workload>>;

export type WorkloadName = keyof typeof WORKLOADS;

export const WORKLOAD_NAMES = Object.keys(WORKLOADS) as readonly WorkloadName[];

export function isWorkloadName(name: string): name is WorkloadName {
  return Object.hasOwn(WORKLOADS, name);
}

export function workloads(names: readonly WorkloadName[], plan: Plan): Workload[] {
  return WORKLOAD_NAMES.filter((name) => names.includes(name)).map((name) => WORKLOADS[name](plan));
}
