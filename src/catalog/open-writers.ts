import type { Session } from '../postgres/session.ts';
import { momentSql, type Moment } from './monitoring.ts';

/**
 * A transaction of this node that has written and may still commit at an old time: as long as it is open, the node's heartbeats move
 * no watermark, neither here nor on any peer (DESIGN 4.5).
 */
export interface OpenWriter {
  /** Its backend; null for a prepared transaction. */
  readonly pid: number | null;
  /** The identifier of a prepared transaction. */
  readonly gid: string | null;
  readonly role: string;
  readonly application: string | null;
  readonly since: Moment;
  readonly ms: number;
}

const LONG = '5 s';

/** Those that have been open for some seconds, the oldest first. */
export async function readOpenWriters(session: Session): Promise<OpenWriter[]> {
  const rows = await session.query<{
    pid: string | null;
    gid: string | null;
    role: string;
    application: string | null;
    since: string;
    ms: string;
  }>(
    /* sql */ `
      SELECT w.pid, w.gid, w.role, w.application, ${momentSql('w.since')} AS since,
             extract(epoch FROM clock_timestamp() - w.since) * 1000 AS ms
      FROM (
          SELECT a.pid, NULL AS gid, coalesce(a.usename, '') AS role, a.application_name AS application, a.xact_start AS since
          FROM pg_stat_activity AS a
          WHERE a.backend_xid IS NOT NULL
            AND NOT EXISTS (SELECT FROM bdr.internal_harmless_writers AS h WHERE h.backend_xid = a.backend_xid)
          UNION ALL
          -- Of other databases too: where one was prepared is not seen when heartbeats look.
          SELECT NULL, p.gid, p.owner, NULL, p.prepared
          FROM pg_prepared_xacts AS p
      ) AS w
      WHERE w.since < clock_timestamp() - $1::interval
      ORDER BY w.since
    `,
    [LONG],
  );
  return rows.map(({ pid, ms, ...row }) => ({
    ...row,
    pid: pid === null ? null : Number(pid),
    ms: Math.round(Number(ms)),
  }));
}

/** Who has the oldest id of the transactions that are open on a server, in whatever database; undefined where none has one. */
export async function describeOldestWriter(session: Session): Promise<string | undefined> {
  const [row] = await session.query<{ pid: string | null; name: string }>(/* sql */ `
    SELECT w.pid, w.name
    FROM (
        SELECT a.pid, coalesce(a.application_name, '') AS name, a.backend_xid AS id FROM pg_stat_activity AS a
        UNION ALL
        SELECT NULL, p.gid, p.transaction FROM pg_prepared_xacts AS p
    ) AS w
    WHERE w.id IS NOT NULL
    ORDER BY age(w.id) DESC
    LIMIT 1
  `);
  if (!row) return undefined;
  const { pid, name } = row;
  return pid === null ? `prepared transaction "${name}"` : `process ${pid}, application "${name}"`;
}
