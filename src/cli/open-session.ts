import { readEnvironment } from '../config/environment.ts';
import { resolveConninfo, type Conninfo } from '../postgres/conninfo.ts';
import { Session } from '../postgres/session.ts';

/** Reads the DSN of a command line. Warnings about it go to stderr. Throws BdrError `invalid_dsn`. */
export function readDsn(dsn: string): Conninfo {
  const conninfo = resolveConninfo(dsn, readEnvironment());
  for (const warning of conninfo.warnings) console.error(`bdr: warning: ${warning}`);
  return conninfo;
}

/** A connection for one command. */
export async function openSession(
  conninfo: Conninfo,
  command: string,
  signal?: AbortSignal,
): Promise<Session> {
  return Session.connect(conninfo, {
    applicationName: `bdr ${command}`,
    ...(signal && { signal }),
  });
}
