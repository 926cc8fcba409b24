/** A `--` comment that begins a line outside of every quoted text. `end` is where its newline stands, or the text's end. */
export interface CommentLine {
  readonly start: number;
  readonly end: number;
}

// All that can hide a comment: quotes, dollar quotes, block comments. A tag follows the rules of identifiers, without "$".
const OPENING = /'|"|\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$|--|\/\*/g;
const IDENTIFIER_PART = /[\w$\u0080-\uffff]/;

/**
 * Finds the comment lines of a script as PostgreSQL's own lexer would: text in a function's body, in a default or in a name
 * that looks like a comment is none. `backslashEscapes` says that the script sets standard_conforming_strings off.
 */
export function commentLines(sql: string, backslashEscapes = false): CommentLine[] {
  const lines: CommentLine[] = [];
  const opening = new RegExp(OPENING);
  for (let match = opening.exec(sql); match; match = opening.exec(sql)) {
    const start = match.index;
    const token = match[0];
    const after = start + token.length;
    if (token === '--') {
      const newline = sql.indexOf('\n', after);
      const end = newline === -1 ? sql.length : newline;
      if (start === 0 || sql[start - 1] === '\n') lines.push({ start, end });
      opening.lastIndex = end;
    } else if (token === "'") {
      const escapes = backslashEscapes || isEscapeString(sql, start);
      opening.lastIndex = endOfString(sql, after, escapes);
    } else if (token === '"') {
      opening.lastIndex = orEnd(sql, sql.indexOf('"', after), 1);
    } else if (token === '/*') {
      opening.lastIndex = endOfBlockComment(sql, after);
    } else if (start > 0 && IDENTIFIER_PART.test(sql[start - 1] as string)) {
      opening.lastIndex = start + 1; // a "$" inside an identifier opens nothing
    } else {
      opening.lastIndex = orEnd(sql, sql.indexOf(token, after), token.length);
    }
  }
  return lines;
}

/** Just behind what was found, or the end of a text that ends inside its quotes. A doubled quote opens the next string. */
function orEnd(sql: string, found: number, length: number): number {
  return found === -1 ? sql.length : found + length;
}

/** Whether the quote at `at` belongs to `E'…'`. */
function isEscapeString(sql: string, at: number): boolean {
  const before = sql[at - 1];
  return (
    (before === 'E' || before === 'e') && (at < 2 || !IDENTIFIER_PART.test(sql[at - 2] as string))
  );
}

function endOfString(sql: string, from: number, escapes: boolean): number {
  if (!escapes) return orEnd(sql, sql.indexOf("'", from), 1);
  for (let at = from; at < sql.length; at += 1) {
    if (sql[at] === '\\') at += 1;
    else if (sql[at] === "'") {
      if (sql[at + 1] !== "'") return at + 1;
      at += 1; // doubled inside E'…': the string goes on, escapes and all
    }
  }
  return sql.length;
}

function endOfBlockComment(sql: string, from: number): number {
  const edge = /\/\*|\*\//g;
  edge.lastIndex = from;
  for (let depth = 1; depth > 0;) {
    const match = edge.exec(sql);
    if (!match) return sql.length;
    depth += match[0] === '/*' ? 1 : -1;
  }
  return edge.lastIndex;
}
