import type { Node } from 'libpg-query';
import { BdrError, messageOf } from '../base/errors.ts';
import { endsOfStatement, functionStatement } from './call-stack.ts';
import { concurrentIndex, type ConcurrentIndex } from './concurrent-index.ts';
import { isCounted, kindOf } from './counted-commands.ts';
import { isGrantOnRelations } from './grants.ts';
import {
  parseStatements,
  textForEachRelation,
  withoutConcurrently,
  type ParsedStatement,
} from './parser.ts';
import { partitionDetachedConcurrently } from './detached-partition.ts';
import { readingsOf } from './statements-around.ts';

/** A command as it was captured (sql/routines/ddl.sql). */
export interface CapturedText {
  readonly tag: string;
  /** What was sent to the server, or a call stack; see bdr.bdr_queued_commands. */
  readonly text: string;
  /** Which command of the text it is, from 1 on; null where it is the only one. See bdr.bdr_queued_commands. */
  readonly position: number | null;
  readonly isContext: boolean;
}

/** A command by itself. */
export interface CommandText {
  /** What is to be run for it, one after the other. */
  readonly texts: readonly string[];
  /** Each is for one table or sequence, which may be unlogged or temporary, and then is only where the command was run. */
  readonly mayBeOfLocal: boolean;
  /** It may also be run as it is, by itself, beside what else arrives. */
  readonly beside: ConcurrentIndex | undefined;
  /** The partition, quoted as the command has it, that it detaches CONCURRENTLY: that keeps its bounds. */
  readonly detached: string | undefined;
}

/** Cuts the command out of what was captured, as it is to be run inside a transaction. Throws BdrError where that is not certain. */
export async function commandText(captured: CapturedText): Promise<CommandText> {
  const statement = await cut(captured);
  const { text, node } = statement;
  if (isGrantOnRelations(node)) {
    return {
      texts: await textForEachRelation(text),
      mayBeOfLocal: true,
      beside: undefined,
      detached: undefined,
    };
  }
  return {
    texts: [runsConcurrently(node) ? await withoutConcurrently(text) : text],
    mayBeOfLocal: false,
    beside: concurrentIndex(statement),
    detached: partitionDetachedConcurrently(node),
  };
}

async function cut(captured: CapturedText): Promise<ParsedStatement> {
  if (!captured.isContext) return ofText(captured);
  const inFunction = functionStatement(captured.text);
  return inFunction ? ofFunction(captured, inFunction) : ofStatement(captured);
}

async function ofText(captured: CapturedText): Promise<ParsedStatement> {
  const { text, position } = captured;
  const statements = await parsed(captured, text);
  const counted = statements.filter(({ node }) => isCounted(node));
  return fitting(captured, position === null ? statements[0] : counted[position - 1]);
}

async function ofFunction(
  captured: CapturedText,
  { body, number }: { readonly body: string; readonly number: number },
): Promise<ParsedStatement> {
  const statements = await parsed(captured, body);
  return fitting(captured, statements[number - 1]);
}

/** Of a statement that a function has run. Its commands are counted on when it is run again: bdr.internal_count_command(). */
async function ofStatement(captured: CapturedText): Promise<ParsedStatement> {
  const { text, position } = captured;
  const readings = (await readingsOf(endsOfStatement(text)))
    .map((statements) => statements.filter(({ node }) => isCounted(node)))
    .filter((counted) => counted.length > 0);
  const [commands = [], another] = readings;
  if (another) throw unclear(captured, 'It can be read in more than one way.');
  if (position === null && commands.length > 1) {
    throw unclear(captured, 'It holds several commands.');
  }
  return fitting(captured, commands[((position ?? 1) - 1) % commands.length]);
}

async function parsed(captured: CapturedText, text: string): Promise<ParsedStatement[]> {
  try {
    return await parseStatements(text);
  } catch (error) {
    throw unclear(captured, messageOf(error));
  }
}

function fitting(captured: CapturedText, statement: ParsedStatement | undefined): ParsedStatement {
  if (!statement || !fitsTag(statement, captured)) {
    throw unclear(captured, `Command ${captured.position ?? 1} of the text is another one.`);
  }
  return statement;
}

/** Commands begin with the first word of their tag, and hold the others in that order. */
function fitsTag({ text, node }: ParsedStatement, { tag }: CapturedText): boolean {
  if (kindOf(node) === 'SelectStmt') return tag === 'SELECT INTO';
  // CREATE LANGUAGE has become that.
  if (kindOf(node) === 'CreateExtensionStmt') return tag === 'CREATE EXTENSION';
  const bare = text.replace(/^(?:\s+|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)+/, '');
  return new RegExp(`^${tag.split(' ').join('\\b[\\s\\S]*?\\b')}\\b`, 'i').test(bare);
}

function unclear({ tag, text }: CapturedText, detail: string): BdrError {
  return new BdrError('apply_failed', {
    message: `a replicated ${tag} command could not be told from the text that it came with`,
    detail: `${detail} The text begins: ${text.slice(0, 200)}`,
    hint: 'Run the command on this node by hand with bdr.skip_ddl_replication = on, then pass it over: bdr.skip_changes_upto(...).',
  });
}

/** The server refuses these inside a transaction; what they are for is to hold users up less. FINALIZE ends what was begun so. */
function runsConcurrently(node: Node): boolean {
  if ('IndexStmt' in node) return node.IndexStmt.concurrent === true;
  if ('DropStmt' in node) return node.DropStmt.concurrent === true;
  return partitionDetachedConcurrently(node) !== undefined;
}
