import { choice, integer, refuseUnsupported, SESSION_ATTRS } from './conninfo-choices.ts';
import type { TargetSessionAttrs } from './conninfo-choices.ts';
import { withDefaults, type ConninfoEnvironment } from './conninfo-defaults.ts';
import { hostAddresses, isSocketDir, SOCKET_DIRS, type HostAddress } from './conninfo-hosts.ts';
import type { ConninfoValues } from './conninfo-keywords.ts';
import { parseConninfo } from './conninfo-parse.ts';
import { tlsSettings, type TlsSettings } from './conninfo-tls.ts';
import { invalidDsn } from './conninfo-token.ts';
import { readPassword } from './passfile.ts';

/** A server to try. */
export interface ConninfoHost extends HostAddress {
  /** A function, so that no log that prints the settings shows it. */
  readonly password: () => string | undefined;
}

/** A connection string with everything filled in that it leaves open. Holds no secret that printing it would show. */
export interface Conninfo {
  readonly user: string;
  readonly database: string;
  /** In the order given; at least one. */
  readonly hosts: readonly ConninfoHost[];
  /** Hosts are tried in random order. */
  readonly loadBalance: boolean;
  readonly targetSessionAttrs: TargetSessionAttrs;
  readonly tls: TlsSettings;
  /** Binds SCRAM authentication to the TLS connection where the server offers it. */
  readonly channelBinding: boolean;
  /** For each host; 0 for no limit. */
  readonly connectTimeoutMs: number;
  readonly keepAlive: boolean;
  /** 0 for the operating system's. */
  readonly keepAliveIdleMs: number;
  readonly options: string;
  readonly applicationName: string;
  /** What the user should know, such as a password file that was not used. */
  readonly warnings: readonly string[];
}

/**
 * Reads a connection string and fills in what it leaves open from its service, the environment, libpq's defaults and the
 * password file, as libpq 18 does (manual, "Database Connection Control Functions"). Reads files, connects to nothing.
 * Throws BdrError `invalid_dsn` for what libpq would refuse before it connects, and for what cannot be honoured but ought to be.
 */
export function resolveConninfo(text: string, environment: ConninfoEnvironment): Conninfo {
  const values = withDefaults(parseConninfo(text), environment);
  const { user, dbname: database } = values;
  if (!user || !database) {
    throw invalidDsn('no user name in the connection string', 'Add user=… to it.');
  }
  const addresses = hostAddresses(values);
  refuseUnsupported(
    values,
    addresses.some(({ address }) => isSocketDir(address)),
  );
  const tls = tlsSettings(
    values,
    environment,
    addresses.some(({ address }) => !isSocketDir(address)),
  );
  const warnings = new Set<string>();
  const hosts = addresses.map((host) => {
    const password = passwordFor(host, user, database, values, (text) => warnings.add(text));
    return { ...host, password: () => password };
  });
  return {
    user,
    database,
    hosts,
    loadBalance: choice(values, 'load_balance_hosts', ['disable', 'random']) === 'random',
    targetSessionAttrs: choice(values, 'target_session_attrs', SESSION_ATTRS),
    tls,
    channelBinding: values.channel_binding !== 'disable',
    connectTimeoutMs: Math.max(0, integer(values, 'connect_timeout', 0)) * 1000,
    keepAlive: integer(values, 'keepalives', 1) !== 0,
    keepAliveIdleMs: Math.max(0, integer(values, 'keepalives_idle', 0)) * 1000,
    // The driver would take the environment's for an empty value. One space gives the server nothing.
    options: values.options || (environment.env['PGOPTIONS'] ? ' ' : ''),
    applicationName: values.application_name || values.fallback_application_name || 'pg-bdr',
    warnings: [...warnings],
  };
}

/** The password that was given, or the password file's for this host. An empty one counts as none. */
function passwordFor(
  host: HostAddress,
  user: string,
  database: string,
  { password, passfile }: ConninfoValues,
  warn: (warning: string) => void,
): string | undefined {
  if (password) return password;
  if (!passfile) return undefined;
  const hosts = SOCKET_DIRS.includes(host.name) ? [host.name, 'localhost'] : [host.name];
  return readPassword(passfile, { hosts, port: host.port, database, user }, warn) || undefined;
}
