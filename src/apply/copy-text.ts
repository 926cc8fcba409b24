import { viewOf, Views } from '../base/copy-bytes.ts';
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

/**
 * Columns of rows as COPY's text format has them (manual: COPY, "Text Format"). Values must have come as text. Rows of one buffer
 * should stand side by side.
 */
export function copyText(rows: readonly Tuple[], columns: readonly number[]): Buffer {
  let most = 0;
  for (const { start, end } of rows) most += 2 * (end - start) + 2 * columns.length + 1;
  const text = Buffer.allocUnsafe(most);
  const target = viewOf(text);
  const views = new Views();
  let at = 0;
  for (const row of rows) {
    const source = views.of(row.buffer);
    for (const column of columns) {
      const from = row.offset(column);
      if (from < 0) {
        text[at++] = BACKSLASH;
        text[at++] = LETTER_N;
      } else at = escaped(source, from, from + row.length(column), target, at);
      text[at++] = TAB;
    }
    // The last separator is the end of the line.
    text[at - 1] = NEWLINE;
  }
  return text.subarray(0, at);
}

/** Copies a value with its escapes; returns where it ends. */
function escaped(source: DataView, from: number, to: number, target: DataView, at: number): number {
  let next = at;
  for (let i = from; i < to;) {
    if (to - i >= 4) {
      const word = source.getInt32(i);
      if (!mayHoldEscaped(word)) {
        target.setInt32(next, word);
        i += 4;
        next += 4;
        continue;
      }
    }
    const byte = source.getUint8(i++);
    const letter = ESCAPED[byte] as number;
    if (letter !== 0) target.setUint8(next++, BACKSLASH);
    target.setUint8(next++, letter === 0 ? byte : letter);
  }
  return next;
}

/**
 * Whether any of four bytes is less than 14, as all control characters are that have an escape, or a backslash. In either
 * subtraction a byte's highest bit becomes set where it was not: H. Warren, Hacker's Delight, 6-1, "Find First 0-Byte".
 */
function mayHoldEscaped(word: number): boolean {
  const low = word - 0x0e0e0e0e;
  const backslash = (word ^ 0x5c5c5c5c) - 0x01010101;
  return ((low | backslash) & ~word & 0x80808080) !== 0;
}
