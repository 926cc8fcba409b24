import type { Logger } from '../base/logger.ts';
import { openGates, shutGates } from '../catalog/gates.ts';
import type { Session } from '../postgres/session.ts';

/**
 * Keeps a read-only node's tables shut to its users, those that were made since too, and puts back what somebody has taken away; opens
 * them when the node is not read-only any more. Definitions are guarded where they are captured (sql/routines/ddl.sql).
 */
export class GateKeeper {
  readonly #log: Logger;
  #left = 0;
  /** There are none: nobody else shuts any. */
  #areOpen = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Call it about once a second. What is held by others is tried again with the next call. */
  async look(session: Session, isReadOnly: boolean): Promise<void> {
    if (!isReadOnly && this.#areOpen) return;
    const left = isReadOnly
      ? await shutGates(session, 'read_only')
      : await openGates(session, 'read_only');
    if (left > 0 && this.#left === 0) {
      this.#log.warn(
        { tables: left, isReadOnly },
        'tables are held by open transactions: what the node refuses there is tried again',
      );
    }
    this.#left = left;
    this.#areOpen = !isReadOnly && left === 0;
  }
}
