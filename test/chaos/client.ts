import { pause } from '../../src/base/wait.ts';
import type { Session } from '../../src/postgres/session.ts';
import type { ChaosNode } from './chaos-node.ts';
import type { ClientTransaction, Ledger, Truncate, Write } from './ledger.ts';
import type { ContendedTable, WrittenRow } from './tables.ts';
import type { Plan, Statement, Workload } from './workload.ts';

const SETTINGS = {
  // What a client is told is committed must be on disk.
  synchronous_commit: 'on',
  // Longer than any fault lasts: an agent that is stopped in the middle of a transaction holds what it has locked.
  statement_timeout: '60s',
  // Clients of one node meet often: those that deadlock should not wait for a second each time.
  deadlock_timeout: '100ms',
};
const RECONNECT_MS = 100;
/** How often it looks whether its node's clients may go on. */
const LULL_LOOK_MS = 20;

/** Writes to one node, one transaction after the other, until it is stopped; keeps the ledger of what it was told. */
export class Client {
  readonly #node: ChaosNode;
  readonly #workload: Workload;
  readonly #ledger: Ledger;

  constructor(node: ChaosNode, workload: Workload, ledger: Ledger) {
    this.#node = node;
    this.#workload = workload;
    this.#ledger = ledger;
  }

  /** Returns when `stop` is aborted and the transaction that is under way has ended. */
  async run(stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      let session: Session;
      try {
        session = await this.#node.connect({ settings: SETTINGS });
      } catch {
        await pause(RECONNECT_MS, stop); // the server is down
        continue;
      }
      try {
        let isUsable = true;
        while (isUsable && !stop.aborted) {
          while (this.#node.isQuiet && !stop.aborted) await pause(LULL_LOOK_MS, stop);
          const plan = this.#workload.next();
          isUsable = await this.#transaction(session, plan);
          await pause(plan.pauseMs, stop);
        }
      } finally {
        await session.close();
      }
    }
  }

  /** Returns whether the session can go on. */
  async #transaction(session: Session, plan: Plan): Promise<boolean> {
    let transaction: ClientTransaction;
    try {
      transaction = await this.#beforeCommit(session, plan);
    } catch (error) {
      this.#ledger.refuse(sqlstateOf(error) ?? 'connection lost');
      return rolledBack(session);
    }
    if (plan.isRolledBack) return rolledBack(session);
    try {
      await session.script('COMMIT');
    } catch {
      this.#ledger.unsure(transaction);
      return false;
    }
    this.#ledger.committed(transaction);
    return true;
  }

  async #beforeCommit(session: Session, plan: Plan): Promise<ClientTransaction> {
    const changes: (Write | Truncate)[] = [];
    await session.script('BEGIN');
    for (const statement of plan.statements) changes.push(...(await carryOut(session, statement)));
    return { entry: plan.entry, parts: plan.parts, node: this.#node.index, changes };
  }
}

async function carryOut(session: Session, statement: Statement): Promise<(Write | Truncate)[]> {
  switch (statement.kind) {
    case 'write': {
      const { table, sql, params } = statement;
      const rows = await session.query<WrittenRow>(sql, params);
      return rows.map((row) => writeOf(table.name, row));
    }
    case 'truncate':
      return truncate(session, statement.table);
    case 'journal':
      await session.query(statement.sql, statement.params);
      return [];
    case 'linger':
      await pause(statement.ms, session.lost);
      return [];
  }
}

/** Looks at what it removes, once nobody writes there any more. */
async function truncate(session: Session, table: ContendedTable): Promise<(Write | Truncate)[]> {
  const { name } = table;
  await session.script(`LOCK TABLE public.${name} IN ACCESS EXCLUSIVE MODE`);
  const rows = await session.query<WrittenRow>(/* sql */ `
    SELECT ${table.key('old')} AS old_key, old.tag AS old_tag, NULL AS new_key, NULL AS new_tag, NULL AS image
    FROM public.${name} AS old`);
  await session.script(`TRUNCATE public.${name}`);
  return [...rows.map((row) => writeOf(name, row)), { kind: 'truncate', table: name }];
}

function writeOf(table: string, row: WrittenRow): Write {
  const { old_key, old_tag, new_key, new_tag, image } = row;
  return {
    kind: 'write',
    table,
    before: old_key === null || old_tag === null ? null : { key: old_key, tag: old_tag },
    after:
      new_key === null || new_tag === null || image === null
        ? null
        : { key: new_key, tag: new_tag, image },
  };
}

async function rolledBack(session: Session): Promise<boolean> {
  try {
    await session.script('ROLLBACK');
    return true;
  } catch {
    return false; // the connection is gone, and the transaction with it
  }
}

function sqlstateOf(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : undefined;
}
