import type { QualifiedName } from '../base/names.ts';
import type { Session } from '../postgres/session.ts';
import { pairsOf } from './global-locks.ts';

/** The gates of sql/routines/lock-gates.sql: who makes them, opens them, and takes them away. */

/**
 * Makes gates on tables, their partitions and parents, null for all, in the caller's transaction: nobody who has passed the gates that
 * there were, if they are open, is still writing. Throws a lock conflict.
 */
export async function makeGates(
  session: Session,
  tables: readonly QualifiedName[] | null,
  { areOpen }: { readonly areOpen: boolean },
): Promise<void> {
  await session.query('SELECT bdr.internal_make_lock_gates($1::jsonb, $2)', [
    pairsOf(tables),
    areOpen,
  ]);
}

/** The tables that have a gate, as SQL names them. */
export async function readGates(session: Session): Promise<string[]> {
  const rows = await session.query<{ name: string }>(
    /* sql */ `SELECT g AS name FROM bdr.internal_lock_gates() AS g`,
  );
  return rows.map(({ name }) => name);
}

/** Takes the gate of a table away. Throws a lock conflict. */
export async function removeGate(session: Session, table: string): Promise<void> {
  await session.query(`SELECT bdr.internal_open_gate(to_regclass($1), 'lock')`, [table]);
}

/** The sessions that keep gates from being made; by process id. */
export async function readWriters(
  session: Session,
  tables: readonly QualifiedName[] | null,
): Promise<number[]> {
  const rows = await session.query<{ pid: string }>(
    'SELECT w.pid FROM bdr.internal_lock_gate_writers($1::jsonb) AS w',
    [pairsOf(tables)],
  );
  return rows.map(({ pid }) => Number(pid));
}

/** Ends what keeps gates from being made; returns how many sessions that were. */
export async function cancelWriters(
  session: Session,
  tables: readonly QualifiedName[] | null,
): Promise<number> {
  const [row] = await session.query<{ ended: string }>(
    'SELECT bdr.internal_cancel_writers($1::jsonb) AS ended',
    [pairsOf(tables)],
  );
  return Number(row?.ended);
}

/** How long writers are waited for before they are canceled: infinity for ever. */
export async function readMaxLockDelayMs(session: Session): Promise<number> {
  const [row] = await session.query<{ ms: string }>(
    'SELECT bdr.internal_max_ddl_lock_delay() AS ms',
  );
  return Number(row?.ms);
}

/**
 * Inside a transaction: whether users of this node may write to a table, by OID, until it ends. To be asked before the agent writes
 * what counts as theirs: no node expects it while another one has the lock. Throws a lock conflict.
 */
export async function passesLockGate(session: Session, relation: string): Promise<boolean> {
  const [row] = await session.query<{ passes: string }>(
    'SELECT bdr.internal_passes_lock_gate($1::oid) AS passes',
    [relation],
  );
  return row?.passes === 't';
}
