import {
  allKeywords,
  isKeyword,
  isSecret,
  type ConninfoValues,
  type KeywordName,
} from './conninfo-keywords.ts';
import { parseConninfo, scanConninfo } from './conninfo-parse.ts';
import { invalidDsn, type ConninfoToken } from './conninfo-token.ts';
import { isConninfoUri } from './conninfo-uri.ts';

/** Stands for a connection string that cannot be read, whatever may be in it. */
export const UNREADABLE_CONNINFO = '(unreadable connection string)';

/**
 * Writes a connection string in keyword/value form, which `parseConninfo` reads back exactly; keywords come in libpq's order.
 * Throws BdrError `invalid_dsn` for a keyword that libpq does not know, and for a null character, which it has no way to write.
 */
export function formatConninfo(values: Readonly<Record<string, string | undefined>>): string {
  for (const name of Object.keys(values)) {
    if (!isKeyword(name)) throw invalidDsn(`invalid connection option "${name}"`);
  }
  const known: ConninfoValues = values;
  return allKeywords()
    .flatMap(([name]) => (known[name] === undefined ? [] : [`${name}=${quoteValue(known[name])}`]))
    .join(' ');
}

function quoteValue(value: string): string {
  if (value.includes('\0')) {
    throw invalidDsn('connection info string contains a null character');
  }
  return /^[^\s'\\]+$/.test(value) ? value : `'${value.replace(/['\\]/g, '\\$&')}'`;
}

/**
 * The same connection string, in keyword/value form, with some keywords replaced or added; one that is given as undefined is
 * left out. Throws BdrError `invalid_dsn`.
 */
export function withConninfo(
  text: string,
  overrides: Readonly<Record<string, string | undefined>>,
): string {
  return formatConninfo({ ...parseConninfo(text), ...overrides });
}

/**
 * The same text with `***` for the password and every other secret. Of a text that cannot be read, or that looks as though a
 * password has ended up in another part of it, nothing is shown.
 */
export function redactConninfo(text: string): string {
  let tokens: ConninfoToken[];
  try {
    tokens = scanConninfo(text);
  } catch {
    return UNREADABLE_CONNINFO;
  }
  if (isConninfoUri(text) && hasStrayPassword(text, tokens)) return UNREADABLE_CONNINFO;
  let shown = '';
  let at = 0;
  for (const { keyword, value, start, end } of tokens) {
    if (!isSecret(keyword) && !looksLikeConninfo(keyword, value)) continue;
    shown += `${text.slice(at, start)}***`;
    at = end;
  }
  return shown + text.slice(at);
}

/** A `/` or `@` in a password that is not percent-encoded puts the rest of it into host, port or database. */
function hasStrayPassword(text: string, tokens: readonly ConninfoToken[]): boolean {
  const port = tokens.find(({ keyword }) => keyword === 'port')?.value ?? '';
  return text.split('@').length > 2 || !/^[\d,\s+]*$/.test(port) || strayAt(text);
}

/** An `@` that does not end the user and password. */
function strayAt(text: string): boolean {
  const start = text.indexOf('//') + 2;
  const at = text.indexOf('@', start);
  return at >= 0 && /[/?]/.test(text.slice(start, at));
}

/** Some programs take a connection string for a database name, so people write one there; or they mix the two forms up. */
function looksLikeConninfo(keyword: KeywordName, value: string): boolean {
  return value.includes('://') || (keyword === 'dbname' && value.includes('='));
}

/** `host:port/dbname as user`, as far as the text says so itself: for messages, never with a secret. */
export function describeText(text: string): string {
  if (redactConninfo(text) === UNREADABLE_CONNINFO) return UNREADABLE_CONNINFO;
  const values = parseConninfo(text);
  const shown = (name: KeywordName) => {
    const value = values[name];
    return value && looksLikeConninfo(name, value) ? '***' : value;
  };
  const ports = (shown('port') ?? '').split(',');
  const hosts = (shown('host') || shown('hostaddr') || 'localhost')
    .split(',')
    .map((name, index) => {
      const port = (ports.length === 1 ? ports[0] : ports[index]) || '5432';
      return name.includes(':') ? `[${name}]:${port}` : `${name || 'localhost'}:${port}`;
    });
  const service = shown('service');
  const where = service && !shown('host') ? `service ${service}` : hosts.join(',');
  const database = shown('dbname');
  const user = shown('user');
  return `${where}${database ? `/${database}` : ''}${user ? ` as ${user}` : ''}`;
}
