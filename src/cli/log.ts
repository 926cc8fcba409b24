import { pino } from 'pino';
import pretty from 'pino-pretty';
import type { Logger } from '../base/logger.ts';

/** Logs to stdout: one JSON line an event, or coloured lines when a person looks at a terminal. Secrets never get here. */
export function createLogger(level: string): Logger {
  const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime };
  if (!process.stdout.isTTY) return pino(options);
  return pino(options, pretty({ colorize: true, sync: true, translateTime: 'HH:MM:ss.l' }));
}
