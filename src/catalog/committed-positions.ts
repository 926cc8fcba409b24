import { formatLsn, parseLsn, ZERO_LSN, type Lsn } from '../base/lsn.ts';
import { quoteLiteral } from '../base/names.ts';
import type { PgTime } from '../base/pg-time.ts';
import { commitStamped, keepYoung, stampSql } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';

/**
 * SQL on bdr.committed_position. COMMIT takes a lock for what was said by NOTIFY, behind the deferred triggers that move an origin
 * (commitStamped()): who is cancelled there, or is refused the lock in time, has moved the origin, and not committed. So where
 * it may have been said, by users' code or by ours, the position is written with the rows, and the origin follows in a transaction that
 * runs no code (docs/decisions/0039-the-origin-moves-within-commit.md).
 */

/** What a local transaction has applied. */
interface Applied {
  readonly position: Lsn;
  /** The stamp of the commit; without it the time by now. */
  readonly time?: PgTime;
  readonly mayNotify: boolean;
}

/** So often is tried to let the origin follow. */
const MOST_TRIES = 3;

/** Commits what was applied. `session` has an origin by setUpOrigin(). */
export async function commitApplied(session: Session, applied: Applied): Promise<void> {
  const { position, time, mayNotify } = applied;
  if (!mayNotify) return commitStamped(session, position, time);
  await session.script(inTwo(quoteLiteral(formatLsn(position)), stampSql(time)).rows);
  await follow(session, position);
  await keepYoung(session);
}

/** The same as plpgsql. Parameters: the position and the stamp. */
export const COMMIT_IN_TWO = (({ rows, origin }) => rows + origin)(inTwo('$1', '$2'));

function inTwo(
  position: string,
  stamp: string,
): { readonly rows: string; readonly origin: string } {
  return {
    rows: /* sql */ `
      INSERT INTO bdr.committed_position SELECT origin, ${position}::pg_lsn FROM pg_temp.bdr_leaving;
      UPDATE pg_temp.bdr_leaving SET position = '0/0', stamp = ${stamp}::timestamptz;
      COMMIT;
    `,
    origin: /* sql */ `
      DELETE FROM bdr.committed_position AS c
      USING pg_temp.bdr_leaving AS l
      WHERE (c.origin_name, c.position) = (l.origin, ${position}::pg_lsn);
      UPDATE pg_temp.bdr_leaving SET position = ${position}::pg_lsn, stamp = clock_timestamp();
      COMMIT;
    `,
  };
}

/**
 * Lets the origin of a session follow what is committed: to be called before its position is asked for, where a transaction may have
 * failed, or another session have had the origin.
 */
export async function followCommitted(session: Session): Promise<void> {
  const [row] = await session.query<{ position: string | null }>(/* sql */ `
    SELECT max(c.position) AS position
    FROM pg_temp.bdr_leaving AS l
    JOIN bdr.committed_position AS c ON c.origin_name = l.origin
  `);
  if (row?.position) await follow(session, parseLsn(row.position));
}

/** Who fails here must not be taken for one whose rows are not committed: that session ends. */
async function follow(session: Session, position: Lsn): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      const { origin } = inTwo(quoteLiteral(formatLsn(position)), '');
      await session.script(`BEGIN; ${origin}`);
      return;
    } catch (error) {
      if (session.lost.aborted) throw error;
      await session.script('ROLLBACK');
      if (tries < MOST_TRIES) continue;
      await session.close();
      throw error;
    }
  }
}

/**
 * As originProgress(), for who may look between the two: one statement, because who does not see the row sees the origin moved.
 */
export async function committedProgress(session: Session, origin: string): Promise<Lsn> {
  const [row] = await session.query<{ position: string | null }>(
    /* sql */ `
      SELECT greatest(pg_replication_origin_progress(o.roname, false), ${COMMITTED}) AS position
      FROM pg_replication_origin AS o
      WHERE o.roname = $1
    `,
    [origin],
  );
  return row?.position ? parseLsn(row.position) : ZERO_LSN;
}

/** Of the origin `o.roname`; null mostly. */
export const COMMITTED = /* sql */ `(
  SELECT max(c.position) FROM bdr.committed_position AS c WHERE c.origin_name = o.roname
)`;

/** An origin begins anew. */
export async function forgetCommittedPositions(session: Session, origin: string): Promise<void> {
  await session.run('DELETE FROM bdr.committed_position WHERE origin_name = $1', [origin]);
}
