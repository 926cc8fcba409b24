import type { PgTime } from '../base/pg-time.ts';
import type { Session } from '../postgres/session.ts';

/** Leaves a heartbeat in the node's own log. `applied`: by nodeKey(), up to which commit time each other node is applied here. */
export async function emitHeartbeat(
  session: Session,
  applied: Readonly<Record<string, PgTime>>,
): Promise<void> {
  await session.query('SELECT bdr.internal_heartbeat($1::jsonb)', [JSON.stringify(applied)]);
}
