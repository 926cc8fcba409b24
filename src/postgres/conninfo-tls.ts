import { createPrivateKey } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { checkServerIdentity, type ConnectionOptions, type SecureVersion } from 'node:tls';
import { messageOf } from '../base/errors.ts';
import { choice, SSL_MODES, type SslMode } from './conninfo-choices.ts';
import { userFile, type ConninfoEnvironment } from './conninfo-defaults.ts';
import type { ConninfoValues } from './conninfo-keywords.ts';
import { invalidDsn } from './conninfo-token.ts';

/** How a connection is protected. */
export interface TlsSettings {
  readonly mode: SslMode;
  /** The TLS handshake comes at once, without asking the server first. */
  readonly direct: boolean;
  /** Options for a host by its name. A function, so that no log that prints the settings shows the key. */
  readonly options: (hostName: string) => ConnectionOptions;
}

/**
 * What sslmode and its companions ask for (manual, "SSL Support"). As in libpq the server's certificate is verified in any mode
 * where a root certificate is there, and without one only `verify-ca` and `verify-full` refuse to go on.
 * Reads the files. `used` says whether any host is reached by TCP: over a socket nothing of this counts.
 * Throws BdrError `invalid_dsn` for settings that contradict each other and files that cannot be used.
 */
export function tlsSettings(
  values: ConninfoValues,
  environment: ConninfoEnvironment,
  used: boolean,
): TlsSettings {
  const mode = choice(values, 'sslmode', SSL_MODES);
  const direct = choice(values, 'sslnegotiation', ['postgres', 'direct']) === 'direct';
  if (direct && ['disable', 'allow', 'prefer'].includes(mode)) {
    throw invalidDsn(
      `weak sslmode "${mode}" may not be used with sslnegotiation=direct (use "require", "verify-ca", or "verify-full")`,
    );
  }
  if (values.sslrootcert === 'system' && mode !== 'verify-full') {
    throw invalidDsn(
      `weak sslmode "${mode}" may not be used with sslrootcert=system (use "verify-full")`,
    );
  }
  const versions = protocolVersions(values);
  if (!used || mode === 'disable') return { mode, direct, options: () => ({}) };

  const roots = rootCertificates(values, environment, mode);
  const fixed: ConnectionOptions = {
    ...versions,
    ...clientCertificate(values, environment),
    ...roots,
    rejectUnauthorized: roots !== undefined,
  };
  const sendsName = !['', '0'].includes(values.sslsni ?? '1');
  return {
    mode,
    direct,
    options: (hostName) => ({
      ...fixed,
      // Named here because the driver would take the name it connects to, which may be `hostaddr`.
      ...(sendsName && isIP(hostName) === 0 ? { servername: hostName } : {}),
      checkServerIdentity: (_name, certificate) =>
        mode === 'verify-full' ? checkServerIdentity(hostName, certificate) : undefined,
    }),
  };
}

const VERSIONS: readonly SecureVersion[] = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];

function protocolVersions(values: ConninfoValues): ConnectionOptions {
  const read = (keyword: 'ssl_min_protocol_version' | 'ssl_max_protocol_version') => {
    const value = values[keyword];
    if (!value) return undefined;
    const version = VERSIONS.find((known) => known.toLowerCase() === value.toLowerCase());
    if (!version) throw invalidDsn(`invalid "${keyword}" value: "${value}"`);
    return version;
  };
  const least = read('ssl_min_protocol_version') ?? 'TLSv1';
  const most = read('ssl_max_protocol_version') ?? 'TLSv1.3';
  if (VERSIONS.indexOf(least) > VERSIONS.indexOf(most)) {
    throw invalidDsn('invalid SSL protocol version range');
  }
  return { minVersion: least, maxVersion: most };
}

