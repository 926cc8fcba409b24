import { join } from 'node:path';
import { allKeywords, type ConninfoValues } from './conninfo-keywords.ts';
import { readService } from './service-file.ts';

/** What a connection string may take from outside. `config/environment.ts` reads it from the process. */
export interface ConninfoEnvironment {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly homeDir: string;
  readonly userName: string;
}

const SYSTEM_CONFIG_DIR = '/etc/postgresql-common';

/**
 * Adds what a connection string leaves open: first from its service, then from the PG* variables, then libpq's own defaults.
 * An empty value counts as given, as in libpq. Throws BdrError `invalid_dsn` when the service cannot be found or read.
 */
export function withDefaults(
  given: ConninfoValues,
  environment: ConninfoEnvironment,
): ConninfoValues {
  const { env } = environment;
  const service = given.service ?? env['PGSERVICE'];
  const values: ConninfoValues = {
    ...(service === undefined
      ? {}
      : readService(service, {
          userFile: env['PGSERVICEFILE'] ?? userFile(environment, '.pg_service.conf'),
          userFileNamed: env['PGSERVICEFILE'] !== undefined,
          systemFile: join(env['PGSYSCONFDIR'] ?? SYSTEM_CONFIG_DIR, 'pg_service.conf'),
        })),
    ...given,
  };
  for (const [name, keyword] of allKeywords()) {
    const value = values[name] ?? (keyword.env === undefined ? undefined : env[keyword.env]);
    if (value !== undefined) values[name] = value;
  }
  // What PGSSLMODE was in old releases; libpq still looks at it.
  if (env['PGREQUIRESSL']?.startsWith('1')) values.sslmode ??= 'require';
  if (values.sslrootcert === 'system') values.sslmode ??= 'verify-full';
  for (const [name, keyword] of allKeywords()) {
    if (keyword.fallback !== undefined) values[name] ??= keyword.fallback;
  }
  values.user ||= environment.userName;
  values.dbname ||= values.user;
  values.passfile ||= userFile(environment, '.pgpass');
  return values;
}

/** Where libpq looks for a user's files: the home directory, on Windows a directory among the application data. */
export function userFile({ env, homeDir }: ConninfoEnvironment, name: UserFile): string {
  return process.platform === 'win32'
    ? join(env['APPDATA'] ?? homeDir, 'postgresql', WINDOWS_NAMES[name])
    : join(homeDir, name);
}

type UserFile = keyof typeof WINDOWS_NAMES;

const WINDOWS_NAMES = {
  '.pgpass': 'pgpass.conf',
  '.pg_service.conf': '.pg_service.conf',
  '.postgresql/root.crt': 'root.crt',
  '.postgresql/root.crl': 'root.crl',
  '.postgresql/postgresql.crt': 'postgresql.crt',
  '.postgresql/postgresql.key': 'postgresql.key',
} as const;
