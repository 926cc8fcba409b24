/** Settings as a caller gives them; each becomes one line of a configuration file. */
export type ServerSettings = Readonly<Record<string, string | number | boolean>>;

/**
 * What replication needs, generous enough for a group of eight nodes that are all databases of one server: 56 links and
 * eight own streams, each with a slot, a WAL sender and an origin, and the agents' own sessions beside the users'.
 */
export function replicationSettings(major: number): ServerSettings {
  return {
    wal_level: 'logical',
    track_commit_timestamp: true,
    max_replication_slots: 100,
    max_wal_senders: 100,
    max_connections: 250,
    ...(major >= 18 ? { max_active_replication_origins: 100 } : {}),
  };
}

/**
 * Settings of a server that only this machine may reach, and only over TCP: a Unix socket's path must be shorter than the
 * paths that people and test runners use.
 */
export function loopbackSettings(port: number): ServerSettings {
  return {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: '',
    logging_collector: false,
    log_destination: 'stderr',
    log_line_prefix: '%m [%p] %q%u@%d/%a ',
  };
}

/** The text of a configuration file. Later lines win, as PostgreSQL reads it. */
export function formatSettings(...groups: ServerSettings[]): string {
  const merged = Object.assign({}, ...groups) as ServerSettings;
  const lines = Object.entries(merged).map(([name, value]) => `${name} = ${quoteSetting(value)}`);
  return ['# Written at every start. Your own changes: ALTER SYSTEM.', ...lines, ''].join('\n');
}

function quoteSetting(value: string | number | boolean): string {
  if (typeof value === 'number') return String(value);
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  if (/[\r\n\0]/.test(value)) throw new RangeError('a setting cannot hold a line break');
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}

/** One line's number in such a file, or undefined; to find the port of a server that was made earlier. */
export function readNumber(text: string, name: string): number | undefined {
  const match = new RegExp(`^${name} = (\\d+)$`, 'm').exec(text);
  return match ? Number(match[1]) : undefined;
}

/** A libpq connection string, `name=value …`, each value quoted where it has to be. */
export function formatConninfo(parts: Readonly<Record<string, string | number>>): string {
  return Object.entries(parts)
    .map(([name, value]) => `${name}=${quoteConninfo(String(value))}`)
    .join(' ');
}

function quoteConninfo(value: string): string {
  return /^[A-Za-z0-9_.:/+~@%-]+$/.test(value) ? value : `'${value.replaceAll(/[\\']/g, '\\$&')}'`;
}
