import type { Node } from 'libpg-query';

/** One statement of a text. */
export interface ParsedStatement {
  readonly text: string;
  /** As PostgreSQL's parser sees it. */
  readonly node: Node;
}

/**
 * Splits a text as the server does, by its own grammar. Newer than some servers' that is, and reads what these read. Throws Error with
 * the parser's words.
 */
export async function parseStatements(text: string): Promise<ParsedStatement[]> {
  const { parse } = await parser();
  const { stmts = [] } = await parse(text);
  // Its places are counted in bytes.
  const bytes = Buffer.from(text);
  return stmts.map(({ stmt, stmt_location: start = 0, stmt_len: length }) => ({
    text: bytes
      .toString('utf8', start, length === undefined ? bytes.length : start + length)
      .trim(),
    node: stmt ?? ({} as Node),
  }));
}

/** The text without the first CONCURRENTLY that is a keyword. */
export async function withoutConcurrently(text: string): Promise<string> {
  const { scan } = await parser();
  const { tokens } = await scan(text);
  const found = tokens.find(
    ({ keywordKind, text: token }) => keywordKind > 0 && token.toLowerCase() === 'concurrently',
  );
  if (!found) return text;
  const bytes = Buffer.from(text);
  return `${bytes.toString('utf8', 0, found.start)}${bytes.toString('utf8', found.end)}`;
}

/** Compiled when it is needed first: most agents never see a definition change. */
const parser = () => import('libpg-query');
