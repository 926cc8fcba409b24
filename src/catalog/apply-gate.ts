import { BdrError } from '../base/errors.ts';
import { quoteLiteral } from '../base/names.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import type { Session } from '../postgres/session.ts';
import { DEFINITIONS } from './restricted.ts';

/**
 * Every apply transaction holds ROW SHARE on bdr.bdr_local_node: who has that table EXCLUSIVE knows that no apply transaction is
 * between its first statement and its commit, and that none begins. A lock on a table and not an advisory one, because any role
 * could take that.
 */
export interface GateAnswer {
  readonly paused: boolean;
  /** How long, in milliseconds, until the server's clock has passed the moment asked for; 0 when it has. */
  readonly earlyMs: number;
  /** As readDefinitions() reads them. */
  readonly definitions: string;
}

/**
 * Begins an apply transaction; undefined when BDR is no longer active here. The transaction is open in every case. `alone`: it
 * first waits, holding nothing yet, until no other apply transaction is open, and lets none begin: see holdOtherApply().
 */
export async function enterApplyGate(
  session: Session,
  due: PgTime,
  alone = false,
): Promise<GateAnswer | undefined> {
  return passGate(session, due, `BEGIN; ${alone ? LOCK_ALONE : LOCK}`);
}

/**
 * As enterApplyGate(), for a transaction that is open already and has written: what it wrote counts from here on, and nobody who
 * had the gate closed has seen any of it.
 */
export function enterApplyGateLate(session: Session, due: PgTime): Promise<GateAnswer | undefined> {
  return passGate(session, due, LOCK);
}

async function passGate(
  session: Session,
  due: PgTime,
  enter: string,
): Promise<GateAnswer | undefined> {
  const moment = quoteLiteral(formatPgTime(due));
  const [gate] = await session.script<{ paused: string; early_ms: string; definitions: string }>(
    `${enter};` +
      ` SELECT apply_paused AS paused, ${DEFINITIONS} AS definitions,` +
      // Strictly later: at the same microsecond a local write could get an equal time.
      ` CASE WHEN clock_timestamp() > ${moment} THEN 0` +
      ` ELSE ceil(extract(epoch FROM ${moment}::timestamptz - clock_timestamp()) * 1000) + 1 END AS early_ms` +
      ` FROM bdr.bdr_local_node`,
  );
  return (
    gate && {
      paused: gate.paused === 't',
      earlyMs: Number(gate.early_ms),
      definitions: gate.definitions,
    }
  );
}

const LOCK = /* sql */ `LOCK TABLE bdr.bdr_local_node IN ROW SHARE MODE`;

/** Waits longer than for anything else, because it holds nothing that a user could wait for. */
const LOCK_ALONE = /* sql */ `
  SELECT set_config('bdr_kept.lock_timeout', current_setting('lock_timeout'), true);
  SET LOCAL lock_timeout = '5s';
  LOCK TABLE bdr.bdr_local_node IN EXCLUSIVE MODE;
  SELECT set_config('lock_timeout', current_setting('bdr_kept.lock_timeout'), true)
`;

/**
 * Inside an apply transaction: waits until no other one is open, and lets none begin until this one ends. What the others wrote
 * is committed then and seen by the next statement; who begins after this one sees what this one wrote. Throws a lock conflict
 * when it must wait too long, or when another waits for the same.
 */
export async function holdOtherApply(session: Session): Promise<void> {
  await session.script('LOCK TABLE bdr.bdr_local_node IN EXCLUSIVE MODE');
}

/** The apply transactions that are open in other sessions, one text each. It waits for none of them. */
export async function openApplyTransactions(session: Session): Promise<string[]> {
  const rows = await session.query<{ id: string }>(/* sql */ `
    SELECT virtualtransaction AS id
    FROM pg_locks
    WHERE locktype = 'relation' AND relation = 'bdr.bdr_local_node'::regclass
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND mode IN ('RowShareLock', 'ExclusiveLock') AND granted AND pid <> pg_backend_pid()
  `);
  return rows.map(({ id }) => id);
}

/**
 * Runs `work` in a transaction in which this database stays a node: bdr.remove_bdr_from_local_node() waits for its end. Whoever
 * takes what that function gives back, an origin or a slot, does it here: a session that remove has ended is soon followed by
 * another. Throws BdrError `invalid_membership` when BDR was removed.
 */
export async function whileNode<T>(session: Session, work: () => Promise<T>): Promise<T> {
  return session.transaction(async () => {
    const [local] = await session.query('SELECT true AS here FROM bdr.bdr_local_node');
    if (!local) {
      throw new BdrError('invalid_membership', {
        message: 'BDR was removed from this database',
      });
    }
    return work();
  });
}

/** What a transaction that applies early asks from time to time. */
export interface GateLook {
  readonly paused: boolean;
  /** As readDefinitions() reads them. */
  readonly definitions: string;
  /** Another session waits for a lock that this one holds. */
  readonly isWaitedFor: boolean;
}

/** Looks at the gate from inside a transaction without entering it: no lock on it is kept. Undefined when BDR was removed. */
export async function lookAtApplyGate(session: Session): Promise<GateLook | undefined> {
  // What a savepoint has locked is let go with it. Sent together.
  const [, [look]] = await Promise.all([
    session.script('SAVEPOINT bdr_look'),
    session.query<{ paused: string; definitions: string; waited_for: string }>(/* sql */ `
      SELECT apply_paused AS paused, ${DEFINITIONS} AS definitions,
             EXISTS (
                 SELECT FROM pg_locks AS waiting
                 WHERE NOT waiting.granted AND pg_backend_pid() = ANY (pg_blocking_pids(waiting.pid))
             ) AS waited_for
      FROM bdr.bdr_local_node
    `),
    session.script('ROLLBACK TO SAVEPOINT bdr_look; RELEASE SAVEPOINT bdr_look'),
  ]);
  return (
    look && {
      paused: look.paused === 't',
      definitions: look.definitions,
      isWaitedFor: look.waited_for === 't',
    }
  );
}

/** Whether bdr_apply_pause() holds apply. */
export async function readApplyPaused(session: Session): Promise<boolean> {
  const [row] = await session.query<{ paused: string }>(
    /* sql */ `SELECT bdr.bdr_apply_is_paused() AS paused`,
  );
  return row?.paused === 't';
}

/** Begins a transaction that holds all apply of this node until it ends. */
export async function holdApply(session: Session): Promise<void> {
  await session.script('BEGIN; LOCK TABLE bdr.bdr_local_node IN EXCLUSIVE MODE');
}
