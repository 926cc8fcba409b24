import type { Logger } from '../base/logger.ts';

/** One call of a logger in another thread. */
export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

/** A logger that hands its lines to `send`: one thread alone writes the log. Fields must be plain data. */
export function createThreadLog(
  send: (line: LogLine) => void,
  common: Record<string, unknown> = {},
): Logger {
  const at = (level: LogLine['level']) => (fields: Record<string, unknown>, message: string) =>
    send({ level, fields: { ...common, ...fields }, message });
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => createThreadLog(send, { ...common, ...fields }),
  };
}

/** Writes a line that came from another thread. */
export function writeLine(log: Logger, { level, fields, message }: LogLine): void {
  log[level](fields, message);
}
