/** Conditions on the version of a local row `t`, as SQL (DESIGN 4.2). */

/** The origin of the transaction that wrote the row; 0 is this node's own. */
export const ORIGIN = '(pg_xact_commit_timestamp_origin(t.xmin)).roident';

/**
 * Written by this very transaction, in one of its savepoints perhaps: the row is as young as the transaction and has no commit
 * time. A row of another transaction as young as that is seen only once it is committed, and then has one.
 */
export const OWN =
  '(pg_xact_commit_timestamp(t.xmin) IS NULL AND age(t.xmin) <= age(pg_current_xact_id_if_assigned()::xid))';

/**
 * Whether a row may be overwritten without looking: it is this provider's own, or older than a time, or without record. The
 * condition stands on the target table, so that it is tested again on the new row after a wait for a lock (rule 11). Parameters
 * from `first` on: the provider's origin number, the greatest commit time to overwrite.
 */
export function versionTest(first: number): string {
  return (
    // The time first: it is the cheaper to find out, and decides for nearly every row.
    `(pg_xact_commit_timestamp(t.xmin) < $${first + 1}::timestamptz` +
    ` OR ${ORIGIN} = $${first}::oid) IS NOT FALSE`
  );
}
