import { isOlderVersion, type Installation } from '../catalog/installation.ts';
import { findings, type Finding } from './finding.ts';

/** What this program brings. */
export interface ProgramVersion {
  readonly extension: string;
  readonly number: number;
  readonly latestMigration: number;
}

const INSTALL = 'bdr install --dsn "…"';

/** Checks whether bdr is in the database, and of this program's version. */
export function checkInstallation(found: Installation, program: ProgramVersion): Finding[] {
  return findings('database', (say) => {
    const { kind, version, extensionVersion, availableVersion, versionNumber } = found;
    if (kind === 'none') {
      const fix = availableVersion === null ? INSTALL : 'CREATE EXTENSION bdr;';
      return say('warning', 'bdr', 'bdr is not installed in this database', fix);
    }
    if (kind === 'foreign') {
      const whose = extensionVersion === null ? '' : ` (extension bdr ${extensionVersion})`;
      const message = `the database has a schema bdr that is not of this program${whose}`;
      const fix =
        extensionVersion === null
          ? 'ALTER SCHEMA bdr RENAME TO bdr_old;'
          : 'part the node from its old group, then DROP EXTENSION bdr;';
      return say('error', 'bdr', message, fix);
    }
    const number = versionNumber ?? 0;
    const newest = found.migrations.at(-1) ?? 0;
    const shown = `bdr ${version ?? 'of an unknown version'}`;
    const isNewer = number > program.number || newest > program.latestMigration;
    const isOlder =
      number < program.number ||
      newest < program.latestMigration ||
      (extensionVersion !== null && isOlderVersion(extensionVersion, program.extension));
    if (isNewer) {
      const message = `${shown} in this database is newer than this program`;
      say('error', 'bdr', message, 'npm install pg-bdr@latest  # where the agent runs');
    } else if (isOlder) {
      const fix = kind === 'extension' ? 'ALTER EXTENSION bdr UPDATE;' : INSTALL;
      say('warning', 'bdr', `${shown} in this database is older than this program`, fix);
    } else {
      const how = kind === 'extension' ? `extension ${extensionVersion}` : 'by bdr install';
      say('ok', 'bdr', `${shown} is installed (${how})`);
    }
  });
}
