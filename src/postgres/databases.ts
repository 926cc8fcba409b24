import type { Session } from './session.ts';

export interface Database {
  readonly oid: number;
  readonly name: string;
}

/** The databases of the server that are nodes: create and join mark them in a catalog that all databases share. */
export async function readNodeDatabases(session: Session): Promise<Database[]> {
  const rows = await session.query<{ oid: string; name: string }>(/* sql */ `
    SELECT d.oid, d.datname AS name
    FROM pg_database AS d
    JOIN pg_db_role_setting AS s ON s.setdatabase = d.oid AND s.setrole = 0
    WHERE d.datallowconn AND 'bdr.active=on' = ANY (s.setconfig)
  `);
  return rows.map((row) => ({ oid: Number(row.oid), name: row.name }));
}

/** Whether agents find the session's database among these. ALTER DATABASE … RESET ALL takes the mark away. */
export async function isMarkedAsNode(session: Session): Promise<boolean> {
  const [current] = await session.query<{ oid: string }>(
    'SELECT oid FROM pg_database WHERE datname = current_database()',
  );
  return (await readNodeDatabases(session)).some(({ oid }) => oid === Number(current?.oid));
}

/** The database in which the agents of a server meet: "postgres" where it exists, else the oldest that is no template. */
export async function readMeetingDatabase(
  session: Session,
): Promise<{ name: string; isCurrent: boolean }> {
  const [row] = await session.query<{ name: string; current: string }>(/* sql */ `
    SELECT datname AS name, datname = current_database() AS current
    FROM pg_database
    WHERE datallowconn AND NOT datistemplate
    ORDER BY datname <> 'postgres', oid
    LIMIT 1
  `);
  if (!row) throw new Error('assertion failed: the session is in a database');
  return { name: row.name, isCurrent: row.current === 't' };
}
