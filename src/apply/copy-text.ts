import type { Tuple } from '../pgoutput/tuple.ts';

const TAB = 0x09;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const BACKSLASH = 0x5c;
const LETTER_N = 0x4e;

/** What follows the backslash for a byte that may not stand for itself; 0 for all others. */
const ESCAPED = new Uint8Array(256);
ESCAPED[TAB] = 0x74;
ESCAPED[NEWLINE] = 0x6e;
ESCAPED[RETURN] = 0x72;
ESCAPED[BACKSLASH] = BACKSLASH;

/** Columns of rows as COPY's text format has them (manual: COPY, "Text Format"). Values must have come as text. */
export function copyText(rows: readonly Tuple[], columns: readonly number[]): Buffer {
  let most = 0;
  for (const { start, end } of rows) most += 2 * (end - start) + 2 * columns.length + 1;
  const text = Buffer.allocUnsafe(most);
  let at = 0;
  for (const row of rows) {
    const { buffer } = row;
    for (const column of columns) {
      const from = row.offset(column);
      if (from < 0) {
        text[at++] = BACKSLASH;
        text[at++] = LETTER_N;
      } else {
        const end = from + row.length(column);
        for (let i = from; i < end; i++) {
          const byte = buffer[i] as number;
          const letter = ESCAPED[byte] as number;
          if (letter === 0) text[at++] = byte;
          else {
            text[at++] = BACKSLASH;
            text[at++] = letter;
          }
        }
      }
      text[at++] = TAB;
    }
    // The last separator is the end of the line.
    text[at - 1] = NEWLINE;
  }
  return text.subarray(0, at);
}
