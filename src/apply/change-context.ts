import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { Seen } from '../model/seen.ts';

/** The remote transaction that changes belong to. */
export interface ChangeContext {
  readonly xid: number;
  readonly commitTime: PgTime;
  readonly commitLsn: Lsn;
  /** What the provider had seen of the other nodes' writes by its last heartbeat before this transaction. */
  readonly seen: Seen;
  /**
   * A deletion that nobody has decided: a kill of DESIGN 4.2, rule 10, of the version of the row that it kills, or of a row that the
   * provider has no more when it is read there. No policy is asked about what it meets.
   */
  readonly isUndecided?: true;
  /**
   * Of a row whose long values were not sent, and which the provider has no more: it counts as a deletion of its version. Its meeting
   * with the row that is there is a conflict of the change, not of that deletion.
   */
  readonly isUnread?: boolean;
  /** It is a kill of a row that users had deleted while the provider's clock was behind: no policy is asked about it. */
  readonly isLate?: boolean;
}
