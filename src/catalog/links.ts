import { formatLsn, parseLsn, type Lsn } from '../base/lsn.ts';
import { formatPgTime, LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { originName, slotName, type Link } from '../model/link.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';
import { whileNode } from './apply-gate.ts';
import { forgetCommittedPositions } from './committed-positions.ts';

/** Where a link began to read, and what it must pass over. */
export interface LinkStart {
  readonly start: Lsn;
  /** Transactions that the copied snapshot shows, up to a position: text of a pg_snapshot. */
  readonly skip: { readonly snapshot: string; readonly until: Lsn } | null;
}

/** What bdr.skip_changes_upto() asks of a link: to pass over every transaction whose commit lies at or before a position. */
export interface SkipRequest {
  readonly upto: Lsn;
  readonly by: string;
  /** As the server's text. */
  readonly at: string;
}

/** A transaction of the provider that could not be applied. */
export interface FailedTransaction {
  readonly xid: number;
  readonly commitLsn: Lsn;
  readonly commitTime: PgTime;
}

export interface LinkRecord {
  readonly provider: NodeId;
  /** Null until the link is established. */
  readonly start: Lsn | null;
  readonly skip: LinkStart['skip'];
  readonly skipRequest: SkipRequest | null;
  readonly failed: FailedTransaction | null;
  readonly providerJoinedAt: string | null;
}

export type LinkStatus = 'down' | 'connecting' | 'streaming' | 'paused' | 'failed';

/** What a link reports about once a second. */
export interface LinkReport {
  readonly status: LinkStatus;
  readonly error: object | null;
  readonly failed: FailedTransaction | null;
  readonly applyPid: number | null;
  readonly received: Lsn | null;
  readonly applied: Lsn | null;
  /** Where the last ended that was applied and more than a heartbeat, at least; null while it is not known. */
  readonly lastChange: Lsn | null;
  readonly appliedCommitTime: PgTime | null;
  readonly caughtUp: boolean;
  /** Up to here the provider had applied what this node wrote, when it last said so. */
  readonly knownThere: PgTime;
  /** settledUpTo() of the provider's last heartbeat that was handled in this life; LONG_AGO before. */
  readonly settledThere: PgTime;
  /** All that the provider committed up to then is applied here; LONG_AGO while it is not known. */
  readonly watermark: PgTime;
  readonly counts: Readonly<Record<CountColumn, number>>;
}

const COUNT_COLUMNS = [
  'nr_commit',
  'nr_rollback',
  'nr_insert',
  'nr_insert_conflict',
  'nr_update',
  'nr_update_conflict',
  'nr_delete',
  'nr_delete_conflict',
  'nr_disconnect',
] as const;
export type CountColumn = (typeof COUNT_COLUMNS)[number];

export async function readLinks(session: Session): Promise<LinkRecord[]> {
  const rows = await session.query<{
    sysid: string;
    timeline: string;
    dboid: string;
    joined_at: string | null;
    start: string | null;
    snapshot: string | null;
    until: string | null;
    upto: string | null;
    asked_by: string;
    asked_at: string;
    failed_xid: string | null;
    failed_lsn: string;
    failed_time: string;
  }>(/* sql */ `
    SELECT provider_sysid AS sysid, provider_timeline AS timeline, provider_dboid AS dboid,
           provider_joined_at AS joined_at, start_lsn AS start,
           skip_snapshot AS snapshot, skip_until AS until,
           skip_upto_lsn AS upto, skip_requested_by AS asked_by, skip_requested_at AS asked_at,
           failed_xid, failed_commit_lsn AS failed_lsn, ${pgTimeSql('failed_commit_at')} AS failed_time
    FROM bdr.bdr_links
  `);
  return rows.map((row) => ({
    provider: { sysid: row.sysid, timeline: Number(row.timeline), dboid: Number(row.dboid) },
    providerJoinedAt: row.joined_at,
    start: row.start === null ? null : parseLsn(row.start),
    skip:
      row.snapshot === null || row.until === null
        ? null
        : { snapshot: row.snapshot, until: parseLsn(row.until) },
    skipRequest:
      row.upto === null ? null : { upto: parseLsn(row.upto), by: row.asked_by, at: row.asked_at },
    failed:
      row.failed_xid === null
        ? null
        : {
            xid: Number(row.failed_xid),
            commitLsn: parseLsn(row.failed_lsn),
            commitTime: Number(row.failed_time) as PgTime,
          },
  }));
}

/**
 * Makes a link durable: its origin exists and stands at the start, then the row says so. A crash before the row leaves an origin
 * that the next try sets up again. The origin may be older than the link: a node that leaves keeps its origin here.
 */
export async function createLink(
  session: Session,
  link: Link,
  providerJoinedAt: string | null,
  { start, skip }: LinkStart,
): Promise<void> {
  const origin = originName(link);
  await whileNode(session, async () => {
    await session.query(
      /* sql */ `
        SELECT pg_replication_origin_create($1)
        WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = $1)
      `,
      [origin],
    );
    await session.query(/* sql */ `SELECT pg_replication_origin_advance($1, $2::pg_lsn)`, [
      origin,
      formatLsn(start),
    ]);
    await forgetCommittedPositions(session, origin);
    await session.run(
      /* sql */ `
        INSERT INTO bdr.bdr_links (
            provider_sysid, provider_timeline, provider_dboid, provider_joined_at, slot_name, origin_name,
            start_lsn, skip_snapshot, skip_until
        )
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (provider_sysid, provider_timeline, provider_dboid) DO UPDATE
        SET provider_joined_at = EXCLUDED.provider_joined_at, start_lsn = EXCLUDED.start_lsn,
            skip_snapshot = EXCLUDED.skip_snapshot, skip_until = EXCLUDED.skip_until,
            received_lsn = NULL, applied_lsn = NULL, changes_lsn = NULL, watermark_at = NULL,
            failed_xid = NULL, failed_commit_lsn = NULL, failed_commit_at = NULL,
            skip_upto_lsn = NULL, skip_requested_by = NULL, skip_requested_at = NULL
      `,
      [
        link.provider.sysid,
        link.provider.timeline,
        link.provider.dboid,
        providerJoinedAt,
        slotName(link),
        origin,
        formatLsn(start),
        skip?.snapshot ?? null,
        skip ? formatLsn(skip.until) : null,
      ],
    );
  });
}

/** Shows why a link cannot be established yet. */
export async function noteLinkFailure(session: Session, link: Link, error: object): Promise<void> {
  await session.run(
    /* sql */ `
      INSERT INTO bdr.bdr_links (
          provider_sysid, provider_timeline, provider_dboid, slot_name, origin_name, status, status_error
      )
      VALUES ($1, $2, $3, $4, $5, 'failed', $6)
      ON CONFLICT (provider_sysid, provider_timeline, provider_dboid) DO UPDATE
      SET status = 'failed', status_error = EXCLUDED.status_error
    `,
    [
      link.provider.sysid,
      link.provider.timeline,
      link.provider.dboid,
      slotName(link),
      originName(link),
      JSON.stringify(error),
    ],
  );
}

/** On a peer: why it cannot read from a node, once that has lasted; undefined when it has nothing to say. */
export async function readLinkFailure(
  session: Session,
  provider: NodeId,
): Promise<string | undefined> {
  const [link] = await session.query<{ error: string }>(
    /* sql */ `
      SELECT status_error ->> 'message' AS error FROM bdr.bdr_links
      WHERE (provider_sysid, provider_timeline, provider_dboid) = ($1, $2::oid, $3::oid)
        AND status = 'failed' AND status_since < clock_timestamp() - interval '3 s'
    `,
    [provider.sysid, provider.timeline, provider.dboid],
  );
  return link?.error;
}

/** Forgets a link of a parted provider. Its origin stays, because rows carry its number. */
export async function deleteLink(session: Session, provider: NodeId): Promise<void> {
  await session.run(
    /* sql */ `
      DELETE FROM bdr.bdr_links
      WHERE (provider_sysid, provider_timeline, provider_dboid) = ($1, $2::oid, $3::oid)
    `,
    [provider.sysid, provider.timeline, provider.dboid],
  );
}

/** Writes what a link reports; counts are added to those kept. */
export async function reportLink(
  session: Session,
  provider: NodeId,
  report: LinkReport,
): Promise<void> {
  const counts = COUNT_COLUMNS.map((column, index) => `${column} = ${column} + $${index + 16}`);
  // A request is done with once the link is past it. This commits after what the link has committed, so no crash of the server
  // can bring the link back and leave the request forgotten.
  const keepRequest = (column: string) =>
    `${column} = CASE WHEN skip_upto_lsn < $8::pg_lsn THEN NULL ELSE ${column} END`;
  await session.run(
    /* sql */ `
      UPDATE bdr.bdr_links
      SET status_since = CASE WHEN status = $4 THEN status_since ELSE clock_timestamp() END,
          status = $4, status_error = $5::jsonb, apply_pid = $6,
          received_lsn = coalesce($7::pg_lsn, received_lsn), applied_lsn = coalesce($8::pg_lsn, applied_lsn),
          applied_at = CASE WHEN $9::timestamptz IS DISTINCT FROM applied_commit_at AND $9::timestamptz IS NOT NULL
                            THEN clock_timestamp() ELSE applied_at END,
          applied_commit_at = coalesce($9::timestamptz, applied_commit_at),
          caught_up_at = CASE WHEN $10::boolean THEN clock_timestamp() ELSE caught_up_at END,
          watermark_at = greatest($14::timestamptz, watermark_at), changes_lsn = $15::pg_lsn,
          failed_xid = $11::xid, failed_commit_lsn = $12::pg_lsn, failed_commit_at = $13::timestamptz,
          ${['skip_upto_lsn', 'skip_requested_by', 'skip_requested_at'].map(keepRequest).join(', ')},
          ${counts.join(', ')}
      WHERE (provider_sysid, provider_timeline, provider_dboid) = ($1, $2::oid, $3::oid)
    `,
    [
      provider.sysid,
      provider.timeline,
      provider.dboid,
      report.status,
      report.error && JSON.stringify(report.error),
      report.applyPid,
      report.received === null ? null : formatLsn(report.received),
      report.applied === null ? null : formatLsn(report.applied),
      report.appliedCommitTime === null ? null : formatPgTime(report.appliedCommitTime),
      report.caughtUp,
      report.failed && String(report.failed.xid),
      report.failed && formatLsn(report.failed.commitLsn),
      report.failed && formatPgTime(report.failed.commitTime),
      report.watermark === LONG_AGO ? null : formatPgTime(report.watermark),
      report.lastChange === null ? null : formatLsn(report.lastChange),
      ...COUNT_COLUMNS.map((column) => report.counts[column]),
    ],
  );
}
