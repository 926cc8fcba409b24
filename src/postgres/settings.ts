import type { Session } from './session.ts';

/**
 * A setting of time, in milliseconds. Without a unit its value counts milliseconds, like PostgreSQL's own settings. A custom
 * setting may be set to anything: the server's error says so when it is no time. `fallback` is the value while it is not set.
 */
export async function readMilliseconds(
  session: Session,
  name: string,
  fallback: string,
): Promise<number> {
  const [row] = await session.query<{ ms: string }>(
    /* sql */ `
      SELECT extract(epoch FROM CASE WHEN s.value ~ '^ *[0-9]+ *$' THEN make_interval(secs => s.value::float8 / 1000)
                                     ELSE s.value::interval END) * 1000 AS ms
      FROM (SELECT coalesce(nullif(current_setting($1, true), ''), $2)) AS s (value)
    `,
    [name, fallback],
  );
  return Number(row?.ms);
}
