/** One of libpq's connection parameters. */
export interface Keyword {
  /** Environment variable that gives the value where the connection string does not. */
  readonly env?: string;
  /** Value where neither gives one. */
  readonly fallback?: string;
  /** Never shown to anybody. */
  readonly secret?: true;
}

/**
 * The connection parameters of libpq 18, as `PQconndefaults()` lists them (manual, "Parameter Key Words" and "Environment
 * Variables"). `gssencmode` falls back to `disable`, as in a libpq built without GSSAPI.
 */
export const KEYWORDS = {
  service: { env: 'PGSERVICE' },
  user: { env: 'PGUSER' },
  password: { env: 'PGPASSWORD', secret: true },
  passfile: { env: 'PGPASSFILE' },
  channel_binding: { env: 'PGCHANNELBINDING', fallback: 'prefer' },
  connect_timeout: { env: 'PGCONNECT_TIMEOUT' },
  dbname: { env: 'PGDATABASE' },
  host: { env: 'PGHOST' },
  hostaddr: { env: 'PGHOSTADDR' },
  port: { env: 'PGPORT', fallback: '5432' },
  client_encoding: { env: 'PGCLIENTENCODING' },
  options: { env: 'PGOPTIONS', fallback: '' },
  application_name: { env: 'PGAPPNAME' },
  fallback_application_name: {},
  keepalives: {},
  keepalives_idle: {},
  keepalives_interval: {},
  keepalives_count: {},
  tcp_user_timeout: {},
  sslmode: { env: 'PGSSLMODE', fallback: 'prefer' },
  sslnegotiation: { env: 'PGSSLNEGOTIATION', fallback: 'postgres' },
  sslcompression: { env: 'PGSSLCOMPRESSION', fallback: '0' },
  sslcert: { env: 'PGSSLCERT' },
  sslkey: { env: 'PGSSLKEY' },
  sslcertmode: { env: 'PGSSLCERTMODE' },
  sslpassword: { secret: true },
  sslrootcert: { env: 'PGSSLROOTCERT' },
  sslcrl: { env: 'PGSSLCRL' },
  sslcrldir: { env: 'PGSSLCRLDIR' },
  sslsni: { env: 'PGSSLSNI', fallback: '1' },
  requirepeer: { env: 'PGREQUIREPEER' },
  require_auth: { env: 'PGREQUIREAUTH' },
  min_protocol_version: { env: 'PGMINPROTOCOLVERSION' },
  max_protocol_version: { env: 'PGMAXPROTOCOLVERSION' },
  ssl_min_protocol_version: { env: 'PGSSLMINPROTOCOLVERSION', fallback: 'TLSv1.2' },
  ssl_max_protocol_version: { env: 'PGSSLMAXPROTOCOLVERSION' },
  gssencmode: { env: 'PGGSSENCMODE', fallback: 'disable' },
  krbsrvname: { env: 'PGKRBSRVNAME', fallback: 'postgres' },
  gsslib: { env: 'PGGSSLIB' },
  gssdelegation: { env: 'PGGSSDELEGATION', fallback: '0' },
  replication: {},
  target_session_attrs: { env: 'PGTARGETSESSIONATTRS', fallback: 'any' },
  load_balance_hosts: { env: 'PGLOADBALANCEHOSTS', fallback: 'disable' },
  scram_client_key: { secret: true },
  scram_server_key: { secret: true },
  oauth_issuer: {},
  oauth_client_id: {},
  oauth_client_secret: { secret: true },
  oauth_scope: {},
  sslkeylogfile: {},
} as const satisfies Record<string, Keyword>;

export type KeywordName = keyof typeof KEYWORDS;

/** The keywords that a connection string, or anything it refers to, gives a value for. */
export type ConninfoValues = Partial<Record<KeywordName, string>>;

/** Whether libpq knows the keyword. They are all lower case, and case matters. */
export function isKeyword(name: string): name is KeywordName {
  return Object.hasOwn(KEYWORDS, name);
}

/** Whether the keyword's value must not be shown. */
export function isSecret(name: KeywordName): boolean {
  const keyword: Keyword = KEYWORDS[name];
  return keyword.secret === true;
}

/** All keywords with what libpq knows of them, in libpq's order. */
export function allKeywords(): readonly (readonly [KeywordName, Keyword])[] {
  return Object.entries(KEYWORDS) as [KeywordName, Keyword][];
}
