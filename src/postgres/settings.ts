import type { Session } from './session.ts';

/**
 * A setting of time, in milliseconds. Without a unit its value counts `unitMs`: milliseconds, like PostgreSQL's own settings, unless
 * it says otherwise. A custom setting may be set to anything: the server's error says so when it is no time. `fallback` is the value
 * while it is not set.
 */
export async function readMilliseconds(
  session: Session,
  name: string,
  fallback: string,
  unitMs = 1,
): Promise<number> {
  const [row] = await session.query<{ ms: string }>(
    /* sql */ `
      SELECT extract(epoch FROM CASE WHEN s.value ~ '^ *[0-9]+ *$' THEN make_interval(secs => s.value::float8 * $3 / 1000)
                                     ELSE s.value::interval END) * 1000 AS ms
      FROM (SELECT coalesce(nullif(current_setting($1, true), ''), $2)) AS s (value)
    `,
    [name, fallback, unitMs],
  );
  return Number(row?.ms);
}

/** A setting that is on or off, by any of PostgreSQL's words for that; of anything else the server's error says that it is neither. */
export async function readSwitch(
  session: Session,
  name: string,
  fallback: 'on' | 'off',
): Promise<boolean> {
  const [row] = await session.query<{ on: string }>(
    /* sql */ `SELECT coalesce(nullif(current_setting($1, true), ''), $2)::boolean AS on`,
    [name, fallback],
  );
  return row?.on === 't';
}

/** A setting that is a whole number; of anything else the server's error says that it is none. */
export async function readCount(session: Session, name: string, fallback: number): Promise<number> {
  const [row] = await session.query<{ count: string }>(
    /* sql */ `SELECT coalesce(nullif(current_setting($1, true), '')::bigint, $2) AS count`,
    [name, fallback],
  );
  return Number(row?.count);
}

/**
 * A text that is another one once the settings of new sessions may have changed: who sees that, opens one and reads them there, for
 * a session that is open keeps what its database had set when it began.
 */
export async function readSettingsMark(session: Session): Promise<string> {
  const [row] = await session.query<{ mark: string }>(/* sql */ `
    SELECT concat_ws(' ', pg_conf_load_time(), pg_postmaster_start_time(), (
               SELECT string_agg(s::text, ' ' ORDER BY s.setdatabase, s.setrole)
               FROM pg_db_role_setting AS s
               LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
               WHERE s.setdatabase = 0 OR d.datname = current_database()
           )) AS mark
  `);
  return row?.mark ?? '';
}
