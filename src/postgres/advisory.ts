import type { Session } from './session.ts';

// The keys are documented in sql/routines/agent.sql.
const FAMILY = 1650749952;
const AGENT = 1;
const AGENT_SESSION = 2;
const INSTALLATION = 3;
const OPEN_GATES = 4;

/** Tries to become the server's agent; the lock lasts as long as the session. */
export async function tryAgentLock(session: Session): Promise<boolean> {
  const [row] = await session.query<{ locked: string }>(
    /* sql */ `SELECT pg_try_advisory_lock(${FAMILY}, ${AGENT}) AS locked`,
  );
  return row?.locked === 't';
}

/** Who holds the agent's lock, for the log. */
export async function agentLockHolder(session: Session): Promise<string | undefined> {
  const [row] = await session.query<{ holder: string }>(/* sql */ `
    SELECT format('process %s of role %s', a.pid, a.usename) AS holder
    FROM pg_locks AS l
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.classid = ${FAMILY} AND l.objid = ${AGENT} AND l.objsubid = 2 AND l.granted
  `);
  return row?.holder;
}

/** Marks a session as one of the agent's, so that a successor finds it; see endLeftOverSessions. */
export async function markAgentSession(session: Session): Promise<void> {
  await session.query(/* sql */ `SELECT pg_try_advisory_lock_shared(${FAMILY}, ${AGENT_SESSION})`);
}

/**
 * Ends the sessions that a dead agent left in this database: they would hold replication origins, and apply on beside us. Call
 * it when the agent's lock is held and before any session of our own is marked. Returns how many there were.
 */
export async function endLeftOverSessions(session: Session): Promise<number> {
  const rows = await session.query<{ ended: string }>(/* sql */ `
    SELECT pg_terminate_backend(l.pid, 5000) AS ended
    FROM pg_locks AS l
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.classid = ${FAMILY} AND l.objid = ${AGENT_SESSION} AND l.objsubid = 2
      AND a.datname = current_database() AND a.usename = current_user AND l.pid <> pg_backend_pid()
  `);
  return rows.length;
}

/** Holds back whoever else installs or upgrades schema bdr in this database, until the end of the transaction. */
export async function lockInstallation(session: Session): Promise<void> {
  await session.query(/* sql */ `SELECT pg_advisory_xact_lock(${FAMILY}, ${INSTALLATION})`);
}

/** Says, as long as the session lasts, that the gates of this database are open. False when somebody else has that lock. */
export async function sayGatesOpen(session: Session): Promise<boolean> {
  const [row] = await session.query<{ said: string }>(
    /* sql */ `SELECT pg_try_advisory_lock_shared(${FAMILY}, ${OPEN_GATES}) AS said`,
  );
  return row?.said === 't';
}

/** Takes that back, however often it was said. Asks first: the server warns of a lock that is not held. */
export async function sayGatesClosed(session: Session): Promise<void> {
  for (;;) {
    const [held] = await session.query(/* sql */ `
      SELECT pg_advisory_unlock_shared(${FAMILY}, ${OPEN_GATES})
      FROM pg_locks
      WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted AND mode = 'ShareLock'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid, objid, objsubid) = (${FAMILY}, ${OPEN_GATES}, 2)
      LIMIT 1
    `);
    if (!held) return;
  }
}

/** What an ask for the global lock is answered: each has a family of its own, above that of the agent. */
export type AskAnswer = keyof typeof ANSWERS;
const ANSWERS = { granted: 1, forbidden: 2, locked: 3, deadlock: 4, nothing: 5 } as const;

/** Answers an ask. False when somebody else has that lock. */
export async function sayAnswer(
  session: Session,
  ask: number,
  answer: AskAnswer,
): Promise<boolean> {
  const [row] = await session.query<{ said: string }>(
    /* sql */ `SELECT pg_try_advisory_lock_shared($1, $2) AS said`,
    [FAMILY + ANSWERS[answer], ask],
  );
  return row?.said === 't';
}

/** Takes that back. */
export async function unsayAnswer(session: Session, ask: number, answer: AskAnswer): Promise<void> {
  await session.query(/* sql */ `SELECT pg_advisory_unlock_shared($1, $2)`, [
    FAMILY + ANSWERS[answer],
    ask,
  ]);
}
