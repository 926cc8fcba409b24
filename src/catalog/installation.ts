import { readExtension } from '../postgres/extensions.ts';
import type { Session } from '../postgres/session.ts';

/** The version of the extension that this program brings: `default_version` of bdr.control. */
export const EXTENSION_VERSION = '1.0';
/** What bdr.bdr_version_num() says where the objects are of this program's version. */
export const VERSION_NUMBER = 10000;

/** What of bdr a database holds. */
export interface Installation {
  /**
   * `extension` by CREATE EXTENSION, `plain` by `bdr install`: the same objects, upgraded in different ways. `foreign` is a
   * schema bdr of another program, such as the BDR of old.
   */
  readonly kind: 'none' | 'extension' | 'plain' | 'foreign';
  /** Numbers of the migrations that have run, ascending. */
  readonly migrations: readonly number[];
  /** The text of bdr.bdr_version(); null where there is none. */
  readonly version: string | null;
  readonly versionNumber: number | null;
  /** The extension's version in this database, where it came as one. */
  readonly extensionVersion: string | null;
  /** The version that CREATE EXTENSION would make on this server; null where it lacks the files. */
  readonly availableVersion: string | null;
}

export async function readInstallation(session: Session): Promise<Installation> {
  const { installed, available } = await readExtension(session, 'bdr');
  const [found] = await session.query<Record<'schema' | 'ours' | 'version', string>>(/* sql */ `
    SELECT to_regnamespace('bdr') IS NOT NULL AS schema,
           to_regclass('bdr.bdr_schema_migrations') IS NOT NULL AS ours,
           to_regprocedure('bdr.bdr_version()') IS NOT NULL
               AND to_regprocedure('bdr.bdr_version_num()') IS NOT NULL AS version
  `);
  const nothing = { migrations: [], version: null, versionNumber: null };
  const names = { extensionVersion: installed, availableVersion: available };
  if (found?.ours !== 't') {
    const kind = found?.schema === 't' || installed !== null ? 'foreign' : 'none';
    return { kind, ...nothing, ...names };
  }
  const [version] =
    found.version === 't'
      ? await session.query<{ text: string; number: string }>(
          /* sql */ `SELECT bdr.bdr_version() AS text, bdr.bdr_version_num() AS number`,
        )
      : [];
  return {
    kind: installed === null ? 'plain' : 'extension',
    migrations: await readMigrations(session),
    version: version?.text ?? null,
    versionNumber: version ? Number(version.number) : null,
    ...names,
  };
}

/** Whether one version of the extension, `1.0` or `1.10`, lies before another. */
export function isOlderVersion(a: string, b: string): boolean {
  return a.localeCompare(b, 'en', { numeric: true }) < 0;
}

async function readMigrations(session: Session): Promise<number[]> {
  const rows = await session.query<{ migration: string }>(
    /* sql */ `SELECT migration FROM bdr.bdr_schema_migrations ORDER BY migration`,
  );
  return rows.map(({ migration }) => Number(migration));
}
