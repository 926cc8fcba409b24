import { noCounts, type ApplyCounts } from '../apply/apply-counts.ts';
import type { Lsn } from '../base/lsn.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { SharedTime } from '../base/shared-time.ts';
import type { FailedTransaction, LinkReport, LinkStatus } from '../catalog/links.ts';
import { Watermark, type Heartbeat } from '../receive/watermark.ts';

/** How a link goes: written by its parts as they work, read when it reports. */
export class LinkState {
  status: LinkStatus = 'down';
  error: object | null = null;
  /** The transaction that is being applied. */
  applying: FailedTransaction | null = null;
  /** The transaction that the link cannot pass; kept while it is tried again. */
  failed: FailedTransaction | null = null;
  applyPid: number | null = null;
  received: Lsn | null = null;
  applied: Lsn | null = null;
  /** Where the last ended that was applied and more than a heartbeat, at least; null while it is not known. */
  lastChange: Lsn | null = null;
  appliedCommitTime: PgTime | null = null;
  /** All that the provider had when it last said so is applied. */
  caughtUp = false;
  /** Since when the link waits for the provider to say something; undefined while what was said waits for its turn. */
  waitingSince: number | undefined;
  /** Up to here the provider had applied what this node wrote, as of its last heartbeat that was handled. */
  knownThere: PgTime = LONG_AGO;
  /** settledUpTo() of that; LONG_AGO before the first in this life, as a crash here may have undone what was handled. */
  settledThere: PgTime = LONG_AGO;
  isApplying = false;
  /** When the last change was applied. */
  progressAt = 0;
  /** Commit positions of transactions that must be applied row by row, found out in an earlier life. */
  readonly difficult = new Set<Lsn>();
  commits = 0;
  rollbacks = 0;
  disconnects = 0;
  /** The same object for the link's life: the writer counts on it. */
  readonly applyCounts: ApplyCounts = noCounts();
  #watermark = new Watermark();
  readonly #published: SharedTime;

  /** `published`: where others read the watermark. */
  constructor(published: SharedTime) {
    this.#published = published;
    this.forgetWatermark();
  }

  /** The commit time up to which everything is handled, as others know it. */
  get watermark(): PgTime {
    return this.#published.get();
  }

  /** Call it only when everything before the heartbeat is committed here. */
  handled(heartbeat: Heartbeat): void {
    this.reach(heartbeat);
    this.publish();
  }

  /** As `handled`, but nobody is told before `publish`. */
  reach(heartbeat: Heartbeat): void {
    this.#watermark.handled(heartbeat);
  }

  /** What the watermark will be with `publish`. */
  get reached(): PgTime {
    return this.#watermark.time;
  }

  publish(): void {
    this.#published.set(this.#watermark.time);
  }

  /** With each life of the connections: a crash of the local server may have undone what was handled before. */
  forgetWatermark(): void {
    this.#watermark = new Watermark();
    this.settledThere = LONG_AGO;
    this.#published.set(LONG_AGO);
  }

  /** What happened since the last report. */
  takeReport(): LinkReport {
    const { applyCounts: counts } = this;
    const report: LinkReport = {
      status: this.status,
      error: this.error,
      failed: this.failed,
      applyPid: this.applyPid,
      received: this.received,
      applied: this.applied,
      lastChange: this.lastChange,
      appliedCommitTime: this.appliedCommitTime,
      caughtUp: this.caughtUp,
      knownThere: this.knownThere,
      settledThere: this.settledThere,
      watermark: this.watermark,
      counts: {
        nr_commit: this.commits,
        nr_rollback: this.rollbacks,
        nr_disconnect: this.disconnects,
        nr_insert: counts.inserts,
        nr_insert_conflict: counts.insertConflicts,
        nr_update: counts.updates,
        nr_update_conflict: counts.updateConflicts,
        nr_delete: counts.deletes,
        nr_delete_conflict: counts.deleteConflicts,
      },
    };
    this.commits = 0;
    this.rollbacks = 0;
    this.disconnects = 0;
    this.caughtUp = false;
    Object.assign(counts, noCounts());
    return report;
  }
}

/** The report of a link that has not begun, with the transaction that it could not pass before. */
export function reportOfNothing(failed: FailedTransaction | null): LinkReport {
  const state = new LinkState(new SharedTime());
  state.failed = failed;
  return state.takeReport();
}
