import { formatLsn, parseLsn, ZERO_LSN, type Lsn } from '../base/lsn.ts';
import { quoteLiteral } from '../base/names.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import type { Session } from './session.ts';

/** A replication origin of the server. */
export interface Origin {
  readonly number: number;
  readonly name: string;
}

export async function readOrigins(session: Session): Promise<Origin[]> {
  const rows = await session.query<{ number: string; name: string }>(
    /* sql */ `SELECT roident AS number, roname AS name FROM pg_replication_origin`,
  );
  return rows.map((row) => ({ number: Number(row.number), name: row.name }));
}

/** Makes sure that an origin exists; returns its number. */
export async function ensureOrigin(session: Session, name: string): Promise<number> {
  const [found] = await session.query<{ number: string | null }>(
    /* sql */ `SELECT coalesce(pg_replication_origin_oid($1), pg_replication_origin_create($1)) AS number`,
    [name],
  );
  return Number(found?.number);
}

/**
 * The position up to which an origin's changes are committed here. With `flushed`, the server first puts those commits on disk, so
 * that the answer survives a crash.
 */
export async function originProgress(
  session: Session,
  name: string,
  flushed: boolean,
): Promise<Lsn> {
  const [row] = await session.query<{ lsn: string | null }>(
    /* sql */ `
      SELECT pg_replication_origin_progress(roname, $2) AS lsn FROM pg_replication_origin WHERE roname = $1
    `,
    [name, flushed],
  );
  return row?.lsn ? parseLsn(row.lsn) : ZERO_LSN;
}

/** The positions of the server's own log: where the next record goes, and what is on disk. */
export async function logPositions(session: Session): Promise<{ insert: Lsn; flush: Lsn }> {
  const [row] = await session.query<{ insert: string; flush: string }>(
    // In this order: the flush position may only be older than it is told, never newer.
    /* sql */ `SELECT pg_current_wal_flush_lsn() AS flush, pg_current_wal_insert_lsn() AS insert`,
  );
  return { insert: parseLsn(row?.insert ?? '0/0'), flush: parseLsn(row?.flush ?? '0/0') };
}

/**
 * Makes an origin the session's own: what it commits from now on carries the origin's number. One session at a time can. The session
 * gets what commitStamped() needs.
 */
export async function setUpOrigin(session: Session, name: string): Promise<void> {
  await setUpOriginAlone(session, name);
  await session.script(
    `${MAKE_LEAVING}; UPDATE pg_temp.bdr_leaving SET origin = ${quoteLiteral(name)}`,
  );
}

/** The origin alone: for a session that has the rest already, or may be idle for days and stamps no commit under this one. */
export async function setUpOriginAlone(session: Session, name: string): Promise<void> {
  await session.query(/* sql */ `SELECT pg_replication_origin_session_setup($1)`, [name]);
}

/**
 * A row whose update has a function called within COMMIT: it sets up the position that the session's origin moves to, and the stamp. From
 * 16 on the server moves an origin to the position that is set up also where the transaction aborts, so that what could not be committed
 * would be lost. Behind deferred triggers it looks for no cancellation, and does nothing that can fail, before the commit is recorded.
 * Hence no statement may stand behind the call, and nothing in it that the server does not compute by itself. First comes what users'
 * deferred triggers have left for later. All of it is temporary: it costs no WAL, and nothing of the database depends on it.
 *
 * Where NOTIFY may have been said there is one thing more that COMMIT waits for: commitApplied() is for that.
 */
const MAKE_LEAVING = /* sql */ `
  DO $$
  BEGIN
      IF to_regclass('pg_temp.bdr_leaving') IS NULL THEN
          CREATE TEMP TABLE bdr_leaving (origin name, position pg_lsn, stamp timestamptz) USING heap;
          INSERT INTO pg_temp.bdr_leaving VALUES (NULL, NULL, NULL);
          CREATE FUNCTION pg_temp.bdr_leave() RETURNS trigger LANGUAGE plpgsql AS $leave$
          BEGIN
              SET CONSTRAINTS ALL IMMEDIATE;
              RETURN CASE WHEN pg_catalog.pg_replication_origin_xact_setup(NEW.position, NEW.stamp) IS NULL THEN NEW END;
          END
          $leave$;
          CREATE CONSTRAINT TRIGGER leave AFTER UPDATE OF position ON pg_temp.bdr_leaving DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION pg_temp.bdr_leave();
          ALTER TABLE pg_temp.bdr_leaving ENABLE ALWAYS TRIGGER leave;
      END IF;
  END $$
`;

/** Lets go of the session's origin, if it has one: another session may have it then. */
export async function releaseOrigin(session: Session): Promise<void> {
  await session.query(/* sql */ `
    SELECT pg_replication_origin_session_reset() WHERE pg_replication_origin_session_is_setup()
  `);
}

/**
 * Commits with a stamp: the position that the session's origin moves to, and the commit time, without which it is the time by now.
 * The origin's position is session state that outlives a rollback, and from 16 on the server moves the origin there even then: so it is
 * set up within COMMIT, where nothing can come between. A transaction that wrote nothing counts, too. `session` has an origin by
 * setUpOrigin().
 */
export async function commitStamped(session: Session, position: Lsn, time?: PgTime): Promise<void> {
  await session.script(
    `UPDATE pg_temp.bdr_leaving SET position = '${formatLsn(position)}', stamp = ${stampSql(time)}; COMMIT`,
  );
  await keepYoung(session);
}

/** The time of a stamp, in SQL: that by now where none is given. */
export function stampSql(time: PgTime | undefined): string {
  return time === undefined ? 'clock_timestamp()' : quoteLiteral(formatPgTime(time));
}

/** A very busy server gives out some fifty million ids meanwhile, of the two thousand million that may be in use. */
const YOUNG_MS = 3_600_000;
const youngSince = new WeakMap<Session, number>();

/**
 * Freezes the temporary table that commitStamped() updates, once an hour: autovacuum leaves those of other sessions alone, and an old one
 * would hold up the whole database's transaction ids. Outside of a transaction; to be called often by whoever commits.
 */
export async function keepYoung(session: Session): Promise<void> {
  const now = performance.now();
  const since = youngSince.get(session);
  if (since !== undefined && now - since < YOUNG_MS) return;
  youngSince.set(session, now);
  // The first time it has just been made.
  if (since === undefined) return;
  try {
    await session.script('VACUUM (FREEZE) pg_temp.bdr_leaving');
  } catch {
    // What is committed by then must not be taken for failed. In an hour it is tried again; a lost session says so by itself.
  }
}

/** Takes the session's temporary objects away. Outside of a transaction. */
export async function discardLeaving(session: Session): Promise<void> {
  await session.script('DISCARD TEMP');
}

/** Rolls a transaction back that may have set up a position for its origin: that would outlive it (DESIGN 3.2). */
export async function rollBack(session: Session): Promise<void> {
  await session.script('ROLLBACK; SELECT pg_replication_origin_xact_reset()');
}

/**
 * Outside of a transaction: takes back the position that a failed one may have set up. Returns where the session's origin stands,
 * null at its beginning.
 */
export async function resetOrigin(session: Session): Promise<Lsn | null> {
  const [row] = await session.query<{ progress: string | null }>(/* sql */ `
    SELECT pg_replication_origin_xact_reset(), pg_replication_origin_session_progress(false) AS progress
  `);
  return row?.progress ? parseLsn(row.progress) : null;
}
