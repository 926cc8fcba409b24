import { awaitMarker, writeMarker } from '../marker.ts';
import { pgbenchTables, writePgbench } from './small-tx.ts';
import { sized, type Plan, type Workload } from './workload.ts';

const TRANSACTIONS = 25_000;

/**
 * Both nodes are written at once, as fast as they take it, while changes flow both ways: how long until each has everything. Each
 * writes one half of the accounts: the server's own replication does not settle conflicts.
 */
export function twoWay(plan: Plan): Workload {
  const count = sized(TRANSACTIONS, plan);
  return {
    name: 'two-way',
    metrics: [{ name: 'two-way', unit: 's', comparison: 'speed-up', goal: 1 }],
    systems: ['ours', 'server'],
    tables: pgbenchTables(plan),
    run: async ({ system, number }) => {
      const { a, b } = system;
      const startedAt = performance.now();
      await Promise.all([
        writePgbench(a, plan, { count, seed: 600 + number, side: 0 }),
        writePgbench(b, plan, { count, seed: 700 + number, side: 1 }),
      ]);
      const [fromA, fromB] = [await writeMarker(a), await writeMarker(b)];
      await Promise.all([awaitMarker(b, fromA, system), awaitMarker(a, fromB, system)]);
      return { values: [(performance.now() - startedAt) / 1000] };
    },
  };
}
