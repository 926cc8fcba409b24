import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';

/** Pauses between tries, in which nothing is held. */
export const LOCK_BACKOFF = { firstMs: 5, mostMs: 250 };

/** Whether the same again, later, can help: a lock was not had, or taking one had to be given up. */
export function isLockConflict(error: unknown): boolean {
  return hasSqlstate(
    error,
    SQLSTATE.lockNotAvailable,
    SQLSTATE.deadlockDetected,
    SQLSTATE.serializationFailure,
  );
}
