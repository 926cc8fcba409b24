import { BdrError, messageOf } from '../base/errors.ts';
import { hasSqlstate, SQLSTATE, sqlstateOf } from './sqlstate.ts';

/** A connection that was there is not any more. */
export function connectionLost(cause: unknown): BdrError {
  const reason = cause === undefined ? 'closed by the server' : messageOf(cause);
  return new BdrError('connection_failed', {
    message: `connection to the server was lost: ${reason}`,
    cause,
  });
}

/** Turns what the driver threw while connecting into an error that says where, why and what to do. */
export function explainConnectFailure(cause: unknown, where: string): BdrError {
  if (cause instanceof BdrError) return cause;
  const reason = messageOf(cause);
  const refused = (hint: string) =>
    new BdrError('connection_refused', {
      message: `could not connect to ${where}: ${reason}`,
      sqlstate: sqlstateOf(cause),
      hint,
      cause,
    });
  if (hasSqlstate(cause, SQLSTATE.invalidPassword)) {
    return refused('Check the user and the password in the DSN, or in the password file.');
  }
  if (hasSqlstate(cause, SQLSTATE.invalidAuthorization)) {
    return refused('pg_hba.conf of that server must let this role in, also for replication.');
  }
  if (hasSqlstate(cause, SQLSTATE.invalidCatalogName)) {
    return refused('Check dbname in the DSN.');
  }
  if (hasSqlstate(cause, SQLSTATE.configurationLimitExceeded)) {
    return refused(
      'A limit that is set on that server is too small: ALTER SYSTEM, ALTER ROLE … SET or ALTER DATABASE … SET has done that.',
    );
  }
  if (hasSqlstate(cause, SQLSTATE.tooManyConnections)) {
    return new BdrError('too_few_slots', {
      message: `could not connect to ${where}: ${reason}`,
      sqlstate: sqlstateOf(cause),
      hint: 'Raise max_connections or max_wal_senders on that server.',
      cause,
    });
  }
  return new BdrError('connection_failed', {
    message: `could not connect to ${where}: ${reason}`,
    sqlstate: sqlstateOf(cause),
    hint: 'Check that the server runs and that host and port in the DSN are right.',
    cause,
  });
}
