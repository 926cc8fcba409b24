import { CommanderError } from 'commander';
import { BdrError, messageOf } from '../../base/errors.ts';

/** What is printed of a failure, and the exit code of the process: 1, or 2 for a wrong command line. */
export interface FailureReport {
  /** Without a final line break; empty where everything has been said already. */
  readonly text: string;
  readonly exitCode: number;
}

/** Help that was asked for, not shown because something was wrong. */
const ASKED_FOR = ['commander.helpDisplayed', 'commander.version'];

/**
 * Words a failure as PostgreSQL does: message, DETAIL, HINT. `debug` adds the stack, for errors of the program itself. What looks
 * like a password is masked wherever it comes from.
 */
export function describeFailure(error: unknown, debug = false): FailureReport {
  if (error instanceof CommanderError) {
    // Commander has written its text itself; it says "(outputHelp)" for a command line without a command.
    return { text: '', exitCode: ASKED_FOR.includes(error.code) ? 0 : 2 };
  }
  const { message, detail, hint, code } = fieldsOf(error);
  const lines = [
    `bdr: ${message}`,
    ...(detail ? [`DETAIL: ${detail}`] : []),
    ...(hint ? [`HINT: ${hint}`] : []),
    ...(code ? [`CODE: ${code}`] : []),
    ...(debug ? ['', ...stacks(error)] : []),
  ];
  const isUsage = error instanceof BdrError && error.code === 'usage';
  return { text: maskSecrets(lines.join('\n')), exitCode: isUsage ? 2 : 1 };
}

/** Puts `***` for the passwords of connection strings, well formed or not, that have got into a text. */
export function maskSecrets(text: string): string {
  return text
    .replace(/\b(password|sslpassword|passwd)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'"]+)/gi, '$1$2***')
    .replace(/(:\/\/[^\s:/@]*):[^\s@]+@/g, '$1:***@');
}

function fieldsOf(error: unknown): Record<'message' | 'detail' | 'hint' | 'code', string> {
  if (error instanceof BdrError) {
    const { message, detail = '', hint = '', code, sqlstate } = error;
    return { message, detail, hint, code: `${code}, SQLSTATE ${sqlstate}` };
  }
  const text = (name: string) => {
    const value = error instanceof Error && (error as unknown as Record<string, unknown>)[name];
    return typeof value === 'string' ? value : '';
  };
  const code = text('code');
  const sqlstate = /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : '';
  return {
    message: messageOf(error),
    detail: text('detail'),
    hint: text('hint') || (sqlstate === '42501' ? 'Connect as a superuser.' : ''),
    code: sqlstate ? `SQLSTATE ${sqlstate}` : code,
  };
}

/** The stack of an error and of what caused it. */
function stacks(error: unknown): string[] {
  if (!(error instanceof Error)) return [];
  const { stack = '', cause } = error;
  return [stack, ...(cause === undefined ? [] : ['caused by', ...stacks(cause)])];
}
