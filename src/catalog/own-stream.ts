import { formatLsn, type Lsn } from '../base/lsn.ts';
import { formatPgTime, LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { Session } from '../postgres/session.ts';

export type OwnStreamStatus = 'down' | 'connecting' | 'streaming' | 'failed';

/** What the own stream reports about once a second. */
export interface OwnStreamReport {
  readonly status: OwnStreamStatus;
  readonly error: object | null;
  readonly applied: Lsn | null;
  readonly watermark: PgTime;
  /** That of the greatest clock, of those that it has read. */
  readonly heartbeat: LastHeartbeat | undefined;
}

/** What is kept of a heartbeat to notice later that the clock has stepped back. */
export interface LastHeartbeat {
  readonly clock: PgTime;
  readonly xid: number;
  readonly xmin: number;
}

export async function reportOwnStream(
  session: Session,
  { status, error, applied, watermark, heartbeat }: OwnStreamReport,
): Promise<void> {
  await session.run(
    /* sql */ `
      INSERT INTO bdr.own_stream AS o (
          status, status_error, applied_lsn, watermark_at, heartbeat_clock, heartbeat_xid, heartbeat_xmin
      )
      VALUES ($1, $2::jsonb, $3::pg_lsn, $4::timestamptz, $5::timestamptz, $6::xid8, $7::xid8)
      ON CONFLICT (singleton) DO UPDATE
      SET status_since = CASE WHEN o.status = EXCLUDED.status THEN o.status_since ELSE clock_timestamp() END,
          status = EXCLUDED.status, status_error = EXCLUDED.status_error,
          applied_lsn = coalesce(EXCLUDED.applied_lsn, o.applied_lsn),
          watermark_at = coalesce(EXCLUDED.watermark_at, o.watermark_at),
          heartbeat_clock = coalesce(EXCLUDED.heartbeat_clock, o.heartbeat_clock),
          heartbeat_xid = coalesce(EXCLUDED.heartbeat_xid, o.heartbeat_xid),
          heartbeat_xmin = coalesce(EXCLUDED.heartbeat_xmin, o.heartbeat_xmin)
    `,
    [
      status,
      error && JSON.stringify(error),
      applied === null ? null : formatLsn(applied),
      watermark === LONG_AGO ? null : formatPgTime(watermark),
      heartbeat ? formatPgTime(heartbeat.clock) : null,
      heartbeat?.xid ?? null,
      heartbeat?.xmin ?? null,
    ],
  );
}

/** Every deletion that was committed here up to then is remembered, as far as it was reported. */
export async function readOwnWatermark(session: Session): Promise<PgTime> {
  const [row] = await session.query<{ time: string | null }>(
    `SELECT ${pgTimeSql('watermark_at')} AS time FROM bdr.own_stream`,
  );
  return row?.time ? (Number(row.time) as PgTime) : LONG_AGO;
}

/** As it was reported last; undefined before the first. */
export async function readLastHeartbeat(session: Session): Promise<LastHeartbeat | undefined> {
  const [row] = await session.query<{ clock: string | null; xid: string; xmin: string }>(/* sql */ `
    SELECT ${pgTimeSql('heartbeat_clock')} AS clock, heartbeat_xid AS xid, heartbeat_xmin AS xmin
    FROM bdr.own_stream
  `);
  if (!row?.clock) return undefined;
  return { clock: Number(row.clock) as PgTime, xid: Number(row.xid), xmin: Number(row.xmin) };
}
