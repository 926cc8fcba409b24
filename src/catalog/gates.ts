import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';

/** Why users may not write to a table. Each reason has a gate of its own on it: sql/routines/gates.sql. */
export type GateReason = 'read_only';

/** For so long others wait behind a gate that is being shut or opened: behind those who write, or read. */
const MOST_WAIT = '50ms';

/** Shuts the gates of all replicated tables that are open. Returns how many are left, because somebody writes there. */
export async function shutGates(session: Session, reason: GateReason): Promise<number> {
  return forEach(session, await readOpenGates(session, reason), (relation) =>
    session.query('SELECT bdr.internal_shut_gate($1::regclass, $2)', [relation, reason]),
  );
}

/** Takes away all gates of a reason. Returns how many are left, because somebody holds their table. */
export async function openGates(session: Session, reason: GateReason): Promise<number> {
  const rows = await session.query<{ name: string }>(
    /* sql */ `SELECT bdr.internal_gates($1)::text AS name`,
    [reason],
  );
  const tables = rows.map(({ name }) => name);
  return forEach(session, tables, (relation) =>
    session.query('SELECT bdr.internal_open_gate($1::regclass, $2)', [relation, reason]),
  );
}

/** Replicated tables, and partitioned ones above them, without a gate that is whole; as text. */
export async function readOpenGates(session: Session, reason: GateReason): Promise<string[]> {
  const rows = await session.query<{ name: string }>(
    /* sql */ `SELECT relation::text AS name FROM bdr.internal_gated_tables($1) WHERE NOT is_shut ORDER BY 1`,
    [reason],
  );
  return rows.map(({ name }) => name);
}

/** Table by table, so that what is held keeps nobody else waiting. */
async function forEach(
  session: Session,
  tables: readonly string[],
  work: (relation: string) => Promise<unknown>,
): Promise<number> {
  let left = 0;
  for (const relation of tables) {
    try {
      await session.transaction(async () => {
        await session.script(`SET LOCAL lock_timeout = '${MOST_WAIT}'`);
        await work(relation);
      });
    } catch (error) {
      // Dropped meanwhile: there is none to keep.
      if (hasSqlstate(error, SQLSTATE.undefinedTable)) continue;
      if (!hasSqlstate(error, SQLSTATE.lockNotAvailable, SQLSTATE.deadlockDetected)) throw error;
      left += 1;
    }
  }
  return left;
}
