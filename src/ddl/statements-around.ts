import type { Node } from 'libpg-query';
import { endsOfStatement, functionStatement } from './call-stack.ts';
import { isCounted } from './counted-commands.ts';
import { parseStatements, type ParsedStatement } from './parser.ts';

/**
 * All statements of what a command is part of: of the text that was sent, or of what a function runs at the top of a call stack, in
 * any way in which that can be read. None where the server has read what the parser cannot: its grammar is newer, or older.
 */
export async function statementsAround(text: string, isContext: boolean): Promise<Node[]> {
  const readings = await readingsOf(textsOf(text, isContext));
  return readings.flat().map(({ node }) => node);
}

/** The statements of each of some texts; none of one that cannot be read. */
export async function readingsOf(texts: readonly string[]): Promise<ParsedStatement[][]> {
  return Promise.all(texts.map((text) => parseStatements(text).catch(() => [])));
}

function textsOf(text: string, isContext: boolean): string[] {
  if (!isContext) return [text];
  const inFunction = functionStatement(text);
  return inFunction ? [inFunction.body] : endsOfStatement(text);
}

/** Whether a statement fires event triggers. */
export function firesEventTriggers(node: Node): boolean {
  return isCounted(node) || 'DropStmt' in node;
}
