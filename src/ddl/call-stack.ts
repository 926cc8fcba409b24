const STATEMENT_BEGINS = 'SQL statement "';
/** What a stack shows below a statement: who has run it. */
const STATEMENT_ENDS = /"(?=$|\n(?:PL\/|SQL ))/g;

/**
 * What the statement at the top of a call stack may be. Quotes inside it are not escaped, so that it ends somewhere where a quote ends a
 * line, and the next one tells what has run it; what ends elsewhere is seldom a whole statement.
 */
export function endsOfStatement(stack: string): string[] {
  if (!stack.startsWith(STATEMENT_BEGINS)) return [];
  return Array.from(stack.matchAll(STATEMENT_ENDS))
    .filter(({ index }) => index >= STATEMENT_BEGINS.length)
    .map(({ index }) => stack.slice(STATEMENT_BEGINS.length, index));
}

/** A statement of a function in SQL: the line that a stack shows of it, and the function's body (sql/routines/statement-commands.sql). */
export function functionStatement(
  text: string,
): { readonly body: string; readonly number: number } | undefined {
  const [line, number] = /^SQL function ".*" statement (\d+)\n/.exec(text) ?? [];
  return line === undefined ? undefined : { body: text.slice(line.length), number: Number(number) };
}
