/** Conditions on the version of a local row `t`, as SQL (DESIGN 4.2). */

/** The origin of the transaction that wrote the row; 0 is this node's own. */
export const ORIGIN = '(pg_xact_commit_timestamp_origin(t.xmin)).roident';

/** No transaction runs while so many others begin. */
const MOST_YOUNGER = 268_435_456;

/**
 * Written by this very transaction, in one of its savepoints perhaps: the row is as young as the transaction and has no commit
 * time. A row of another transaction as young as that is seen only once it is committed, and then has one. One that was frozen two
 * billion transactions ago, and more, looks younger than all: its id stands for one that is still to come.
 */
export const OWN =
  '(pg_xact_commit_timestamp(t.xmin) IS NULL AND age(pg_current_xact_id_if_assigned()::xid)::bigint - age(t.xmin)' +
  ` BETWEEN 0 AND ${MOST_YOUNGER})`;

/** What becomes of a row whose commit record is gone. */
export type Unrecorded = 'taken' | 'left';

/**
 * Whether a row may be overwritten without looking: it is this provider's own, or older than a time, or without record where such
 * rows are taken. The condition stands on the target table, so that it is tested again on the new row after a wait for a lock (rule 11). Parameters
 * from `first` on: the provider's origin number, the greatest commit time to overwrite.
 */
export function versionTest(first: number, unrecorded: Unrecorded = 'taken'): string {
  // The time first: it is the cheaper to find out, and decides for nearly every row.
  const known =
    `(pg_xact_commit_timestamp(t.xmin) < $${first + 1}::timestamptz` +
    ` OR ${ORIGIN} = $${first}::oid)`;
  return unrecorded === 'taken' ? `${known} IS NOT FALSE` : `(${known} IS TRUE OR ${OWN})`;
}
