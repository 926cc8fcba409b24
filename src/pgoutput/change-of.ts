import { ProtocolError } from '../base/bytes.ts';
import type { DeleteMessage, InsertMessage, TruncateMessage, UpdateMessage } from './message.ts';
import type { Change, Relation } from './transaction.ts';
import type { Tuple } from './tuple.ts';

/** The messages that change rows. */
export type ChangeMessage = InsertMessage | UpdateMessage | DeleteMessage | TruncateMessage;

/**
 * The change that a message tells of, joined to the relations that it names: `find` gives them as they are described by then. A
 * change of a row is the message itself, which is not to be used as one any more.
 * Throws ProtocolError when one was never described, or has other columns than a tuple of it.
 */
export function changeOf(
  message: ChangeMessage,
  find: (id: number) => Relation | undefined,
): Exclude<Change, { kind: 'message' }> {
  if (message.kind === 'truncate') {
    const { kind, relationIds, cascade, restartIdentity } = message;
    return {
      kind,
      relations: relationIds.map((id) => described(id, find)),
      cascade,
      restartIdentity,
    };
  }
  const relation = described(message.relationId, find);
  if (message.kind !== 'insert' && message.oldTuple !== null) check(relation, message.oldTuple);
  if (message.kind !== 'delete') check(relation, message.newTuple);
  message.relation = relation;
  return message as typeof message & { readonly relation: Relation };
}

function described(id: number, find: (id: number) => Relation | undefined): Relation {
  const relation = find(id);
  if (!relation) throw new ProtocolError(`change of relation ${id}, which was not described`);
  return relation;
}

/** A tuple must have a value for each column of the relation, in their order: nothing else names them. */
function check(relation: Relation, tuple: Tuple): void {
  if (tuple.columnCount === relation.columns.length) return;
  throw new ProtocolError(
    `tuple of ${tuple.columnCount} columns for ${relation.schema}.${relation.name}, which has ${relation.columns.length}`,
  );
}
