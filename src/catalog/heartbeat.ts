import { pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { Session } from '../postgres/session.ts';
import type { LastHeartbeat } from './own-stream.ts';

/**
 * Leaves a heartbeat in the node's own log. `applied`: by nodeKey(), up to which commit time each other node is applied here. Returns what the
 * clock shows behind it, its transaction, and one below which none runs.
 */
export async function emitHeartbeat(
  session: Session,
  applied: Readonly<Record<string, PgTime>>,
): Promise<LastHeartbeat> {
  const [row] = await session.query<{ clock: string; xid: string; xmin: string }>(
    /* sql */ `
      SELECT bdr.internal_heartbeat($1::jsonb), ${pgTimeSql('clock_timestamp()')} AS clock,
             pg_current_xact_id() AS xid, pg_snapshot_xmin(pg_current_snapshot()) AS xmin
    `,
    [JSON.stringify(applied)],
  );
  return { clock: Number(row?.clock) as PgTime, xid: Number(row?.xid), xmin: Number(row?.xmin) };
}
