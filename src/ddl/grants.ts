import type { Node } from 'libpg-query';

/** Whether a statement gives or takes rights on tables or sequences that it names: event triggers are not told which. */
export function isGrantOnRelations(node: Node): boolean {
  if (!('GrantStmt' in node)) return false;
  const { targtype, objtype } = node.GrantStmt;
  const isRelation = objtype === 'OBJECT_TABLE' || objtype === 'OBJECT_SEQUENCE';
  return targtype === 'ACL_TARGET_OBJECT' && isRelation;
}
