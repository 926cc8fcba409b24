import type { Node } from 'libpg-query';
import { BdrError, messageOf } from '../base/errors.ts';
import { parseStatements, withoutConcurrently, type ParsedStatement } from './parser.ts';

/** A command as it was captured (sql/routines/ddl.sql). */
export interface CapturedText {
  readonly tag: string;
  /** What was sent to the server, or a call stack; see bdr.bdr_queued_commands. */
  readonly text: string;
  /** Which command of the text it is, from 1 on, as bdr.internal_count_command() counts; null where it is the only one. */
  readonly position: number | null;
  readonly isContext: boolean;
}

/** A command by itself. */
export interface CommandText {
  readonly text: string;
  /** It is for one table or sequence, which may be unlogged or temporary, and then is only where the command was run. */
  readonly mayBeOfLocal: boolean;
}

/** Cuts the command out of what was captured, as it is to be run inside a transaction. Throws BdrError where that is not certain. */
export async function commandText(captured: CapturedText): Promise<CommandText> {
  const { text, node } = captured.isContext ? await ofContext(captured) : await ofText(captured);
  return {
    text: runsConcurrently(node) ? await withoutConcurrently(text) : text,
    mayBeOfLocal: isGrantOnOne(node),
  };
}

/** All statements of the text in which a command has been captured. Throws BdrError where that cannot be read. */
export async function statementsAround(
  captured: Omit<CapturedText, 'position'>,
): Promise<ParsedStatement[]> {
  const unplaced = { ...captured, position: null };
  if (captured.isContext) return (await statementsOfContext(unplaced)).all;
  return await parsed(unplaced, captured.text);
}

/** Whether a statement fires event triggers. */
export function isCaptured(node: Node): boolean {
  return isCounted(node) || 'DropStmt' in node;
}

/** Event triggers are not told what GRANT is for. */
function isGrantOnOne(node: Node): boolean {
  if (!('GrantStmt' in node)) return false;
  const { targtype, objtype, objects } = node.GrantStmt;
  const isRelation = objtype === 'OBJECT_TABLE' || objtype === 'OBJECT_SEQUENCE';
  return targtype === 'ACL_TARGET_OBJECT' && isRelation && objects?.length === 1;
}

async function ofText(captured: CapturedText): Promise<ParsedStatement> {
  const { text, position } = captured;
  const statements = await parsed(captured, text);
  const counted = statements.filter(({ node }) => isCounted(node));
  const statement = position === null ? statements[0] : counted[position - 1];
  if (!statement || !fitsTag(statement, captured)) {
    throw unclear(captured, `Command ${position ?? 1} of the text is another one.`);
  }
  return statement;
}

async function parsed(captured: CapturedText, text: string): Promise<ParsedStatement[]> {
  try {
    return await parseStatements(text);
  } catch (error) {
    throw unclear(captured, messageOf(error));
  }
}

const STATEMENT_BEGINS = 'SQL statement "';
/** What a stack shows below a statement: who ran it. */
const STATEMENT_ENDS = /"(?:\n|$)/g;

async function ofContext(captured: CapturedText): Promise<ParsedStatement> {
  const { fitting } = await statementsOfContext(captured);
  // EXECUTE may run several: which of them it was is not known, unless they do not look alike.
  if (fitting.length === 1 && fitting[0]) return fitting[0];
  throw unclear(captured, 'EXECUTE has run several commands at once.');
}

/**
 * What was run at the top of a call stack. Quotes inside it are not escaped, so that it ends somewhere where a quote ends a line: at
 * the first of these places up to which it is a whole text, with a statement of that tag.
 */
async function statementsOfContext(
  captured: CapturedText,
): Promise<{ readonly all: ParsedStatement[]; readonly fitting: ParsedStatement[] }> {
  const { text } = captured;
  for (const { index } of text.matchAll(STATEMENT_ENDS)) {
    if (index < STATEMENT_BEGINS.length) continue;
    const candidate = text.slice(STATEMENT_BEGINS.length, index);
    const all = await parseStatements(candidate).catch(() => []);
    const fitting = all.filter((one) => fitsTag(one, captured));
    if (fitting.length > 0) return { all, fitting };
  }
  throw unclear(captured, 'The call stack holds no such command.');
}

