import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';

/** Pauses between tries, in which nothing is held. */
export const LOCK_BACKOFF = { firstMs: 5, mostMs: 250 };

/** Something else has to be over first, which is no lock of the server's. */
export class MustWait extends Error {
  override readonly name = 'MustWait';
}

/** Whether the same again, later, can help: a lock was not had, or taking one had to be given up. */
export function isLockConflict(error: unknown): boolean {
  return (
    error instanceof MustWait ||
    hasSqlstate(
      error,
      SQLSTATE.lockNotAvailable,
      SQLSTATE.deadlockDetected,
      SQLSTATE.serializationFailure,
    )
  );
}
