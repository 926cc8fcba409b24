import { catchUp } from './catch-up.ts';
import { rowsTable } from './bulk.ts';
import { sized, type Plan, type Workload } from './workload.ts';
import { writeTransactions } from './writers.ts';

const TRANSACTIONS = 50_000;
const TABLE = 'single_inserts';

/** A backlog of transactions that insert one row each. */
export function singleInserts(plan: Plan): Workload {
  const count = sized(TRANSACTIONS, plan);
  return {
    name: 'single-inserts',
    metrics: [{ name: 'single-inserts', unit: 's', comparison: 'speed-up', goal: 1.2 }],
    systems: ['ours', 'server'],
    tables: [rowsTable(TABLE)],
    run: ({ system, number }) =>
      catchUp(system, (a) =>
        writeTransactions(a, {
          count,
          seed: number,
          body: /* sql */ `
            INSERT INTO public.${TABLE} (id, number, text, at)
            VALUES (${number * count} + i, i % 1000, md5(i::text), clock_timestamp());
          `,
        }),
      ),
  };
}
