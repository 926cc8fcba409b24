import type { Node } from 'libpg-query';
import { quotedRelation } from './relation-name.ts';

/** The partition, quoted as the command has it, that is detached CONCURRENTLY, or was begun to be and is now by FINALIZE. */
export function partitionDetachedConcurrently(node: Node): string | undefined {
  if (!('AlterTableStmt' in node)) return undefined;
  for (const cmd of node.AlterTableStmt.cmds ?? []) {
    if (!('AlterTableCmd' in cmd)) continue;
    const { subtype, def } = cmd.AlterTableCmd;
    if (!def || !('PartitionCmd' in def) || !def.PartitionCmd.name) continue;
    const { concurrent, name } = def.PartitionCmd;
    if (concurrent === true || subtype === 'AT_DetachPartitionFinalize')
      return quotedRelation(name);
  }
  return undefined;
}
