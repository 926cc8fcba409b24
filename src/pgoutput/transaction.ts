import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { Tuple } from './tuple.ts';

/** How a table's old rows are told apart: `pg_class.relreplident`. */
export type ReplicaIdentity = 'default' | 'nothing' | 'full' | 'index';

/** One published column of a table, in the order in which tuples hold their values. */
export interface RelationColumn {
  readonly name: string;
  /** On the provider: types of users have other OIDs elsewhere. */
  readonly typeOid: number;
  readonly typmod: number;
  /** Part of the replica identity. With replica identity full, every column is. */
  readonly isKey: boolean;
}

/** A table as the wire describes it; manual: "Logical Replication Message Formats", Relation. */
export interface Relation {
  /** The table's OID on the provider. */
  readonly id: number;
  readonly schema: string;
  readonly name: string;
  readonly replicaIdentity: ReplicaIdentity;
  readonly columns: readonly RelationColumn[];
}

export interface InsertChange {
  readonly kind: 'insert';
  readonly relation: Relation;
  readonly newTuple: Tuple;
}

/** The value of a column by its name, as text; null where it is, or where there is no such column. */
export function textOf({ relation, newTuple }: InsertChange, name: string): string | null {
  const position = relation.columns.findIndex((column) => column.name === name);
  return position < 0 ? null : newTuple.text(position);
}

export interface UpdateChange {
  readonly kind: 'update';
  readonly relation: Relation;
  /** Sent only when the key changed, or with replica identity full; otherwise the key is in `newTuple`. */
  readonly oldTuple: Tuple | null;
  /** Only the key columns of `oldTuple` have values; false also where there is no `oldTuple`. */
  readonly oldTupleIsKey: boolean;
  readonly newTuple: Tuple;
}

export interface DeleteChange {
  readonly kind: 'delete';
  readonly relation: Relation;
  readonly oldTuple: Tuple;
  /** Only the key columns of `oldTuple` have values. */
  readonly oldTupleIsKey: boolean;
}

export interface TruncateChange {
  readonly kind: 'truncate';
  readonly relations: readonly Relation[];
  readonly cascade: boolean;
  readonly restartIdentity: boolean;
}

/** What `pg_logical_emit_message` wrote. A transactional one is a change like any other. */
export interface LogicalMessage {
  readonly kind: 'message';
  readonly transactional: boolean;
  readonly lsn: Lsn;
  readonly prefix: string;
  readonly content: Buffer;
}

/** A change of rows. */
export type RowChange = InsertChange | UpdateChange | DeleteChange;

/** One step of a transaction, with the relation as it was described when the change arrived. */
export type Change = RowChange | TruncateChange | LogicalMessage;

export function isRowChange(change: Change): change is RowChange {
  return change.kind !== 'message' && change.kind !== 'truncate';
}

/** How many bytes of rows, names or content a change had on the wire. */
export function bytesOf(change: Change): number {
  switch (change.kind) {
    case 'insert':
      return sizeOf(change.newTuple);
    case 'update':
      return sizeOf(change.newTuple) + (change.oldTuple ? sizeOf(change.oldTuple) : 0);
    case 'delete':
      return sizeOf(change.oldTuple);
    case 'truncate':
      return change.relations.length * RELATION_BYTES;
    case 'message':
      return change.prefix.length + change.content.length;
  }
}

const RELATION_BYTES = 4;

function sizeOf({ start, end }: Tuple): number {
  return end - start;
}

/** Where a transaction was first made, if not on the provider: the provider's name for it and the commit's position there. */
export interface RemoteOrigin {
  readonly name: string;
  readonly lsn: Lsn;
}

/** Everything a transaction of the provider did, in order; complete, committed there. */
export interface RemoteTransaction {
  readonly xid: number;
  /** Where the commit record begins. */
  readonly commitLsn: Lsn;
  /** Where the commit record ends: the position to go on from, and to acknowledge. */
  readonly endLsn: Lsn;
  readonly commitTime: PgTime;
  readonly origin: RemoteOrigin | null;
  readonly changes: readonly Change[];
  /** About how much memory the changes hold. */
  readonly bytes: number;
}
