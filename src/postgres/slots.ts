import { parseLsn, type Lsn } from '../base/lsn.ts';
import type { Session } from './session.ts';
import { hasSqlstate, SQLSTATE } from './sqlstate.ts';

export interface Slot {
  readonly name: string;
  readonly confirmed: Lsn | null;
  readonly active: boolean;
  readonly activePid: number | null;
  /** `lost` when the server has removed WAL that the slot needs. */
  readonly walStatus: string | null;
}

/** A logical slot of the session's database. */
export async function readSlot(session: Session, name: string): Promise<Slot | undefined> {
  const [row] = await session.query<{
    confirmed: string | null;
    active: string;
    pid: string | null;
    wal_status: string | null;
  }>(
    /* sql */ `
      SELECT confirmed_flush_lsn AS confirmed, active, active_pid AS pid, wal_status
      FROM pg_replication_slots
      WHERE slot_name = $1 AND slot_type = 'logical' AND database = current_database()
    `,
    [name],
  );
  return (
    row && {
      name,
      confirmed: row.confirmed === null ? null : parseLsn(row.confirmed),
      active: row.active === 't',
      activePid: row.pid === null ? null : Number(row.pid),
      walStatus: row.wal_status,
    }
  );
}

/**
 * Creates a slot; returns its start. The server first waits for every transaction that is writing anywhere on it, so everything
 * that took its commit time before this call lies before the start.
 */
export async function createSlot(session: Session, name: string): Promise<Lsn> {
  const [row] = await session.query<{ lsn: string }>(
    /* sql */ `SELECT lsn FROM pg_create_logical_replication_slot($1, 'pgoutput')`,
    [name],
  );
  return parseLsn(row?.lsn ?? '0/0');
}

/**
 * Makes a slot unless it is there, or another session makes it at the same moment. Returns its start; null while that other one has
 * not come to the end of it.
 */
export async function ensureSlot(session: Session, name: string): Promise<Lsn | null> {
  const existing = await readSlot(session, name);
  if (existing) return existing.confirmed;
  try {
    return await createSlot(session, name);
  } catch (error) {
    if (!hasSqlstate(error, SQLSTATE.duplicateObject)) throw error;
    return (await readSlot(session, name))?.confirmed ?? null;
  }
}

export async function dropSlot(session: Session, name: string): Promise<void> {
  await session.query(
    /* sql */ `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`,
    [name],
  );
}
