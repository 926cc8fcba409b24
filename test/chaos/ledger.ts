/** A row that a client wrote, and the row that it overwrote, as the server returned them. */
export interface Write {
  readonly kind: 'write';
  readonly table: string;
  /** The row that was there: null where one was inserted. */
  readonly before: { readonly key: string; readonly tag: string } | null;
  /** The row that is there now: null where one was deleted. Its key differs from the other's where the key was changed. */
  readonly after: { readonly key: string; readonly tag: string; readonly image: string } | null;
}

export interface Truncate {
  readonly kind: 'truncate';
  readonly table: string;
}

/** What a client did in one transaction. */
export interface ClientTransaction {
  /** Its entry in the journal, of which it wrote so many parts. */
  readonly entry: string;
  readonly parts: number;
  /** Index of the node. */
  readonly node: number;
  readonly changes: readonly (Write | Truncate)[];
}

/** Such a transaction, and whether the client was told that it is committed; else its connection broke in COMMIT. */
export interface LedgerEntry extends ClientTransaction {
  readonly isTold: boolean;
}

/** What clients were told by their servers. */
export class Ledger {
  readonly entries: LedgerEntry[] = [];
  /** Statements that failed, by SQLSTATE; transactions that broke with their connection, as `connection lost`. */
  readonly refused = new Map<string, number>();
  writes = 0;
  unknown = 0;

  committed(transaction: ClientTransaction): void {
    this.writes += transaction.changes.length + transaction.parts;
    this.entries.push({ ...transaction, isTold: true });
  }

  /** The connection broke before the answer to COMMIT. */
  unsure(transaction: ClientTransaction): void {
    this.unknown += 1;
    this.entries.push({ ...transaction, isTold: false });
  }

  /** Failed before COMMIT was sent: certainly rolled back. */
  refuse(reason: string): void {
    this.refused.set(reason, (this.refused.get(reason) ?? 0) + 1);
  }
}
