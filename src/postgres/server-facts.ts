import type { NodeId } from '../model/node.ts';
import type { Session } from './session.ts';

/** What a server and a database are, as far as replication asks. */
export interface ServerFacts {
  readonly id: Omit<NodeId, 'timeline'> & { readonly timeline: number };
  readonly database: string;
  /** `server_version_num` / 10000. */
  readonly major: number;
  readonly version: string;
  readonly user: string;
  readonly superuser: boolean;
  readonly encoding: string;
  readonly walLevel: string;
  readonly trackCommitTimestamp: boolean;
  readonly maxSlots: number;
  readonly usedSlots: number;
  readonly maxSenders: number;
  readonly usedSenders: number;
  /** Limit of replication origins: max_active_replication_origins from 18, before that max_replication_slots. */
  readonly maxOrigins: number;
  readonly usedOrigins: number;
  /** Null where schema bdr is not installed. */
  readonly bdrVersion: number | null;
  readonly bdrMinRemoteVersion: number | null;
}

export async function readServerFacts(session: Session): Promise<ServerFacts> {
  const [row] = await session.query<Record<string, string | null>>(/* sql */ `
    SELECT s.system_identifier::text AS sysid,
           c.timeline_id AS timeline,
           d.oid AS dboid,
           d.datname AS database,
           pg_encoding_to_char(d.encoding) AS encoding,
           current_setting('server_version_num')::integer / 10000 AS major,
           current_setting('server_version') AS version,
           current_user AS role,
           r.rolsuper AS superuser,
           current_setting('wal_level') AS wal_level,
           current_setting('track_commit_timestamp') AS track_commit_timestamp,
           current_setting('max_replication_slots') AS max_slots,
           (SELECT count(*) FROM pg_replication_slots) AS used_slots,
           current_setting('max_wal_senders') AS max_senders,
           (SELECT count(*) FROM pg_stat_replication) AS used_senders,
           coalesce(current_setting('max_active_replication_origins', true), current_setting('max_replication_slots')) AS max_origins,
           to_regproc('bdr.bdr_version_num') IS NOT NULL AS has_bdr
    FROM pg_control_system() AS s
    CROSS JOIN pg_control_checkpoint() AS c
    JOIN pg_database AS d ON d.datname = current_database()
    JOIN pg_roles AS r ON r.rolname = current_user
  `);
  if (!row) throw new Error('assertion failed: the server tells nothing about itself');
  const [bdr] =
    row['has_bdr'] === 't'
      ? await session.query<{ version: string; min: string }>(/* sql */ `
          SELECT bdr.bdr_version_num() AS version, bdr.bdr_min_remote_version_num() AS min
        `)
      : [];
  // Open to superusers alone, and who is none is to be told so in other words.
  const [origins] =
    row['superuser'] === 't'
      ? await session.query<{ used: string }>(
          /* sql */ `SELECT count(*) AS used FROM pg_replication_origin_status`,
        )
      : [];
  const text = (name: string) => row[name] ?? '';
  return {
    id: { sysid: text('sysid'), timeline: Number(row['timeline']), dboid: Number(row['dboid']) },
    database: text('database'),
    major: Number(row['major']),
    version: text('version'),
    user: text('role'),
    superuser: row['superuser'] === 't',
    encoding: text('encoding'),
    walLevel: text('wal_level'),
    trackCommitTimestamp: row['track_commit_timestamp'] === 'on',
    maxSlots: Number(row['max_slots']),
    usedSlots: Number(row['used_slots']),
    maxSenders: Number(row['max_senders']),
    usedSenders: Number(row['used_senders']),
    maxOrigins: Number(row['max_origins']),
    usedOrigins: Number(origins?.used ?? 0),
    bdrVersion: bdr ? Number(bdr.version) : null,
    bdrMinRemoteVersion: bdr ? Number(bdr.min) : null,
  };
}

/** The server's major version. */
export async function serverMajor(session: Session): Promise<number> {
  const [row] = await session.query<{ major: string }>(
    `SELECT current_setting('server_version_num')::integer / 10000 AS major`,
  );
  return Number(row?.major);
}

/** The encoding in which the session's database keeps text. */
export async function databaseEncoding(session: Session): Promise<string> {
  const [row] = await session.query<{ encoding: string }>(
    `SELECT current_setting('server_encoding') AS encoding`,
  );
  return row?.encoding ?? '';
}

/** Whether the session is seen to come from the server's own machine: by a socket there, or from one of its own addresses. */
export async function isOnThisMachine(session: Session): Promise<boolean> {
  const [row] = await session.query<{ near: string }>(/* sql */ `
    SELECT inet_server_addr() IS NULL OR inet_server_addr() = inet_client_addr()
           OR inet_server_addr() <<= inet '127.0.0.0/8' OR inet_server_addr() = inet '::1' AS near
  `);
  return row?.near === 't';
}
