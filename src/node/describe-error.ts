import { ProtocolError } from '../base/bytes.ts';
import { BdrError, ERROR_CODES, messageOf } from '../base/errors.ts';
import { connectionLost } from '../postgres/connect-failure.ts';
import { sqlstateOf } from '../postgres/sqlstate.ts';

/** An error as fields for logs, reports and bdr.bdr_links.status_error. */
export type ErrorReport = {
  readonly message: string;
  readonly detail: string | null;
  readonly hint: string | null;
  readonly sqlstate: string;
  readonly code: string | null;
};

export function describeError(error: unknown): ErrorReport {
  if (error instanceof BdrError) {
    return {
      message: error.message,
      detail: error.detail ?? null,
      hint: error.hint ?? null,
      sqlstate: error.sqlstate,
      code: error.code,
    };
  }
  if (error instanceof ProtocolError) {
    const { sqlstate } = ERROR_CODES.protocol_violation;
    return {
      message: error.message,
      detail: null,
      hint: null,
      sqlstate,
      code: 'protocol_violation',
    };
  }
  if (isOfSocket(error)) return describeError(connectionLost(error));
  return {
    message: messageOf(error),
    detail: textField(error, 'detail'),
    hint: textField(error, 'hint'),
    sqlstate: sqlstateOf(error) ?? 'XX000',
    code: null,
  };
}

/** What the system and the driver say where a connection ends in the middle of something. */
const ENDS = /^(EPIPE|ECONNRESET|ECONNABORTED|ETIMEDOUT|ENOTCONN|ERR_STREAM_\w+)$/;
const DRIVER_ENDS = /^Connection terminated/;

function isOfSocket(error: unknown): boolean {
  return ENDS.test(textField(error, 'code') ?? '') || DRIVER_ENDS.test(messageOf(error));
}

function textField(error: unknown, name: string): string | null {
  const value = error instanceof Error ? (error as unknown as Record<string, unknown>)[name] : null;
  return typeof value === 'string' && value !== '' ? value : null;
}
