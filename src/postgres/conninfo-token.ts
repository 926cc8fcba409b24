import { BdrError } from '../base/errors.ts';
import { isKeyword, type KeywordName } from './conninfo-keywords.ts';

/** A keyword's value in a connection string, and where it is written there. */
export interface ConninfoToken {
  readonly keyword: KeywordName;
  readonly value: string;
  readonly start: number;
  readonly end: number;
}

/** The error for a connection string that cannot be used. */
export function invalidDsn(message: string, hint?: string): BdrError {
  return new BdrError('invalid_dsn', { message, hint });
}

/**
 * The keyword by its name. Throws BdrError `invalid_dsn` for a name that libpq does not know. `requiressl` is what sslmode was
 * in old releases; libpq still takes it.
 */
export function keywordAndValue(
  name: string,
  value: string,
): { keyword: KeywordName; value: string } {
  if (name === 'requiressl') {
    return { keyword: 'sslmode', value: value.startsWith('1') ? 'require' : 'prefer' };
  }
  if (!isKeyword(name)) throw invalidDsn(`invalid connection option "${name}"`);
  return { keyword: name, value };
}
