import type { TargetSessionAttrs } from './conninfo-choices.ts';

/** As much of a session as the question needs; every value comes as text. */
export interface AttrsSession {
  query<Row extends object>(text: string): Promise<Row[]>;
}

// What the session began with counts, not what has been set since.
const KIND_OF_SESSION = `
  SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby' ELSE 'primary' END AS role,
         reset_val AS read_only
    FROM pg_catalog.pg_settings
   WHERE name = 'default_transaction_read_only'`;

/** Whether a session is of the kind that `target_session_attrs` asks for (manual, "Parameter Key Words"). */
export async function sessionIs(
  session: AttrsSession,
  wanted: Exclude<TargetSessionAttrs, 'prefer-standby'>,
): Promise<boolean> {
  if (wanted === 'any') return true;
  const [row] = await session.query<{ role: string; read_only: string }>(KIND_OF_SESSION);
  const standby = row?.role === 'standby';
  const readOnly = standby || row?.read_only === 'on';
  switch (wanted) {
    case 'primary':
      return !standby;
    case 'standby':
      return standby;
    case 'read-write':
      return !readOnly;
    case 'read-only':
      return readOnly;
  }
}
