import { formatLsn, type Lsn } from '../base/lsn.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import type { Param } from '../postgres/session.ts';
import { COMMIT_IN_TWO } from './committed-positions.ts';
import type { Held } from './restricted.ts';

/**
 * The frame of an apply transaction that is sent without waiting for answers, as plpgsql with parameters: it fails, by
 * `bdr.internal_look_again`, where enterApplyGate() would wait or give up, and commits nothing then.
 */

/** A piece of plpgsql, and the values of its parameters `$1`, `$2` and so on: text, whatever they are cast to. */
export interface Step {
  readonly sql: string;
  readonly params: readonly Param[];
}

/** The reasons that `bdr.internal_look_again` gives, in an error's detail. */
export const LOOK_AGAIN = {
  row: 'row',
  tombstones: 'tombstones',
  turn: 'turn',
  gate: 'gate',
  /** Given by bdr.internal_enter_ahead(). */
  definitions: 'definitions',
} as const;

/** A statement that stops the server for one of these reasons. */
export function lookAgain(reason: keyof typeof LOOK_AGAIN): string {
  return `PERFORM bdr.internal_look_again('${LOOK_AGAIN[reason]}');`;
}

/** A step that runs a statement which takes one row, and fails when it takes none. */
export function takingOneStep(sql: string): string {
  return `${sql}; IF NOT FOUND THEN ${lookAgain('row')} END IF;`;
}

/**
 * Where a local transaction begins: from here on nobody can begin to pause apply until the commit, and what is to be held is
 * held. It fails where definitions have changed, while apply is paused, and before `due` (strictly later: at the same microsecond
 * a local write could get an equal time).
 */
export function enterStep(held: Held, due: PgTime): Step {
  const { tables, casts, definitions } = held;
  if (tables.length === 0) {
    return { sql: ENTER, params: [formatPgTime(due), `{${definitions}}`] };
  }
  return {
    sql: ENTER_AND_HOLD,
    params: [formatPgTime(due), definitions, `{${tables.join(',')}}`, casts],
  };
}

/** One look for both, because a look costs more than what is looked at. The definitions are those of bdr.internal_definitions(). */
const ENTER = /* sql */ `
  LOCK TABLE bdr.bdr_local_node IN ROW SHARE MODE;
  IF clock_timestamp() <= $1::timestamptz OR NOT EXISTS (
       SELECT FROM bdr.bdr_local_node AS n
       WHERE NOT n.apply_paused AND $2::bigint[] = ARRAY(SELECT d.change FROM bdr.definition_change AS d ORDER BY d.change)
     )
  THEN
    ${lookAgain('gate')}
  END IF;
`;
const ENTER_AND_HOLD = /* sql */ `
  PERFORM bdr.internal_enter_ahead($3::oid[], $4::boolean, $2);
  IF clock_timestamp() <= $1::timestamptz OR NOT EXISTS (SELECT FROM bdr.bdr_local_node AS n WHERE NOT n.apply_paused) THEN
    ${lookAgain('gate')}
  END IF;
`;

/**
 * Where it ends, with its commit: in two, as commitApplied(), where it may have said NOTIFY. It fails where anything is
 * remembered about some `tables` (OIDs): that is looked at here, in a statement behind the inserts, with a newer snapshot
 * (src/apply/tombstones.ts).
 */
export function leaveStep(options: {
  readonly tables: readonly string[];
  readonly position: Lsn;
  readonly time: PgTime;
  readonly mayNotify: boolean;
}): Step {
  const { tables, position, time, mayNotify } = options;
  const params = [formatLsn(position), formatPgTime(time)];
  const leave = mayNotify ? COMMIT_IN_TWO : LEAVE;
  return { sql: tables.length === 0 ? leave : unremembered(tables) + leave, params };
}

/** The tables are part of the text: that is a third faster, and there are not many sets of them. */
function unremembered(tables: readonly string[]): string {
  return /* sql */ `
    IF EXISTS (SELECT FROM bdr.tombstone AS x WHERE x.relation IN (${tables.toSorted().join(', ')})) THEN
      ${lookAgain('tombstones')}
    END IF;
  `;
}

/** As commitStamped(). */
const LEAVE = /* sql */ `
  UPDATE pg_temp.bdr_leaving SET position = $1::pg_lsn, stamp = $2::timestamptz;
  COMMIT;
`;

/** Fails unless the session's origin stands at `$1`; null is anywhere. */
export const FOLLOWS = /* sql */ `
  IF $1 IS NOT NULL AND pg_replication_origin_session_progress(false) IS DISTINCT FROM $1 THEN
    ${lookAgain('turn')}
  END IF;
`;
