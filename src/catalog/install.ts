import { BdrError, messageOf } from '../base/errors.ts';
import { lockInstallation } from '../postgres/advisory.ts';
import { readServerBasics, type ServerBasics } from '../postgres/server-basics.ts';
import type { Session } from '../postgres/session.ts';
import { sqlstateOf } from '../postgres/sqlstate.ts';
import {
  EXTENSION_VERSION,
  isOlderVersion,
  readInstallation,
  type Installation,
} from './installation.ts';
import type { SqlFile, SqlFiles } from './sql-files.ts';

const OLDEST_MAJOR = 14;

export interface InstallResult {
  /**
   * `created` from nothing; `upgraded` by migrations that were missing; `refreshed` where only the routines were made anew;
   * `extension` where CREATE EXTENSION has made the objects: those are left alone.
   */
  readonly outcome: 'created' | 'upgraded' | 'refreshed' | 'extension';
  readonly database: string;
  /** What bdr.bdr_version() says now. */
  readonly version: string;
  /** Migrations that ran now. */
  readonly migrations: readonly number[];
  /** What is left to do, as SQL; null for nothing. */
  readonly next: string | null;
}

/**
 * Makes or upgrades the objects of schema bdr over a connection, for a server whose disk cannot be reached: the same objects as
 * CREATE EXTENSION makes. All or nothing, in one transaction, and one at a time. Throws BdrError.
 */
export async function install(session: Session, files: SqlFiles): Promise<InstallResult> {
  const server = await readServerBasics(session);
  refuseServer(server);
  return session.transaction(async () => {
    // Before the look, so that whoever comes second sees what the first has made.
    await lockInstallation(session);
    // A node is upgraded by itself.
    await session.script('SET LOCAL bdr.skip_ddl_replication = on');
    const before = await readInstallation(session);
    refuseInstallation(before, files, server.database);
    if (before.kind === 'extension') return leaveExtension(before, server.database);

    const missing = files.migrations.filter(({ number }) => !before.migrations.includes(number));
    for (const migration of missing) {
      await run(session, migration);
      await session.run(/* sql */ `INSERT INTO bdr.bdr_schema_migrations (migration) VALUES ($1)`, [
        migration.number,
      ]);
    }
    for (const routine of files.routines) await run(session, routine);

    const after = await readInstallation(session);
    return {
      outcome: before.kind === 'none' ? 'created' : missing.length > 0 ? 'upgraded' : 'refreshed',
      database: server.database,
      version: after.version ?? '',
      migrations: missing.map(({ number }) => number),
      next: null,
    };
  });
}

function refuseServer(server: ServerBasics): void {
  if (server.major < OLDEST_MAJOR) {
    throw new BdrError('version_mismatch', {
      message: `PostgreSQL ${server.version} is too old, ${OLDEST_MAJOR} is the oldest that works`,
    });
  }
  if (server.inRecovery) {
    throw new BdrError('server_not_ready', {
      message: 'the server is a standby, which takes no writes',
      hint: 'Connect to its primary.',
    });
  }
  if (!server.superuser) {
    throw new BdrError('insufficient_privilege', {
      message: `role "${server.user}" is not a superuser, as installing bdr needs`,
      detail: 'Event triggers are part of it, and only superusers may create those.',
      hint: 'Connect as a superuser, such as user=postgres.',
    });
  }
}

function refuseInstallation(found: Installation, files: SqlFiles, database: string): void {
  if (found.kind === 'foreign') {
    throw new BdrError('version_mismatch', {
      message: `database "${database}" has a schema bdr that is not of this program`,
      detail:
        found.extensionVersion === null
          ? 'It has no table bdr.bdr_schema_migrations.'
          : `It belongs to extension bdr ${found.extensionVersion}.`,
      hint: 'Remove it, or move it out of the way: ALTER SCHEMA bdr RENAME TO bdr_old;',
    });
  }
  const known = files.migrations.at(-1)?.number ?? 0;
  const newest = found.migrations.at(-1) ?? 0;
  const extension = found.extensionVersion;
  if (newest > known || (extension !== null && isOlderVersion(EXTENSION_VERSION, extension))) {
    throw new BdrError('version_mismatch', {
      message: `database "${database}" has a newer bdr than this program brings`,
      detail: `It has migration ${newest} (version ${found.version ?? 'unknown'}); this program knows migrations up to ${known}. There is no way back to an older version.`,
      hint: 'Use the newer program: npm install pg-bdr@latest',
    });
  }
}

function leaveExtension(found: Installation, database: string): InstallResult {
  const older = isOlderVersion(found.extensionVersion ?? '', EXTENSION_VERSION);
  return {
    outcome: 'extension',
    database,
    version: found.version ?? '',
    migrations: [],
    next: older ? `ALTER EXTENSION bdr UPDATE TO '${EXTENSION_VERSION}';` : null,
  };
}

async function run(session: Session, file: SqlFile): Promise<void> {
  try {
    await session.script(file.text);
  } catch (error) {
    if (session.lost.aborted) throw error;
    const { position, detail, hint } = error as {
      position?: string;
      detail?: string;
      hint?: string;
    };
    const line = position && file.text.slice(0, Number(position)).split('\n').length;
    throw new BdrError('install_failed', {
      message: `bdr could not be installed: ${messageOf(error)}`,
      detail: `${detail ? `${detail} ` : ''}In ${file.name}${line ? `, line ${line}` : ''}. Nothing has been changed.`,
      hint,
      sqlstate: sqlstateOf(error),
      cause: error,
    });
  }
}
