import { recordConflicts, type ConflictRecord } from '../catalog/conflict-history.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';

/** What is kept of conflicts. It may change at any time, and counts from the next conflict on. */
export interface HistoryOptions {
  /** Whether conflicts are kept at all. */
  readonly isKept: boolean;
  /** Whether with both rows, or with the key alone. */
  readonly withRows: boolean;
}

/** So many are written at once, and so many characters of rows at most are kept for that. */
const MOST_PENDING = 1000;
const MOST_CHARACTERS = 1024 * 1024;

/** Conflicts of the local transaction that are not in the history yet: many of them are written by one statement. */
export class PendingConflicts {
  readonly #session: Session;
  readonly #localNode: () => NodeId;
  #records: ConflictRecord[] = [];
  #characters = 0;

  constructor(session: Session, localNode: () => NodeId) {
    this.#session = session;
    this.#localNode = localNode;
  }

  async add(record: ConflictRecord): Promise<void> {
    this.#records.push(record);
    this.#characters += (record.local.row?.length ?? 0) + (record.remote.row?.length ?? 0);
    if (this.#records.length >= MOST_PENDING || this.#characters >= MOST_CHARACTERS) {
      await this.write();
    }
  }

  /** Writes what is pending. Call it right before the commit, too. */
  async write(): Promise<void> {
    const records = this.#records;
    this.clear();
    if (records.length > 0) await recordConflicts(this.#session, this.#localNode(), records);
  }

  /** Forgets what is pending: the transaction was undone. */
  clear(): void {
    this.#records = [];
    this.#characters = 0;
  }
}
