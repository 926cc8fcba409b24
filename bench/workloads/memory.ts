import { catchUp } from './catch-up.ts';
import { insertRows, rowsTable } from './bulk.ts';
import { sized, type Plan, type Workload } from './workload.ts';

const ROWS = 10_000_000;
const TABLE = 'memory';

/** How much memory the agent takes for one transaction of ten million rows. One run tells. Linux keeps the peak of a process. */
export function memory(plan: Plan): Workload {
  return {
    name: 'memory',
    metrics: [{ name: 'memory', unit: 'MB', comparison: 'limit', goal: 200 }],
    systems: process.platform === 'linux' ? ['ours'] : [],
    mostRuns: 1,
    tables: [rowsTable(TABLE)],
    run: async ({ system }) => {
      const { cpu } = await catchUp(system, async (a) => {
        await a.query(insertRows(TABLE, 1, sized(ROWS, plan)));
      });
      const peak = system.peakMegabytes();
      if (peak === undefined) throw new Error('the agent has ended');
      return { values: [peak], ...(cpu && { cpu }) };
    },
  };
}
