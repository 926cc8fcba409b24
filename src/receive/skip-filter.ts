import type { Lsn } from '../base/lsn.ts';
import { displayName } from '../base/names.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { Change, Relation } from '../pgoutput/transaction.ts';
import type { Begun, Received } from './receiver.ts';

/** A transaction that is not to be applied: what there is to tell of it. */
export interface Skipped {
  readonly kind: 'skipped';
  readonly xid: number;
  readonly commitLsn: Lsn;
  readonly endLsn: Lsn;
  readonly commitTime: PgTime;
  /** What it has changed; null where the provider cannot send it. */
  readonly contents: {
    /** Of rows; a truncated table counts as one. Heartbeats and the like have none. */
    readonly changes: number;
    readonly tables: readonly string[];
  } | null;
}

/** Counts instead of keeping: a transaction may be larger than memory. */
interface Passing {
  readonly begin: Begun;
  changes: number;
  readonly tables: Set<string>;
}

/** Takes the transactions out of a link's stream that bdr.skip_changes_upto() asks to skip: those whose commit lies at `upto` or before. */
export class SkipFilter {
  readonly #upto: Lsn | undefined;
  #passing: Passing | undefined;

  constructor(upto: Lsn | undefined) {
    this.#upto = upto;
  }

  /** What is left of what was received; undefined for nothing. To be called in the order of the stream. */
  pass(received: Received): Received | Skipped | undefined {
    if (this.#upto === undefined) return received;
    if (received.kind === 'begin') {
      if (received.finalLsn > this.#upto) return received;
      this.#passing = { begin: received, changes: 0, tables: new Set() };
      return undefined;
    }
    const passing = this.#passing;
    if (!passing || (received.kind === 'message' && !received.transactional)) return received;
    if (received.kind !== 'commit') {
      for (const relation of relationsOf(received)) {
        passing.changes += 1;
        passing.tables.add(displayName(relation));
      }
      return undefined;
    }
    this.#passing = undefined;
    const { xid, finalLsn, commitTime } = passing.begin;
    return {
      kind: 'skipped',
      xid,
      commitLsn: finalLsn,
      endLsn: received.endLsn,
      commitTime,
      contents: { changes: passing.changes, tables: [...passing.tables].toSorted() },
    };
  }

  /**
   * What there is to tell of a transaction that the provider cannot send; undefined where it is not to be skipped. Where it ends is not
   * known: a stream that begins behind the beginning of its commit does not hold it.
   */
  passUnsent({ xid, finalLsn, commitTime }: Begun): Skipped | undefined {
    if (this.#upto === undefined || finalLsn > this.#upto) return undefined;
    const endLsn = (finalLsn + 1) as Lsn;
    return { kind: 'skipped', xid, commitLsn: finalLsn, endLsn, commitTime, contents: null };
  }
}

function relationsOf(change: Change): readonly Relation[] {
  if (change.kind === 'message') return [];
  return change.kind === 'truncate' ? change.relations : [change.relation];
}
