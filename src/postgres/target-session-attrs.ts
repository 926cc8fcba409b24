import type { TargetSessionAttrs } from './conninfo-choices.ts';

/** What a server reports of a session's parameters (manual, "Asynchronous Operations" of the protocol). */
export type ReportedParameters = Readonly<Record<string, string>>;

/**
 * Whether a session is of the kind that `target_session_attrs` asks for (manual, "Parameter Key Words"). `reported`: as it has begun,
 * before anything was set in it. PostgreSQL reports both parameters since 14; asked for by a statement, they could run into
 * what is set for the role or the database.
 */
export function sessionIs(
  reported: ReportedParameters,
  wanted: Exclude<TargetSessionAttrs, 'prefer-standby'>,
): boolean {
  const standby = reported['in_hot_standby'] === 'on';
  const readOnly = standby || reported['default_transaction_read_only'] === 'on';
  switch (wanted) {
    case 'any':
      return true;
    case 'primary':
      return !standby;
    case 'standby':
      return standby;
    case 'read-write':
      return !readOnly;
    case 'read-only':
      return readOnly;
  }
}
