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

/** The text without the first CONCURRENTLY, or without the FINALIZE at its end. */
export async function withoutConcurrently(text: string): Promise<string> {
  const { scan } = await parser();
  const { tokens } = await scan(text);
  const keywords = tokens.filter(({ keywordKind }) => keywordKind > 0);
  const found =
    keywords.find(({ text: token }) => /^concurrently$/i.test(token)) ??
    // A table may have that name.
    keywords.findLast(({ text: token }) => /^finalize$/i.test(token));
  if (!found) return text;
  const bytes = Buffer.from(text);
  return `${bytes.toString('utf8', 0, found.start)}${bytes.toString('utf8', found.end)}`;
}

/** A GRANT or REVOKE on tables or sequences as one for each of them. */
export async function textForEachRelation(text: string): Promise<string[]> {
  const { parse, scan } = await parser();
  const { stmts = [] } = await parse(text);
  const node: Node = stmts[0]?.stmt ?? ({} as Node);
  const relations = 'GrantStmt' in node ? (node.GrantStmt.objects ?? []) : [];
  const places = relations.map((one) => ('RangeVar' in one ? (one.RangeVar.location ?? 0) : 0));
  const [first = 0, last = 0] = [places[0], places.at(-1)];
  const { tokens } = await scan(text);
  // What follows the list is TO or FROM; in it commas stand between names only.
  const end = tokens.find(
    ({ start, keywordKind, text: token }) =>
      start > last && keywordKind > 0 && /^(?:to|from)$/i.test(token),
  );
  const commas = tokens.filter(
    ({ start, text: token }) => start > first && start < last && token === ',',
  );
  const ends = [...commas.map(({ start }) => start), end?.start ?? 0];
  const bytes = Buffer.from(text);
  const [head, tail] = [bytes.toString('utf8', 0, first), bytes.toString('utf8', end?.start)];
  return places.map((start, at) => `${head}${bytes.toString('utf8', start, ends[at])} ${tail}`);
}

/** Compiled when it is needed first: most agents never see a definition change. */
const parser = () => import('libpg-query');
