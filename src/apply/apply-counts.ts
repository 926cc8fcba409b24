import type { ChangeKind } from '../conflict/decide.ts';

/** What was done, for pg_stat_bdr. */
export interface ApplyCounts {
  inserts: number;
  insertConflicts: number;
  updates: number;
  updateConflicts: number;
  deletes: number;
  deleteConflicts: number;
}

const CHANGES = { insert: 'inserts', update: 'updates', delete: 'deletes' } as const;
const CONFLICTS = {
  insert: 'insertConflicts',
  update: 'updateConflicts',
  delete: 'deleteConflicts',
} as const;

/** Counts within one transaction: a transaction that is done twice, because of a lock, counts once. */
export class TransactionCounts {
  readonly #total: ApplyCounts;
  readonly #pending = noCounts();

  constructor(total: ApplyCounts) {
    this.#total = total;
  }

  begin(): void {
    Object.assign(this.#pending, noCounts());
  }

  change(kind: ChangeKind): void {
    this.#pending[CHANGES[kind]] += 1;
  }

  conflict(kind: ChangeKind): void {
    this.#pending[CONFLICTS[kind]] += 1;
  }

  commit(): void {
    for (const name of Object.keys(this.#pending) as (keyof ApplyCounts)[]) {
      this.#total[name] += this.#pending[name];
    }
    this.begin();
  }
}

/** Counts at zero. */
export function noCounts(): ApplyCounts {
  return {
    inserts: 0,
    insertConflicts: 0,
    updates: 0,
    updateConflicts: 0,
    deletes: 0,
    deleteConflicts: 0,
  };
}
