import path from 'node:path';
import { install } from '../../src/catalog/install.ts';
import { readSqlFiles } from '../../src/catalog/sql-files.ts';
import { readEnvironment } from '../../src/config/environment.ts';
import { sqlDir } from '../../src/config/paths.ts';
import { AgentProcess } from '../../src/demo/agent-process.ts';
import type { EmbeddedServer } from '../../src/embedded/server.ts';
import { resolveConninfo } from '../../src/postgres/conninfo.ts';
import { Session, type SessionOptions } from '../../src/postgres/session.ts';

/** The built agent, as a process of its own, for `await using`: Node 20 runs the threads of its links from dist/ alone. */
export function startAgent(server: EmbeddedServer): AsyncDisposable {
  const logPath = path.join(server.dir, 'agent.log');
  const agent = new AgentProcess(server.dsn(), logPath, readEnvironment().env);
  return { [Symbol.asyncDispose]: () => agent.stop() };
}

/** A session of a server's superuser, as the program opens them. */
export function openSession(
  server: EmbeddedServer,
  database = 'postgres',
  options: Partial<SessionOptions> = {},
): Promise<Session> {
  return Session.connect(resolveConninfo(server.dsn(database), readEnvironment()), {
    applicationName: 'test',
    ...options,
  });
}

/** A new database with bdr in it, as `bdr install` makes it; the session is for `await using`. */
export async function openNewDatabase(server: EmbeddedServer, name: string): Promise<Session> {
  await using maintenance = await openSession(server);
  await maintenance.script(`CREATE DATABASE ${name}`);
  const session = await openSession(server, name);
  await install(session, readSqlFiles(sqlDir()));
  return session;
}

/** Makes the session's database the first node of a group. An agent must be there. */
export async function createGroup(session: Session, name: string, dsn: string): Promise<void> {
  await session.query('SELECT bdr.bdr_group_create($1, $2)', [name, dsn]);
  await session.script('SELECT bdr.bdr_node_join_wait_for_ready()');
}

/** Makes the session's database a further node. */
export async function joinGroup(
  session: Session,
  name: string,
  dsn: string,
  via: string,
): Promise<void> {
  await session.query('SELECT bdr.bdr_group_join($1, $2, $3)', [name, dsn, via]);
  await session.script('SELECT bdr.bdr_node_join_wait_for_ready()');
}
