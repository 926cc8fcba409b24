/** Something that is not as it must be. */
export interface Finding {
  readonly kind: FindingKind;
  readonly text: string;
  /** The row that it is about; and the transaction, where that is not the last to write there. */
  readonly row?: { readonly table: string; readonly key: string; readonly entry?: string };
}

/** What each kind means: docs/concepts/chaos.md. */
export type FindingKind =
  | 'nodes differ'
  | 'a told write is gone'
  | 'a write is not the winner'
  | 'a loser is nowhere'
  | 'the journal is wrong'
  | 'the group does not settle'
  | 'an agent is at fault'
  | 'a client met an error';
