import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Param } from '../postgres/session.ts';
import { holdParams, type Held } from './restricted.ts';

/**
 * The frame of an apply transaction that is sent without waiting for answers, as SQL: it fails, by `bdr.internal_look_again`,
 * where enterApplyGate() would wait or give up, and commits nothing then.
 */

/** The reasons that `bdr.internal_look_again` gives, in an error's detail. */
export const LOOK_AGAIN = {
  row: 'row',
  tombstones: 'tombstones',
  turn: 'turn',
  gate: 'gate',
  definitions: 'definitions',
} as const;

/**
 * The first statements behind BEGIN: from here on nobody can begin to pause apply until the commit, and what is to be held is held.
 * They fail where definitions have changed.
 */
export function enterStatements(held: Held): { readonly sql: string; readonly params: Param[] }[] {
  if (held.tables.length > 0) return [{ sql: ENTER_AND_HOLD, params: holdParams(held) }];
  // A third of the time that the function takes.
  return [
    { sql: ENTER, params: [] },
    { sql: SAME_DEFINITIONS, params: [held.definitions] },
  ];
}

const ENTER_AND_HOLD = 'SELECT bdr.internal_enter_ahead($1::oid[], $2::boolean, $3)';
const ENTER = 'LOCK TABLE bdr.bdr_local_node IN ROW SHARE MODE';
/** As bdr.internal_definitions(), which the server would call. */
const SAME_DEFINITIONS = /* sql */ `
  SELECT CASE WHEN $1 = (SELECT coalesce(string_agg(d.change::text, ',' ORDER BY d.change), '') FROM bdr.definition_change AS d)
              THEN true ELSE bdr.internal_look_again('${LOOK_AGAIN.definitions}') END
`;

/** Fails unless this session's origin stands where the transaction before has left it. Parameter: that position. */
export const followsSql = /* sql */ `
  SELECT CASE WHEN pg_replication_origin_session_progress(false) = $1::pg_lsn THEN true
              ELSE bdr.internal_look_again('${LOOK_AGAIN.turn}') END
`;

/**
 * The last statement before COMMIT. It fails while apply is paused; before its time (strictly later: at the same microsecond a
 * local write could get an equal time); and where anything is remembered about some tables.
 */
export const leaveSql = /* sql */ `
  SELECT CASE WHEN clock_timestamp() <= $1::timestamptz
                   OR NOT EXISTS (SELECT FROM bdr.bdr_local_node WHERE NOT apply_paused)
              THEN bdr.internal_look_again('${LOOK_AGAIN.gate}') END,
         CASE WHEN EXISTS (SELECT FROM bdr.tombstone WHERE relation = ANY ($2::oid[]))
              THEN bdr.internal_look_again('${LOOK_AGAIN.tombstones}') END,
         pg_replication_origin_xact_setup($3::pg_lsn, $4::timestamptz),
         pg_current_xact_id()
`;

/** `tables`: OIDs of those about which nothing may be remembered. The times as the server reads them. */
export function leaveParams(options: {
  readonly due: string;
  readonly tables: readonly string[];
  readonly position: Lsn;
  readonly time: string;
}): Param[] {
  const { due, tables, position, time } = options;
  return [due, `{${tables.join(',')}}`, formatLsn(position), time];
}

/** Parameter of `followsSql`. */
export function followsParams(position: Lsn): Param[] {
  return [formatLsn(position)];
}
