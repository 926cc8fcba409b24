import type { Metric } from '../result.ts';
import type { Table } from '../tables.ts';
import { catchUp } from './catch-up.ts';
import { sized, type Plan, type Workload } from './workload.ts';

const INSERTED = 1_000_000;
const CHANGED = 200_000;

/** One transaction that inserts many rows. */
export function bulkInsert(plan: Plan): Workload {
  const rows = sized(INSERTED, plan);
  return bulk('bulk-insert', 1.3, rowsTable('bulk_insert'), (number) =>
    insertRows('bulk_insert', number * rows + 1, (number + 1) * rows),
  );
}

/** One transaction that updates many rows. */
export function bulkUpdate(plan: Plan): Workload {
  const rows = sized(CHANGED, plan);
  return bulk(
    'bulk-update',
    2,
    rowsTable('bulk_update', rows),
    () => `UPDATE public.bulk_update SET number = number + 1`,
  );
}

/** One transaction that deletes many rows. */
export function bulkDelete(plan: Plan): Workload {
  const rows = sized(CHANGED, plan);
  return bulk(
    'bulk-delete',
    1.7,
    rowsTable('bulk_delete', rows * plan.runs),
    (number) =>
      `DELETE FROM public.bulk_delete WHERE id > ${number * rows} AND id <= ${(number + 1) * rows}`,
  );
}

/** A table of rows of about a hundred bytes: ids from 1 to `rows`. */
export function rowsTable(name: string, rows = 0): Table {
  return {
    name,
    create: /* sql */ `
      CREATE TABLE public.${name} (id bigint PRIMARY KEY, number integer, text text, at timestamptz)
    `,
    ...(rows > 0 && { fill: insertRows(name, 1, rows) }),
  };
}

/** One transaction. */
export function insertRows(table: string, from: number, to: number): string {
  return /* sql */ `
    INSERT INTO public.${table} (id, number, text, at)
    SELECT id, id % 1000, md5(id::text), clock_timestamp() FROM generate_series(${from}, ${to}) AS id
  `;
}

function bulk(
  name: string,
  goal: number,
  table: Table,
  statement: (run: number) => string,
): Workload {
  const metric: Metric = { name, unit: 's', comparison: 'speed-up', goal };
  return {
    name,
    metrics: [metric],
    systems: ['ours', 'server'],
    tables: [table],
    run: ({ system, number }) =>
      catchUp(system, async (a) => {
        await a.query(statement(number));
      }),
  };
}
