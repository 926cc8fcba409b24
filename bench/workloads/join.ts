import { compareTables } from '../compare.ts';
import { rowsTable } from './bulk.ts';
import { sized, type Plan, type Workload } from './workload.ts';

const ROWS = 5_000_000;
const TABLE = 'joined';

/** How long an empty database takes to become a node, or a subscriber, with all the rows. */
export function join(plan: Plan): Workload {
  const table = rowsTable(TABLE, sized(ROWS, plan));
  return {
    name: 'join',
    metrics: [{ name: 'join', unit: 's', comparison: 'speed-up', goal: 1.8 }],
    systems: ['ours', 'server'],
    tables: [],
    prepare: (system) => system.joiner.prepare([table]),
    run: async ({ system, servers, number }) => {
      const { joiner } = system;
      const copy = servers.onB(`${system.name}_copy_${number}`);
      await copy.create();
      const startedAt = performance.now();
      await joiner.join(copy);
      const seconds = (performance.now() - startedAt) / 1000;
      const rowsCompared = await compareTables(joiner.source, copy, [TABLE]);
      await joiner.undo(copy);
      return { values: [seconds], rowsCompared };
    },
  };
}
