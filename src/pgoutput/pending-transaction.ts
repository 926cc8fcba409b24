import type { RelationScope } from './relation-scope.ts';
import type { Change, RemoteOrigin } from './transaction.ts';

/** Changes that follow each other and were made by the same transaction or subtransaction. */
interface Run {
  readonly xid: number;
  changes: Change[];
  bytes: number;
}

/**
 * A transaction that has not ended yet. Its changes are kept in runs, so that an aborted subtransaction, whose changes lie
 * between those of others, is dropped without looking at what stays.
 */
export class PendingTransaction {
  readonly xid: number;
  readonly relations: RelationScope;
  origin: RemoteOrigin | null = null;
  #bytes = 0;
  readonly #runs: Run[] = [];
  #last: Run | undefined;
  /** The runs of each subtransaction of a streamed transaction. */
  readonly #runsOf = new Map<number, Run[]>();

  constructor(xid: number, relations: RelationScope) {
    this.xid = xid;
    this.relations = relations;
  }

  /** About how much memory the changes hold. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Adds a change made by the subtransaction `xid`, or by this transaction itself: then `xid` is its own, or 0. */
  add(xid: number, change: Change, bytes: number): void {
    let run = this.#last;
    if (run === undefined || run.xid !== xid) run = this.#startRun(xid);
    run.changes.push(change);
    run.bytes += bytes;
    this.#bytes += bytes;
  }

  /** Forgets what a subtransaction did. It may have done nothing: not every subtransaction writes to a published table. */
  abortSubtransaction(xid: number): void {
    for (const run of this.#runsOf.get(xid) ?? []) {
      this.#bytes -= run.bytes;
      run.bytes = 0;
      run.changes = [];
    }
    this.#runsOf.delete(xid);
    // Subtransactions nest, so the aborted runs stand at the end, but for those between them that went before.
    while (this.#runs.at(-1)?.changes.length === 0) this.#runs.pop();
    this.#last = this.#runs.at(-1);
  }

  /** All changes, in the order in which they arrived. */
  changes(): readonly Change[] {
    const [only] = this.#runs;
    if (only !== undefined && this.#runs.length === 1) return only.changes;
    const all: Change[] = [];
    for (const run of this.#runs) for (const change of run.changes) all.push(change);
    return all;
  }

  #startRun(xid: number): Run {
    const run: Run = { xid, changes: [], bytes: 0 };
    this.#runs.push(run);
    this.#last = run;
    if (xid !== 0 && xid !== this.xid) {
      const runs = this.#runsOf.get(xid);
      if (runs === undefined) this.#runsOf.set(xid, [run]);
      else runs.push(run);
    }
    return run;
  }
}
