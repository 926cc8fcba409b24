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
}

export async function reportOwnStream(
  session: Session,
  { status, error, applied, watermark }: OwnStreamReport,
): Promise<void> {
  await session.run(
    /* sql */ `
      INSERT INTO bdr.own_stream AS o (status, status_error, applied_lsn, watermark_at)
      VALUES ($1, $2::jsonb, $3::pg_lsn, $4::timestamptz)
      ON CONFLICT (singleton) DO UPDATE
      SET status_since = CASE WHEN o.status = EXCLUDED.status THEN o.status_since ELSE clock_timestamp() END,
          status = EXCLUDED.status, status_error = EXCLUDED.status_error,
          applied_lsn = coalesce(EXCLUDED.applied_lsn, o.applied_lsn),
          watermark_at = coalesce(EXCLUDED.watermark_at, o.watermark_at)
    `,
    [
      status,
      error && JSON.stringify(error),
      applied === null ? null : formatLsn(applied),
      watermark === LONG_AGO ? null : formatPgTime(watermark),
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
