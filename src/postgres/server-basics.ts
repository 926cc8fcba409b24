import type { Session } from './session.ts';

/** What any role may ask of any server, however old: read before all else, to say what is wrong with the rest. */
export interface ServerBasics {
  /** `server_version_num` / 10000. */
  readonly major: number;
  readonly version: string;
  readonly database: string;
  readonly user: string;
  readonly superuser: boolean;
  /** A standby, which takes no writes. */
  readonly inRecovery: boolean;
}

export async function readServerBasics(session: Session): Promise<ServerBasics> {
  const [row] = await session.query<Record<string, string>>(/* sql */ `
    SELECT current_setting('server_version_num')::integer / 10000 AS major,
           current_setting('server_version') AS version,
           current_database() AS database,
           current_user AS role,
           (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
           pg_is_in_recovery() AS in_recovery
  `);
  const text = (name: string) => row?.[name] ?? '';
  return {
    major: Number(text('major')),
    version: text('version'),
    database: text('database'),
    user: text('role'),
    superuser: text('superuser') === 't',
    inRecovery: text('in_recovery') === 't',
  };
}
