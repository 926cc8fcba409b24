import type { Node, SelectStmt } from 'libpg-query';

/**
 * Whether a statement is counted among the commands of its text. Manual: "Event Trigger Firing Matrix"; what else is not counted:
 * bdr.internal_begin_command().
 */
export function isCounted(node: Node): boolean {
  if ('SelectStmt' in node) return makesTable(node.SelectStmt);
  const objectType = sharedObjectType(node);
  if (objectType !== undefined && SHARED_OBJECTS.has(objectType)) return false;
  return !UNCOUNTED_STATEMENTS.has(kindOf(node));
}

/** SELECT INTO: of a UNION and the like the first SELECT says so. */
function makesTable(select: SelectStmt): boolean {
  return select.intoClause !== undefined || (select.larg !== undefined && makesTable(select.larg));
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
  'DropTableSpaceStmt',
  'AlterSystemStmt',
  'CreateEventTrigStmt',
  'AlterEventTrigStmt',
]);

/** What kind of statement a node is. */
export function kindOf(node: Node): string {
  return Object.keys(node)[0] ?? '';
}
