import type { Node } from 'libpg-query';
import { endsOfStatement, functionStatement } from './call-stack.ts';
import { isCounted } from './counted-commands.ts';
import { parseStatements } from './parser.ts';

/**
 * All statements of what a command is part of: of the text that was sent, or of what a function runs at the top of a call stack, in
 * any way in which that can be read. None where the server has read what the parser cannot: its grammar is newer, or older.
 */
export async function statementsAround(text: string, isContext: boolean): Promise<Node[]> {
  const readings = await Promise.all(
    textsOf(text, isContext).map((one) => parseStatements(one).catch(() => [])),
  );
  return readings.flat().map(({ node }) => node);
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
