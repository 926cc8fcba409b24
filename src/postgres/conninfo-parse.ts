import type { ConninfoValues } from './conninfo-keywords.ts';
import { invalidDsn, keywordAndValue, type ConninfoToken } from './conninfo-token.ts';
import { isConninfoUri, scanUri } from './conninfo-uri.ts';

/**
 * Reads a connection string in either form, keyword/value or URI, as libpq's `PQconninfoParse()` does (manual, "Connection
 * Strings"). A keyword that comes twice has its last value. Values are not checked, and nothing is filled in.
 * Throws BdrError `invalid_dsn` in libpq's words.
 */
export function parseConninfo(text: string): ConninfoValues {
  const values: ConninfoValues = {};
  for (const { keyword, value } of scanConninfo(text)) values[keyword] = value;
  return values;
}

/** The same as a list, each value with its place in the text. */
export function scanConninfo(text: string): ConninfoToken[] {
  if (text.includes('\0')) throw invalidDsn('connection info string contains a null character');
  return isConninfoUri(text) ? scanUri(text) : scanPairs(text);
}

const SPACE = /[ \t\n\v\f\r]/;

/** What C's isspace() says in the C locale; the end of the text is none. */
function isSpace(text: string, at: number): boolean {
  return at < text.length && SPACE.test(text[at] as string);
}

function scanPairs(text: string): ConninfoToken[] {
  const tokens: ConninfoToken[] = [];
  const skipSpaces = (from: number) => {
    let position = from;
    while (isSpace(text, position)) position++;
    return position;
  };
  let at = skipSpaces(0);
  while (at < text.length) {
    const nameStart = at;
    while (at < text.length && text[at] !== '=' && !isSpace(text, at)) at++;
    const name = text.slice(nameStart, at);
    at = skipSpaces(at);
    if (text[at] !== '=') {
      throw invalidDsn(`missing "=" after "${name}" in connection info string`);
    }
    const start = skipSpaces(at + 1);
    const { value, end } = text[start] === "'" ? quotedValue(text, start) : bareValue(text, start);
    tokens.push({ ...keywordAndValue(name, value), start, end });
    at = skipSpaces(end);
  }
  return tokens;
}

function bareValue(text: string, start: number): { value: string; end: number } {
  let value = '';
  let at = start;
  while (at < text.length && !isSpace(text, at)) {
    if (text[at] === '\\') at++;
    value += text[at] ?? '';
    at++;
  }
  return { value, end: Math.min(at, text.length) };
}

function quotedValue(text: string, start: number): { value: string; end: number } {
  let value = '';
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === "'") return { value, end: at + 1 };
    if (text[at] === '\\') at++;
    value += text[at] ?? '';
  }
  throw invalidDsn('unterminated quoted string in connection info string');
}
