import { isKeyword } from './conninfo-keywords.ts';
import { invalidDsn, keywordAndValue, type ConninfoToken } from './conninfo-token.ts';

const SCHEMES = ['postgresql://', 'postgres://'];

/** Whether a connection string has the URI form. As in libpq, the scheme is in lower case and nothing stands before it. */
export function isConninfoUri(text: string): boolean {
  return SCHEMES.some((scheme) => text.startsWith(scheme));
}

/**
 * Reads `postgresql://[user[:password]@][host][:port][,…][/dbname][?keyword=value[&…]]` (manual, "Connection URIs"). Not a URL
 * parser, because libpq's is none: it takes several hosts, a socket directory for a host, and gives `#` no meaning.
 * Throws BdrError `invalid_dsn` in libpq's words, but without the password.
 */
export function scanUri(text: string): ConninfoToken[] {
  const tokens: ConninfoToken[] = [];
  const add = (keyword: ConninfoToken['keyword'], start: number, end: number) => {
    if (start === end) return;
    const raw = text.slice(start, end);
    const value = decode(raw, keyword === 'password' ? '***' : raw);
    tokens.push({ keyword, value, start, end });
  };

  let at = text.indexOf('//') + 2;
  const userEnd = endOf(text, at, '@/');
  if (text[userEnd] === '@') {
    const nameEnd = endOf(text, at, ':@');
    add('user', at, nameEnd);
    if (nameEnd < userEnd) add('password', nameEnd + 1, userEnd);
    at = userEnd + 1;
  }

  const hostsStart = at;
  const hosts: string[] = [];
  const ports: string[] = [];
  do {
    const host =
      text[at] === '[' ? scanAddress(text, at) : { start: at, end: endOf(text, at, ':/?,') };
    hosts.push(text.slice(host.start, host.end));
    at = text[at] === '[' ? host.end + 1 : host.end;
    const portStart = at + 1;
    if (text[at] === ':') at = endOf(text, portStart, '/?,');
    ports.push(text.slice(portStart, at));
  } while (text[at++] === ',');
  at--;
  // As in libpq the list is put together first and decoded then.
  for (const [keyword, list] of [
    ['host', hosts.join(',')],
    ['port', ports.join(',')],
  ] as const) {
    if (list !== '')
      tokens.push({ keyword, value: decode(list, list), start: hostsStart, end: at });
  }

  if (text[at] === '/') {
    const nameEnd = endOf(text, at, '?');
    add('dbname', at + 1, nameEnd);
    at = nameEnd;
  }
  return text[at] === '?' ? [...tokens, ...scanParameters(text, at + 1)] : tokens;
}

/** Position of the first of these characters, or the end of the text. */
function endOf(text: string, from: number, stops: string): number {
  let at = from;
  while (at < text.length && !stops.includes(text[at] as string)) at++;
  return at;
}

/** An IPv6 address in brackets, which begin at `at`. */
function scanAddress(text: string, at: number): { start: number; end: number } {
  const start = at + 1;
  const end = text.indexOf(']', start);
  if (end < 0) {
    throw invalidDsn(
      `end of string reached when looking for matching "]" in IPv6 host address in URI: "${withoutUser(text)}"`,
    );
  }
  if (end === start) {
    throw invalidDsn(`IPv6 host address may not be empty in URI: "${withoutUser(text)}"`);
  }
  const next = text[end + 1];
  if (next !== undefined && !':/?,'.includes(next)) {
    throw invalidDsn(
      `unexpected character "${next}" at position ${end + 2} in URI (expected ":" or "/"): "${withoutUser(text)}"`,
    );
  }
  return { start, end };
}

/** The URI for messages: no user, password or parameters. */
function withoutUser(text: string): string {
  const start = text.indexOf('//') + 2;
  const userEnd = text.lastIndexOf('@');
  const shown = userEnd < start ? text.slice(start) : `***${text.slice(userEnd)}`;
  return text.slice(0, start) + shown.slice(0, endOf(shown, 0, '?'));
}

function scanParameters(text: string, from: number): ConninfoToken[] {
  const tokens: ConninfoToken[] = [];
  for (let at = from; at < text.length;) {
    const end = endOf(text, at, '&');
    const [name = '', raw, more] = text.slice(at, end).split('=');
    if (raw === undefined) {
      throw invalidDsn(`missing key/value separator "=" in URI query parameter: "${name}"`);
    }
    if (more !== undefined) {
      throw invalidDsn(`extra key/value separator "=" in URI query parameter: "${name}"`);
    }
    const start = at + name.length + 1;
    const decoded = decode(name, name);
    const value = decode(raw, decoded.includes('pass') ? '***' : raw);
    tokens.push({ ...parameter(decoded, value), start, end });
    at = end + 1;
  }
  return tokens;
}

/** `ssl=true` is there for JDBC's URIs; libpq has no keyword of that name. */
function parameter(name: string, value: string): Pick<ConninfoToken, 'keyword' | 'value'> {
  if (name === 'ssl' && value === 'true') return { keyword: 'sslmode', value: 'require' };
  if (!isKeyword(name) && name !== 'requiressl') {
    throw invalidDsn(`invalid URI query parameter: "${name}"`);
  }
  return keywordAndValue(name, value);
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Undoes percent-encoding; `shown` stands for the text in messages. Spaces around it do not count, within it are refused. */
function decode(raw: string, shown: string): string {
  const text = raw.replace(/^ +| +$/g, '');
  if (text.includes(' ')) {
    throw invalidDsn(
      `unexpected spaces found in "${shown}", use percent-encoded spaces (%20) instead`,
    );
  }
  if (/%(?![0-9A-Fa-f]{2})/.test(text)) {
    throw invalidDsn(`invalid percent-encoded token: "${shown}"`);
  }
  if (text.includes('%00')) {
    throw invalidDsn(`forbidden value %00 in percent-encoded value: "${shown}"`);
  }
  return text.replace(/(?:%[0-9A-Fa-f]{2})+/g, (escapes) => {
    try {
      return UTF8.decode(Buffer.from(escapes.replaceAll('%', ''), 'hex'));
    } catch {
      throw invalidDsn(`percent-encoded value is not valid UTF-8: "${shown}"`);
    }
  });
}
