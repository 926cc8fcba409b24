import type { Node } from 'libpg-query';
import { quotedRelation } from './relation-name.ts';
import type { ParsedStatement } from './parser.ts';

/** A CREATE INDEX CONCURRENTLY that may run beside what else arrives. */
export interface ConcurrentIndex {
  /** The command. */
  readonly text: string;
  /** Quoted, and in full only where the command has it so. */
  readonly table: string;
  readonly index: string;
  /** It is on columns as they are, of all rows. */
  readonly isPlain: boolean;
}

/**
 * What a command builds CONCURRENTLY. Not a unique index: rows that arrive must meet it. Nor one without a name: it would be found again
 * by nothing after a crash.
 */
export function concurrentIndex({ text, node }: ParsedStatement): ConcurrentIndex | undefined {
  if (!('IndexStmt' in node)) return undefined;
  const { concurrent, unique, idxname, relation, whereClause } = node.IndexStmt;
  if (!concurrent || unique || !idxname || !relation?.relname) return undefined;
  const { indexParams = [], indexIncludingParams = [] } = node.IndexStmt;
  return {
    text,
    table: quotedRelation(relation),
    index: idxname,
    isPlain: !whereClause && [...indexParams, ...indexIncludingParams].every(isColumn),
  };
}

function isColumn(node: Node): boolean {
  return 'IndexElem' in node && node.IndexElem.name !== undefined;
}
