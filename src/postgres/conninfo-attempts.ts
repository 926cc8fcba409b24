import type { ClientConfig } from 'pg';
import { messageOf } from '../base/errors.ts';
import type { TargetSessionAttrs } from './conninfo-choices.ts';
import { isSocketDir } from './conninfo-hosts.ts';
import type { Conninfo, ConninfoHost } from './conninfo-resolve.ts';
import { hasSqlstate, SQLSTATE, sqlstateOf } from './sqlstate.ts';

/**
 * What must have come of the attempts before for this one to make sense:
 * `host_failed`: the last one did not reach a server that let us in or turned us away; `tls_refused`: the server has no TLS, or
 * turned us away with it; `plain_refused`: the server turned us away without TLS.
 */
export type AttemptCondition = 'host_failed' | 'tls_refused' | 'plain_refused';

/** One way to connect. Complete: the driver finds nothing that it would look up in the environment or a password file. */
export interface ClientAttempt {
  readonly config: ClientConfig;
  /** The server, for messages. */
  readonly describe: string;
  readonly onlyAfter?: AttemptCondition;
  /** The kind of session that must come of it, or the attempt counts as failed. */
  readonly requires: Exclude<TargetSessionAttrs, 'prefer-standby'>;
}

/**
 * The ways to connect, in the order to try them: all hosts, in random order if so asked; for `sslmode=allow` and `prefer` each
 * host in two ways; for `target_session_attrs=prefer-standby` everything again, for any kind of session. `random` gives [0, 1).
 */
export function clientConfigs(
  conninfo: Conninfo,
  random: () => number = Math.random,
): ClientAttempt[] {
  const hosts = conninfo.loadBalance ? shuffled(conninfo.hosts, random) : conninfo.hosts;
  const wanted = conninfo.targetSessionAttrs;
  const passes = wanted === 'prefer-standby' ? (['standby', 'any'] as const) : [wanted];
  const attempts = passes.flatMap((requires) =>
    hosts.flatMap((host) => hostAttempts(conninfo, host).map((way) => ({ ...way, requires }))),
  );
  return attempts.map((attempt, index) =>
    index === 0 || attempt.onlyAfter ? attempt : { ...attempt, onlyAfter: 'host_failed' as const },
  );
}

function hostAttempts(conninfo: Conninfo, host: ConninfoHost): Omit<ClientAttempt, 'requires'>[] {
  const describe = `${describeHost(host)}/${conninfo.database} as ${conninfo.user}`;
  const plain = { config: clientConfig(conninfo, host, false), describe };
  if (isSocketDir(host.address)) return [plain];
  const tls = { config: clientConfig(conninfo, host, true), describe };
  switch (conninfo.tls.mode) {
    case 'disable':
      return [plain];
    case 'allow':
      return [plain, { ...tls, onlyAfter: 'plain_refused' }];
    case 'prefer':
      return [tls, { ...plain, onlyAfter: 'tls_refused' }];
    case 'require':
    case 'verify-ca':
    case 'verify-full':
      return [tls];
  }
}

function clientConfig(conninfo: Conninfo, host: ConninfoHost, tls: boolean): ClientConfig {
  return {
    host: host.address,
    port: host.port,
    user: conninfo.user,
    database: conninfo.database,
    // A function even for no password, or the driver would look for one in PGPASSWORD and the password file.
    password: () => {
      const password = host.password();
      if (password !== undefined) return password;
      throw Object.assign(new Error('fe_sendauth: no password supplied'), {
        code: SQLSTATE.invalidPassword,
      });
    },
    ssl: tls ? conninfo.tls.options(host.name) : false,
    sslnegotiation: tls && conninfo.tls.direct ? 'direct' : 'postgres',
    enableChannelBinding: tls && conninfo.channelBinding,
    connectionTimeoutMillis: conninfo.connectTimeoutMs,
    keepAlive: conninfo.keepAlive,
    keepAliveInitialDelayMillis: conninfo.keepAliveIdleMs,
    options: conninfo.options,
    application_name: conninfo.applicationName,
    fallback_application_name: conninfo.applicationName,
    client_encoding: 'UTF8',
  };
}

/** `host:port`, or `directory:port` of a socket; an IPv6 address stands in brackets. */
export function describeHost({ name, port }: { name: string; port: number }): string {
  return name.includes(':') ? `[${name}]:${port}` : `${name}:${port}`;
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const order = [...items];
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other] as T, order[last] as T];
  }
  return order;
}

/** Whether what the attempt before threw meets the condition; `failure` is what the driver threw. */
export function conditionHolds(condition: AttemptCondition, failure: unknown): boolean {
  const refused = hasSqlstate(failure, SQLSTATE.invalidAuthorization, SQLSTATE.invalidPassword);
  switch (condition) {
    case 'plain_refused':
      return refused;
    case 'tls_refused':
      return refused || isTlsFailure(failure);
    case 'host_failed':
      // A server that is starting up or shutting down counts as one that is not there.
      return !isServerAnswer(failure) || hasSqlstate(failure, SQLSTATE.cannotConnectNow);
  }
}

/** Every SQLSTATE has a digit, unlike the five letters of EPIPE. */
function isServerAnswer(failure: unknown): boolean {
  return /\d/.test(sqlstateOf(failure) ?? '');
}

const TLS_FAILURE =
  /does not support SSL connections|before secure TLS connection was established|certificate|\bSSL\b|\bTLS\b/i;

function isTlsFailure(failure: unknown): boolean {
  if (isServerAnswer(failure)) return false;
  const code = (failure as { code?: unknown } | undefined)?.code;
  if (typeof code === 'string' && /^ERR_(SSL|TLS)|CERT|EPROTO|CRL/.test(code)) return true;
  const message = messageOf(failure);
  return !message.includes('error establishing an SSL connection') && TLS_FAILURE.test(message);
}
