/**
 * Connection strings, as libpq 18 reads them. This is the way in: nothing outside the files `conninfo*.ts` looks into one, and
 * the driver never sees one.
 */
import { clientConfigs, conditionHolds, describeHost } from './conninfo-attempts.ts';
import type { ClientAttempt } from './conninfo-attempts.ts';
import type { Conninfo } from './conninfo-resolve.ts';
import { describeText } from './conninfo-text.ts';
import { sessionIs, type ReportedParameters } from './target-session-attrs.ts';

export { clientConfigs, type AttemptCondition, type ClientAttempt } from './conninfo-attempts.ts';
export type { SslMode, TargetSessionAttrs } from './conninfo-choices.ts';
export {
  withDefaults as conninfoParameters,
  type ConninfoEnvironment,
} from './conninfo-defaults.ts';
export type { ConninfoValues, KeywordName } from './conninfo-keywords.ts';
export { parseConninfo } from './conninfo-parse.ts';
export { resolveConninfo, type Conninfo, type ConninfoHost } from './conninfo-resolve.ts';
export {
  formatConninfo,
  redactConninfo,
  UNREADABLE_CONNINFO,
  withConninfo,
} from './conninfo-text.ts';

/** One way to connect, with its conditions as functions. */
export interface ConnectionAttempt extends Omit<ClientAttempt, 'onlyAfter'> {
  /** Says from what the attempt before threw whether this one makes sense; skipped attempts do not count. */
  readonly onlyAfter?: (failure: unknown) => boolean;
  /** Says whether the session that came of it is of the kind wanted, by what its server reported of it at first. */
  readonly accepts?: (reported: ReportedParameters) => boolean;
}

/** The ways to connect, in the order to try them, for a loop that knows nothing of what the conditions mean. */
export function connectionAttempts(conninfo: Conninfo): ConnectionAttempt[] {
  return clientConfigs(conninfo).map(({ onlyAfter, ...attempt }) => ({
    ...attempt,
    ...(onlyAfter && { onlyAfter: (failure: unknown) => conditionHolds(onlyAfter, failure) }),
    ...(attempt.requires !== 'any' && {
      accepts: (reported: ReportedParameters) => sessionIs(reported, attempt.requires),
    }),
  }));
}

/**
 * `host:port/dbname as user` for messages, without a secret: of a text only what it says itself, of a resolved connection
 * string what will be connected to. Never throws.
 */
export function describeConninfo(conninfo: string | Conninfo): string {
  if (typeof conninfo === 'string') return describeText(conninfo);
  return `${conninfo.hosts.map(describeHost).join(',')}/${conninfo.database} as ${conninfo.user}`;
}
