import type { DeleteMessage, InsertMessage, UpdateMessage } from './message.ts';
import type { InsertChange, Relation, UpdateChange } from './transaction.ts';
import type { Tuple } from './tuple.ts';

/*
 * All messages and changes of rows are made here, in one shape whatever their kind. V8 compiles code for the shapes of objects that
 * have come by; when another comes it throws that code away and compiles anew, while a burst of changes waits.
 */

interface RowShape {
  readonly kind: 'insert' | 'update' | 'delete';
  readonly xid: number;
  readonly relationId: number;
  readonly relation: Relation | undefined;
  readonly oldTuple: Tuple | null | undefined;
  readonly oldTupleIsKey: boolean | undefined;
  readonly newTuple: Tuple | undefined;
}

export function insertMessage(xid: number, relationId: number, newTuple: Tuple): InsertMessage {
  return shaped('insert', xid, relationId, newTuple) as InsertMessage;
}

export function updateMessage(
  xid: number,
  relationId: number,
  oldTuple: Tuple | null,
  oldTupleIsKey: boolean,
  newTuple: Tuple,
): UpdateMessage {
  return shaped('update', xid, relationId, newTuple, oldTuple, oldTupleIsKey) as UpdateMessage;
}

export function deleteMessage(
  xid: number,
  relationId: number,
  oldTuple: Tuple,
  oldTupleIsKey: boolean,
): DeleteMessage {
  return shaped('delete', xid, relationId, undefined, oldTuple, oldTupleIsKey) as DeleteMessage;
}

/** An insert that stands for several changes of its row. */
export function insertChange(relation: Relation, newTuple: Tuple): InsertChange {
  const { id } = relation;
  return shaped('insert', 0, id, newTuple, undefined, undefined, relation) as InsertChange;
}

/** An update that stands for several changes of its row, and leaves the key alone. */
export function updateChange(relation: Relation, newTuple: Tuple): UpdateChange {
  return shaped('update', 0, relation.id, newTuple, null, false, relation) as UpdateChange;
}

function shaped(
  kind: RowShape['kind'],
  xid: number,
  relationId: number,
  newTuple: Tuple | undefined,
  oldTuple?: Tuple | null,
  oldTupleIsKey?: boolean,
  relation?: Relation,
): RowShape {
  return { kind, xid, relationId, relation, oldTuple, oldTupleIsKey, newTuple };
}
