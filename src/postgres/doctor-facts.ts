import type { Session } from './session.ts';

/** Settings that decide how well a server takes part; which ones exist depends on its major. */
const SETTINGS = [
  'wal_level',
  'track_commit_timestamp',
  'max_replication_slots',
  'max_wal_senders',
  'max_active_replication_origins',
  'max_connections',
  'wal_sender_timeout',
  'max_slot_wal_keep_size',
  'idle_replication_slot_timeout',
  'synchronous_standby_names',
  'synchronous_commit',
  'listen_addresses',
  'event_triggers',
] as const;
export type SettingName = (typeof SETTINGS)[number];

/** What the doctor looks at in a server, beyond what readServerBasics() tells. For a superuser, on 14 and later. */
export interface DoctorServerFacts {
  /** In their base unit: wal_sender_timeout in ms, max_slot_wal_keep_size in MB. Missing where the server does not know one. */
  readonly settings: Readonly<Partial<Record<SettingName, string>>>;
  readonly usedSlots: number;
  readonly usedSenders: number;
  /** Replication origins that take a place of their own in the server's table: those with progress. */
  readonly usedOrigins: number;
  readonly usedConnections: number;
  /** Lines of pg_hba.conf that the server cannot read, as `line 7: invalid …`. */
  readonly hbaErrors: readonly string[];
  /** Some line of pg_hba.conf lets somebody from another machine into the database. */
  readonly hbaLetsOthersIn: boolean;
}

export async function readDoctorServerFacts(session: Session): Promise<DoctorServerFacts> {
  const settings = await session.query<{ name: SettingName; setting: string }>(
    /* sql */ `SELECT name, setting FROM pg_settings WHERE name = ANY ($1)`,
    [`{${SETTINGS.join(',')}}`],
  );
  const [used] = await session.query<
    Record<'slots' | 'senders' | 'origins' | 'connections', string>
  >(/* sql */ `
    SELECT (SELECT count(*) FROM pg_replication_slots) AS slots,
           (SELECT count(*) FROM pg_stat_replication) AS senders,
           (SELECT count(*) FROM pg_replication_origin_status) AS origins,
           (SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS connections
  `);
  const errors = await session.query<{ line: string }>(/* sql */ `
    SELECT format('line %s: %s', line_number, error) AS line
    FROM pg_hba_file_rules WHERE error IS NOT NULL ORDER BY line_number
  `);
  const [hba] = await session.query<{ others: string }>(/* sql */ `
    SELECT count(*) > 0 AS others
    FROM pg_hba_file_rules
    WHERE error IS NULL AND type <> 'local' AND auth_method <> 'reject'
      AND database && ARRAY['all', current_database()::text]
      AND address NOT IN ('127.0.0.1', '::1', 'localhost', 'samehost')
  `);
  return {
    settings: Object.fromEntries(settings.map(({ name, setting }) => [name, setting])),
    usedSlots: Number(used?.slots),
    usedSenders: Number(used?.senders),
    usedOrigins: Number(used?.origins),
    usedConnections: Number(used?.connections),
    hbaErrors: errors.map(({ line }) => line),
    hbaLetsOthersIn: hba?.others === 't',
  };
}
