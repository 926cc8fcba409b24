import type { ConninfoValues, KeywordName } from './conninfo-keywords.ts';
import { invalidDsn } from './conninfo-token.ts';

export const SSL_MODES = [
  'disable',
  'allow',
  'prefer',
  'require',
  'verify-ca',
  'verify-full',
] as const;
export type SslMode = (typeof SSL_MODES)[number];

export const SESSION_ATTRS = [
  'any',
  'read-write',
  'read-only',
  'primary',
  'standby',
  'prefer-standby',
] as const;
export type TargetSessionAttrs = (typeof SESSION_ATTRS)[number];

/** The value of a keyword that takes one of a few words. Throws BdrError `invalid_dsn` for any other. */
export function choice<Word extends string>(
  values: ConninfoValues,
  keyword: KeywordName,
  words: readonly Word[],
): Word {
  const value = values[keyword] ?? '';
  const word = words.find((candidate) => candidate === value);
  if (word === undefined) throw invalidDsn(`invalid ${keyword} value: "${value}"`);
  return word;
}

/** A keyword's number, `fallback` where it has none. Throws BdrError `invalid_dsn` for what is none, or above 32 bits. */
export function integer(values: ConninfoValues, keyword: KeywordName, fallback: number): number {
  const value = values[keyword];
  return value === undefined ? fallback : parseInteger(value, keyword);
}

export function parseInteger(value: string, keyword: KeywordName): number {
  const number = /^[ \t\n\v\f\r]*[+-]?\d+[ \t\n\v\f\r]*$/.test(value) ? Number(value) : NaN;
  if (Number.isNaN(number) || number !== (number | 0)) {
    throw invalidDsn(`invalid integer value "${value}" for connection option "${keyword}"`);
  }
  return number;
}

/**
 * Refuses what this client cannot do, where going on without would be less safe than what was asked for, or could not work.
 * Throws BdrError `invalid_dsn`. Every other keyword is either honoured, or of no effect on safety.
 */
export function refuseUnsupported(values: ConninfoValues, usesSocket: boolean): void {
  const refuse = (keyword: KeywordName, hint: string) => {
    throw invalidDsn(`${keyword}=${values[keyword]} is not supported by bdr`, hint);
  };
  if (choice(values, 'channel_binding', ['disable', 'prefer', 'require']) === 'require') {
    refuse('channel_binding', 'Use sslmode=verify-full, which protects from the same attacks.');
  }
  if (values.require_auth) {
    refuse('require_auth', 'Use sslmode=verify-full, so that only the right server is answered.');
  }
  if (choice(values, 'gssencmode', ['disable', 'prefer', 'require']) === 'require') {
    refuse('gssencmode', 'Use TLS instead, with sslmode.');
  }
  if (values.sslcertmode !== undefined) {
    if (choice(values, 'sslcertmode', ['disable', 'allow', 'require']) === 'require') {
      refuse('sslcertmode', 'Let pg_hba.conf ask for the certificate, with clientcert.');
    }
  }
  if (usesSocket && values.requirepeer) {
    refuse('requirepeer', 'Connect by TCP, with sslmode=verify-full.');
  }
  for (const keyword of ['scram_client_key', 'scram_server_key'] as const) {
    if (values[keyword]) throw invalidDsn(`${keyword} is not supported by bdr`, 'Use password.');
  }
  refuseProtocol(values);
  for (const keyword of ['keepalives_interval', 'keepalives_count', 'tcp_user_timeout'] as const) {
    integer(values, keyword, 0);
  }
}

/** The driver speaks version 3.0 of the protocol. */
function refuseProtocol(values: ConninfoValues): void {
  const versions = ['3.0', '3.2', 'latest'] as const;
  if (values.max_protocol_version !== undefined) choice(values, 'max_protocol_version', versions);
  if (values.min_protocol_version === undefined) return;
  if (choice(values, 'min_protocol_version', versions) !== '3.0') {
    throw invalidDsn(`min_protocol_version=${values.min_protocol_version} is not supported by bdr`);
  }
}