/** Bundles of the trusted roots of an operating system, where OpenSSL and distributions keep them. */
const SYSTEM_ROOTS = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** Roots and revocations to verify the server by; undefined where nothing is to be verified. */
function rootCertificates(
  values: ConninfoValues,
  environment: ConninfoEnvironment,
  mode: SslMode,
): ConnectionOptions | undefined {
  const crls = revocationLists(values, environment);
  if (values.sslrootcert === 'system') {
    const bundle = [environment.env['SSL_CERT_FILE'] ?? '', ...SYSTEM_ROOTS].find(existsSync);
    // Without a bundle the roots that come with Node.js, which are Mozilla's.
    return { ...(bundle ? { ca: readFile(bundle, 'root certificate file') } : {}), ...crls };
  }
  const file = values.sslrootcert || userFile(environment, '.postgresql/root.crt');
  if (existsSync(file)) return { ca: readFile(file, 'root certificate file'), ...crls };
  if (mode === 'verify-ca' || mode === 'verify-full') {
    throw invalidDsn(
      `root certificate file "${file}" does not exist`,
      "Either provide the file, use the system's trusted roots with sslrootcert=system, or change sslmode to disable server certificate verification.",
    );
  }
  return undefined;
}

/** Unlike libpq, a list that was asked for by name must be there. */
function revocationLists(
  values: ConninfoValues,
  environment: ConninfoEnvironment,
): ConnectionOptions {
  const files: string[] = [];
  if (values.sslcrl) files.push(values.sslcrl);
  if (values.sslcrldir) files.push(...crlFiles(values.sslcrldir));
  const usual = userFile(environment, '.postgresql/root.crl');
  if (!values.sslcrl && !values.sslcrldir && existsSync(usual)) files.push(usual);
  const lists = files.flatMap(
    (file) =>
      // Node.js reads only the first list of each text.
      readFile(file, 'certificate revocation list').match(
        /-----BEGIN X509 CRL-----.*?-----END X509 CRL-----/gs,
      ) ?? [],
  );
  if ((files.length > 0 || values.sslcrldir) && lists.length === 0) {
    throw invalidDsn(`no certificate revocation list in "${values.sslcrldir || files.join()}"`);
  }
  return lists.length > 0 ? { crl: lists } : {};
}

function crlFiles(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(dir, entry.name));
  } catch (error) {
    throw invalidDsn(`could not read directory "${dir}": ${messageOf(error)}`);
  }
}

/** The certificate to show to a server that asks for one, and its key. */
function clientCertificate(
  values: ConninfoValues,
  environment: ConninfoEnvironment,
): ConnectionOptions {
  const certFile = values.sslcert || userFile(environment, '.postgresql/postgresql.crt');
  if (values.sslcertmode === 'disable' || !existsSync(certFile)) return {};
  const keyFile = values.sslkey || userFile(environment, '.postgresql/postgresql.key');
  const status = statSync(keyFile, { throwIfNoEntry: false });
  if (!status) {
    throw invalidDsn(`certificate present, but not private key file "${keyFile}"`);
  }
  if (!status.isFile()) throw invalidDsn(`private key file "${keyFile}" is not a regular file`);
  const tooOpen = status.uid === 0 ? 0o037 : 0o077;
  if (process.platform !== 'win32' && (status.mode & tooOpen) !== 0) {
    throw invalidDsn(
      `private key file "${keyFile}" has group or world access; file must have permissions u=rw (0600) or less if owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root`,
    );
  }
  return {
    cert: readFile(certFile, 'certificate file'),
    key: privateKey(keyFile, values.sslpassword),
  };
}

/** The key as PEM, without its passphrase: the driver hides the key from logs, but not a passphrase. */
function privateKey(file: string, passphrase: string | undefined): string {
  const bytes = readBytes(file, 'private key file');
  const options = passphrase === undefined ? {} : { passphrase };
  const forms = bytes.includes('-----BEGIN')
    ? [{ format: 'pem' as const }]
    : (['pkcs8', 'pkcs1', 'sec1'] as const).map((type) => ({ format: 'der' as const, type }));
  let failure: unknown;
  for (const form of forms) {
    try {
      const key = createPrivateKey({ key: bytes, ...form, ...options });
      return key.export({ format: 'pem', type: 'pkcs8' }).toString();
    } catch (error) {
      failure = error;
    }
  }
  throw invalidDsn(
    `could not load private key file "${file}": ${messageOf(failure)}`,
    'A key that is encrypted needs sslpassword.',
  );
}

function readFile(file: string, what: string): string {
  return readBytes(file, what).toString('latin1');
}

function readBytes(file: string, what: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw invalidDsn(`could not read ${what} "${file}": ${messageOf(error)}`);
  }
}
