import type { EmbeddedServer } from '../../src/embedded/server.ts';
import type { Session } from '../../src/postgres/session.ts';
import { openNewDatabase, openSession } from './agents.ts';

/**
 * A node's database `app` in which role mallory, who is no superuser, owns schema app; a superuser has a table in it. One session
 * is the superuser's, the other mallory's.
 */
export async function openOrdinaryRole(
  server: EmbeddedServer,
): Promise<{ session: Session; owner: Session }> {
  const session = await openNewDatabase(server, 'app');
  await session.script(`
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
    SELECT '7', 1, oid FROM pg_database WHERE datname = 'app';
    SELECT bdr.internal_make_guard();
    CREATE ROLE mallory;
    CREATE SCHEMA app AUTHORIZATION mallory;
    CREATE TABLE app.of_superuser (id integer PRIMARY KEY);
  `);
  const owner = await openSession(server, 'app');
  await owner.script('SET SESSION AUTHORIZATION mallory');
  return { session, owner };
}
