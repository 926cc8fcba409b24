export interface FoundRow {
  readonly tag: string;
  readonly image: string;
  /** The beginning of the row, for people. */
  readonly text: string;
}

/** The parts of one transaction that are in the journal. */
export interface JournalEntry {
  readonly parts: number;
  readonly differentParts: number;
  /** Commit time in microseconds since 1970; on the node that wrote it that of the transaction. 0 where there is no record of it. */
  readonly committedAt: bigint;
}

/** One conflict as a node's history has it; tags of the rows, where they have one. */
export interface HistoryEntry {
  readonly table: string;
  readonly key: string | null;
  readonly localTag: string | null;
  readonly remoteTag: string | null;
  readonly text: string;
}

/** All that is compared of one node. */
export interface NodeState {
  readonly name: string;
  /** Decides between versions of equal time. */
  readonly number: number;
  /** Rows by table and key. */
  readonly tables: ReadonlyMap<string, ReadonlyMap<string, FoundRow>>;
  readonly journal: ReadonlyMap<string, JournalEntry>;
  readonly history: readonly HistoryEntry[];
}
