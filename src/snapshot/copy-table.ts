import type { QualifiedName } from '../base/names.ts';

/** A table of the source. */
export interface ListedTable {
  readonly name: QualifiedName;
  /** Columns with a stored value of their own. */
  readonly columns: readonly string[];
  /** Columns that identify a row to peers: of the replica identity's index, else of the primary key; empty when there is none. */
  readonly key: readonly string[];
  /** The binary format of some types holds OIDs that differ between servers: those tables travel as text. */
  readonly format: 'binary' | 'text';
  /** The condition that rows must meet to be copied, if not all of them are. */
  readonly filter: string | undefined;
  /** The planner's guess, for progress. */
  readonly rows: number;
  readonly bytes: number;
  /** Of the table itself, where its rows can be told apart by block; else 0. */
  readonly blocks: number;
}

/** One that is to be copied. */
export interface CopyTable extends ListedTable {
  /**
   * A query of it could run code of its owner on the source, who is no superuser: it is read by a COPY of the table itself, for
   * which nothing is planned, and in one piece.
   */
  readonly isReadWhole: boolean;
}
