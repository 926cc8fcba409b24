import { spawn } from 'node:child_process';
import { BdrError, messageOf } from '../base/errors.ts';

/** Environment variables: of the process, or those that libpq reads. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Connection parameters by libpq's keywords: host, port, user, dbname, password, sslmode … */
export type ConnectionParameters = Readonly<Record<string, string>>;

export interface SystemPgDump {
  readonly version: string;
  readonly major: number;
}

// A password never stands in argv, where every user of the machine can read it. libpq has no variable for the other keywords.
const VARIABLES: Readonly<Record<string, string>> = {
  host: 'PGHOST',
  hostaddr: 'PGHOSTADDR',
  port: 'PGPORT',
  dbname: 'PGDATABASE',
  user: 'PGUSER',
  password: 'PGPASSWORD',
  passfile: 'PGPASSFILE',
  service: 'PGSERVICE',
  options: 'PGOPTIONS',
  application_name: 'PGAPPNAME',
  channel_binding: 'PGCHANNELBINDING',
  require_auth: 'PGREQUIREAUTH',
  sslmode: 'PGSSLMODE',
  sslnegotiation: 'PGSSLNEGOTIATION',
  sslcompression: 'PGSSLCOMPRESSION',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  sslcertmode: 'PGSSLCERTMODE',
  sslrootcert: 'PGSSLROOTCERT',
  sslcrl: 'PGSSLCRL',
  sslcrldir: 'PGSSLCRLDIR',
  sslsni: 'PGSSLSNI',
  ssl_min_protocol_version: 'PGSSLMINPROTOCOLVERSION',
  ssl_max_protocol_version: 'PGSSLMAXPROTOCOLVERSION',
  requirepeer: 'PGREQUIREPEER',
  gssencmode: 'PGGSSENCMODE',
  krbsrvname: 'PGKRBSRVNAME',
  gsslib: 'PGGSSLIB',
  gssdelegation: 'PGGSSDELEGATION',
  connect_timeout: 'PGCONNECT_TIMEOUT',
  target_session_attrs: 'PGTARGETSESSIONATTRS',
  load_balance_hosts: 'PGLOADBALANCEHOSTS',
};

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const KILL_AFTER_MS = 2000;

/**
 * The child's environment: the process's own without any variable of libpq's, so that nothing but the parameters says where
 * pg_dump connects to.
 */
export function pgDumpEnvironment(
  connection: ConnectionParameters,
  environment: Environment,
): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment))
    if (value !== undefined && !/^PG/i.test(name)) result[name] = value;
  for (const [keyword, value] of Object.entries(connection)) {
    const variable = VARIABLES[keyword];
    if (variable !== undefined) result[variable] = value;
  }
  return result;
}

/** The pg_dump that PATH leads to; undefined where there is none that works. */
export async function findSystemPgDump(
  environment: Environment,
  signal?: AbortSignal,
): Promise<SystemPgDump | undefined> {
  let text: string;
  try {
    text = await run(['--version'], pgDumpEnvironment({}, environment), signal);
  } catch {
    signal?.throwIfAborted();
    return undefined; // not there, or not for this machine: the caller has another one
  }
  const match = /\(PostgreSQL\) ((\d+)\S*)/.exec(text);
  return match ? { version: match[1] as string, major: Number(match[2]) } : undefined;
}

/** Runs the system's pg_dump and returns what it writes. Aborting ends the process, which cancels its query on the server. */
export function runSystemPgDump(
  connection: ConnectionParameters,
  args: readonly string[],
  environment: Environment,
  signal?: AbortSignal,
): Promise<string> {
  const child = pgDumpEnvironment(connection, environment);
  return run([...args, '--no-password'], child, signal);
}

/** Resolves only when the process is gone, whatever ended it. */
function run(
  args: readonly string[],
  env: Record<string, string>,
  signal: AbortSignal | undefined,
): Promise<string> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const child = spawn('pg_dump', args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let failure: unknown;
    let killer: NodeJS.Timeout | undefined;
    const onAbort = () => {
      failure = signal?.reason;
      child.kill('SIGTERM');
      killer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.on('error', (error) => {
      failure ??= new BdrError('schema_copy_failed', {
        message: `pg_dump could not be started: ${messageOf(error)}`,
        cause: error,
      });
    });
    child.on('close', (status, killedBy) => {
      clearTimeout(killer);
      signal?.removeEventListener('abort', onAbort);
      if (failure === undefined && status === 0) {
        try {
          return resolve(UTF8.decode(Buffer.concat(stdout)));
        } catch (cause) {
          const message = 'pg_dump failed: the schema holds text that is not UTF-8';
          failure = new BdrError('schema_copy_failed', { message, cause });
        }
      }
      reject(
        (failure ??
          new BdrError('schema_copy_failed', {
            message: `pg_dump failed with ${killedBy ?? `exit status ${status}`}`,
            detail: Buffer.concat(stderr).toString().trim(),
          })) as Error,
      );
    });
  });
}
