import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { parseInteger } from './conninfo-choices.ts';
import type { ConninfoValues } from './conninfo-keywords.ts';
import { invalidDsn } from './conninfo-token.ts';

/** One of the servers that a connection string names. */
export interface HostAddress {
  /** As given: a name, an address, or the directory of a Unix socket. Certificates and password files go by it. */
  readonly name: string;
  /** What to connect to: `hostaddr` where there is one, so that no name has to be looked up. */
  readonly address: string;
  readonly port: number;
}

/** libpq's directory for sockets is set when it is built: by most distributions to the first, otherwise to the second. */
export const SOCKET_DIRS: readonly string[] = ['/var/run/postgresql', '/tmp'];

/** Whether the address is the directory of a Unix socket. */
export function isSocketDir(address: string): boolean {
  return address.startsWith('/');
}

/**
 * The servers to try, in order (manual, "Specifying Multiple Hosts"): lists of host, hostaddr and port must be of one length,
 * only a single port counts for all. A host that is left out is the local server, by its socket if it has one that we find.
 * Throws BdrError `invalid_dsn`.
 */
export function hostAddresses(
  values: ConninfoValues,
  exists: (path: string) => boolean = existsSync,
): HostAddress[] {
  const names = list(values.host);
  const addresses = list(values.hostaddr);
  const ports = list(values.port) ?? [''];
  if (names && addresses && names.length !== addresses.length) {
    throw invalidDsn(
      `could not match ${names.length} host names to ${addresses.length} hostaddr values`,
    );
  }
  const count = (addresses ?? names ?? ['']).length;
  if (ports.length !== 1 && ports.length !== count) {
    throw invalidDsn(`could not match ${ports.length} port numbers to ${count} hosts`);
  }
  return Array.from({ length: count }, (_, index) => {
    const port = portNumber(ports.length === 1 ? ports[0] : ports[index]);
    const address = addresses?.[index] ?? '';
    if (address !== '' && isIP(address) === 0) {
      throw invalidDsn(`could not parse network address "${address}"`);
    }
    const name = names?.[index] || address || defaultHost(port, exists);
    if (name.startsWith('@')) {
      throw invalidDsn(`abstract socket "${name}" is not supported by bdr`);
    }
    return { name, address: address || name, port };
  });
}

/** An empty list counts as none. */
function list(value: string | undefined): string[] | undefined {
  return value ? value.split(',') : undefined;
}

function portNumber(text = ''): number {
  if (text === '') return 5432;
  const port = parseInteger(text, 'port');
  if (port < 1 || port > 65535) throw invalidDsn(`invalid port number: "${text}"`);
  return port;
}

function defaultHost(port: number, exists: (path: string) => boolean): string {
  const dirs = process.platform === 'win32' ? [] : SOCKET_DIRS;
  return dirs.find((dir) => exists(join(dir, `.s.PGSQL.${port}`))) ?? 'localhost';
}
