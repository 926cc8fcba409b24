import type { Session } from '../../src/postgres/session.ts';
import type { BenchDatabase } from '../database.ts';
import type { Table } from '../tables.ts';
import { catchUp } from './catch-up.ts';
import { sized, type Plan, type Workload } from './workload.ts';
import { writeTransactions } from './writers.ts';

const TRANSACTIONS = 50_000;
/** As `pgbench -i -s 10` makes. */
const SCALE = 10;
const ACCOUNTS_PER_BRANCH = 100_000;
const TELLERS_PER_BRANCH = 10;

/** The tables that `pgbench -N` writes. */
export function pgbenchTables(plan: Plan): Table[] {
  return [
    {
      name: 'pgbench_accounts',
      create: /* sql */ `
        CREATE TABLE public.pgbench_accounts (
            aid integer PRIMARY KEY, bid integer, abalance integer, filler character(84)
        ) WITH (fillfactor = 100)
      `,
      fill: /* sql */ `
        INSERT INTO public.pgbench_accounts (aid, bid, abalance, filler)
        SELECT aid, (aid - 1) / ${ACCOUNTS_PER_BRANCH} + 1, 0, ''
        FROM generate_series(1, ${accounts(plan)}) AS aid
      `,
    },
    {
      name: 'pgbench_history',
      create: /* sql */ `
        CREATE TABLE public.pgbench_history (
            tid integer, bid integer, aid integer, delta integer, mtime timestamp, filler character(22)
        )
      `,
    },
  ];
}

/** An even number, for those who share them. */
function accounts(plan: Plan): number {
  return 2 * Math.ceil(sized(SCALE * ACCOUNTS_PER_BRANCH, plan) / 2);
}

/** The transactions of `pgbench -N`. `side` 0 or 1 takes one half of the accounts only. */
export function writePgbench(
  database: BenchDatabase,
  plan: Plan,
  work: { readonly count: number; readonly seed: number; readonly side?: 0 | 1 },
): Promise<void> {
  const { count, seed, side } = work;
  const account =
    side === undefined
      ? `1 + floor(random() * ${accounts(plan)})`
      : `1 + ${side} + 2 * floor(random() * ${accounts(plan) / 2})`;
  return writeTransactions(database, {
    count,
    seed,
    declare: 'account integer; change integer; balance integer;',
    body: /* sql */ `
      account := ${account};
      change := -5000 + floor(random() * 10001);
      UPDATE public.pgbench_accounts SET abalance = abalance + change WHERE aid = account;
      SELECT abalance INTO balance FROM public.pgbench_accounts WHERE aid = account;
      INSERT INTO public.pgbench_history (tid, bid, aid, delta, mtime)
      VALUES (
          1 + floor(random() * ${SCALE * TELLERS_PER_BRANCH}), 1 + floor(random() * ${SCALE}), account, change,
          CURRENT_TIMESTAMP
      );
    `,
  });
}

/** A backlog of small transactions. */
export function smallTx(plan: Plan): Workload {
  return {
    name: 'small-tx',
    metrics: [
      { name: 'small-tx', unit: 's', comparison: 'speed-up', goal: plan.workerLog ? 3 : 2 },
    ],
    systems: ['ours', 'server'],
    tables: pgbenchTables(plan),
    run: ({ system, number }) =>
      catchUp(system, (a) =>
        writePgbench(a, plan, { count: sized(TRANSACTIONS, plan), seed: number }),
      ),
  };
}

/** The same while a transaction that has written is open on both nodes, so that no watermark passes it. */
export function smallTxHeld(plan: Plan): Workload {
  return {
    name: 'small-tx-held',
    metrics: [{ name: 'small-tx-held', unit: 's', comparison: 'speed-up', goal: 0.9 }],
    systems: ['ours', 'server'],
    tables: [
      ...pgbenchTables(plan),
      { name: 'bench_held', create: `CREATE TABLE public.bench_held (id bigint PRIMARY KEY)` },
    ],
    run: async ({ system, number }) => {
      await using onA = await openWrite(system.a);
      await using onB = await openWrite(system.b);
      const sample = await catchUp(system, (a) =>
        writePgbench(a, plan, { count: sized(TRANSACTIONS, plan), seed: 500 + number }),
      );
      for (const session of [onA, onB]) await session.script('ROLLBACK');
      return sample;
    },
  };
}

async function openWrite(database: BenchDatabase): Promise<Session> {
  const session = await database.connect();
  await session.script('BEGIN');
  await session.script('INSERT INTO public.bench_held (id) VALUES (1)');
  return session;
}
