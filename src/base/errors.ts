/**
 * Every failure that a user may meet has one of these codes. What each means and what to do about it stands in
 * docs/reference/errors.md; a test keeps the two lists equal.
 */
export const ERROR_CODES = {
  /** The connection string cannot be read, or names a file or service that is not there. */
  invalid_dsn: { sqlstate: '22023', retry: false },
  /** Nobody answers at that address, or the connection broke. */
  connection_failed: { sqlstate: '08006', retry: true },
  /** The server answered and refused: password, pg_hba.conf, no such database, no such role. */
  connection_refused: { sqlstate: '08004', retry: true },
  /** The role of the DSN may not do what replication needs. */
  insufficient_privilege: { sqlstate: '42501', retry: false },
  /** A server setting that replication needs has another value. */
  server_not_ready: { sqlstate: '55000', retry: true },
  /** No free replication slot, WAL sender or replication origin is left on a server. */
  too_few_slots: { sqlstate: '53400', retry: true },
  /** The servers' versions of PostgreSQL or of bdr do not go together. */
  version_mismatch: { sqlstate: '55000', retry: false },
  /** The node's state does not allow this: not a member, a member already, name taken, joining itself. */
  invalid_membership: { sqlstate: '55000', retry: false },
  /** Another node is joining through the same member; joins go one after the other. */
  join_in_progress: { sqlstate: '55006', retry: true },
  /** Something that should take moments has not happened for a long time; the message says what. */
  wait_too_long: { sqlstate: '57014', retry: true },
  /** The database that wants to join is not empty, or lacks roles that own objects on the source. */
  target_not_suitable: { sqlstate: '55000', retry: false },
  /** The slot that a link needs is gone or was invalidated: changes may be lost, so the link stops. */
  slot_lost: { sqlstate: '55000', retry: true },
  /** A replicated change does not fit the local table: table or column missing, or an error of the server on writing it. */
  apply_failed: { sqlstate: '55000', retry: true },
  /** The provider cannot send a change: its server has no form for it in which it could be. */
  not_sent: { sqlstate: '55000', retry: true },
  /** A change meets a row whose commit record is gone, and the provider cannot say yet which of the two is the later. */
  record_lost: { sqlstate: '55000', retry: true },
  /** The agent's disk would not take, or not give back, what a large transaction has brought before its end. */
  spool_failed: { sqlstate: '58030', retry: true },
  /** bdr.skip_changes_upto() was given a position that the provider's log has not reached. */
  invalid_skip: { sqlstate: '22003', retry: true },
  /** The provider's clock is further ahead of this server's than bdr.max_clock_skew. */
  clock_skew: { sqlstate: '55000', retry: true },
  /** The objects of schema bdr, or the files of the extension, could not be made or upgraded. */
  install_failed: { sqlstate: '55000', retry: false },
  /** The schema could not be dumped or restored. */
  schema_copy_failed: { sqlstate: '55000', retry: true },
  /** The provider sent bytes that are not the replication protocol. */
  protocol_violation: { sqlstate: '08P01', retry: true },
  /** No PostgreSQL server programs exist for this platform, or they could not be run. */
  no_embedded_server: { sqlstate: '0A000', retry: false },
  /** A flag of the command line is wrong. */
  usage: { sqlstate: '22023', retry: false },
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorFields {
  readonly message: string;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
  /** Where it differs from the code's own. */
  readonly sqlstate?: string | undefined;
  readonly cause?: unknown;
}

/** The one error type for people: what happened, with which data, and what to do next, as PostgreSQL words them. */
export class BdrError extends Error {
  readonly code: ErrorCode;
  readonly detail: string | undefined;
  readonly hint: string | undefined;
  readonly sqlstate: string;

  constructor(code: ErrorCode, fields: ErrorFields) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = 'BdrError';
    this.code = code;
    this.detail = fields.detail;
    this.hint = fields.hint;
    this.sqlstate = fields.sqlstate ?? ERROR_CODES[code].sqlstate;
  }

  /** Whether trying the same again, later, can help without anybody changing what was asked for. */
  get retry(): boolean {
    return ERROR_CODES[this.code].retry;
  }
}

/** An error's text, whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