/** Tags begin with the words that commands begin with. */
function fitsTag({ text, node }: ParsedStatement, { tag }: CapturedText): boolean {
  if (kindOf(node) === 'SelectStmt') return tag === 'SELECT INTO';
  const bare = text.replace(/^(?:\s+|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)+/, '');
  return bare.slice(0, bare.search(/\W|$/)).toUpperCase() === tag.split(' ')[0];
}

function unclear({ tag, text }: CapturedText, detail: string): BdrError {
  return new BdrError('apply_failed', {
    message: `a replicated ${tag} command could not be told from the text that it came with`,
    detail: `${detail} The text begins: ${text.slice(0, 200)}`,
    hint: 'Run the command on this node by hand with bdr.skip_ddl_replication = on, then pass it over: bdr.skip_changes_upto(...).',
  });
}

function kindOf(node: Node): string {
  return Object.keys(node)[0] ?? '';
}

/** The server refuses these inside a transaction; what they are for is to hold users up less. */
function runsConcurrently(node: Node): boolean {
  if ('IndexStmt' in node) return node.IndexStmt.concurrent === true;
  if ('DropStmt' in node) return node.DropStmt.concurrent === true;
  if (!('AlterTableStmt' in node)) return false;
  return (node.AlterTableStmt.cmds ?? []).some(
    (cmd) =>
      'AlterTableCmd' in cmd &&
      cmd.AlterTableCmd.def !== undefined &&
      'PartitionCmd' in cmd.AlterTableCmd.def &&
      cmd.AlterTableCmd.def.PartitionCmd.concurrent === true,
  );
}

/** Manual: "Event Trigger Firing Matrix"; what else is not counted: bdr.internal_count_command(). */
function isCounted(node: Node): boolean {
  if ('SelectStmt' in node) return node.SelectStmt.intoClause !== undefined;
  const objectType = sharedObjectType(node);
  if (objectType !== undefined && SHARED_OBJECTS.has(objectType)) return false;
  return !UNCOUNTED_STATEMENTS.has(kindOf(node));
}

/** Of statements that are for several kinds of objects. */
function sharedObjectType(node: Node): string | undefined {
  if ('GrantStmt' in node) return node.GrantStmt.objtype;
  if ('CommentStmt' in node) return node.CommentStmt.objtype;
  if ('SecLabelStmt' in node) return node.SecLabelStmt.objtype;
  if ('RenameStmt' in node) return node.RenameStmt.renameType;
  if ('AlterOwnerStmt' in node) return node.AlterOwnerStmt.objectType;
  return undefined;
}

/** Objects of the whole server, and event triggers themselves. */
const SHARED_OBJECTS: ReadonlySet<string> = new Set([
  'OBJECT_DATABASE',
  'OBJECT_EVENT_TRIGGER',
  'OBJECT_PARAMETER_ACL',
  'OBJECT_ROLE',
  'OBJECT_TABLESPACE',
]);

const UNCOUNTED_STATEMENTS: ReadonlySet<string> = new Set([
  'DropStmt',
  'DropdbStmt',
  'InsertStmt',
  'UpdateStmt',
  'DeleteStmt',
  'MergeStmt',
  'TruncateStmt',
  'CopyStmt',
  'TransactionStmt',
  'VariableSetStmt',
  'VariableShowStmt',
  'ExplainStmt',
  'PrepareStmt',
  'DeallocateStmt',
  'ExecuteStmt',
  'DoStmt',
  'CallStmt',
  'DeclareCursorStmt',
  'FetchStmt',
  'ClosePortalStmt',
  'ListenStmt',
  'UnlistenStmt',
  'NotifyStmt',
  'LockStmt',
  'LoadStmt',
  'DiscardStmt',
  'CheckPointStmt',
  'ConstraintsSetStmt',
  'VacuumStmt',
  'ClusterStmt',
  'ReindexStmt',
  'ReassignOwnedStmt',
  'CreateRoleStmt',
  'AlterRoleStmt',
  'AlterRoleSetStmt',
  'DropRoleStmt',
  'GrantRoleStmt',
  'CreatedbStmt',
  'AlterDatabaseStmt',
  'AlterDatabaseRefreshCollStmt',
  'AlterDatabaseSetStmt',
  'CreateTableSpaceStmt',
  'AlterTableSpaceOptionsStmt',
  'AlterTableMoveAllStmt',
  'DropTableSpaceStmt',
  'AlterSystemStmt',
  'CreateEventTrigStmt',
  'AlterEventTrigStmt',
]);
