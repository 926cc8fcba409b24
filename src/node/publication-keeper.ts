import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { readSetsInForce, settlePublications } from '../catalog/publications.ts';
import type { Session } from '../postgres/session.ts';
import { describeError } from './describe-error.ts';

/** What is published may be otherwise without that the sets have changed: tables that a command could not wait for. */
const INTERVAL_MS = 10_000;

/** One look takes no longer, with many tables too: the node's service does all else with the same session. */
const MOST_LOOK_MS = 500;

/**
 * Sees to it that this node publishes what replication sets that were set elsewhere ask for. Calls that were made here have done so
 * themselves, and of tables the commands that peers send (sql/routines/replication-sets.sql).
 */
export class PublicationKeeper {
  readonly #log: Logger;
  #settledAt = -Infinity;
  #settled: string | undefined;
  #left: readonly string[] = [];
  /** Tables that the server refused, and why. */
  #refused = new Map<string, string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Call it about once a second. What is held by others, or was not reached, is tried with the next call. */
  async look(session: Session): Promise<void> {
    const now = performance.now();
    const facts = await readSetsInForce(session);
    if (facts === this.#settled && now - this.#settledAt < INTERVAL_MS) return;
    const refused = new Map<string, string>();
    const left = await settlePublications(session, {
      mostMs: MOST_LOOK_MS,
      before: this.#left,
      takesUnknown: false,
      onRefused: (table, error) => {
        const reason = messageOf(error);
        refused.set(table, reason);
        if (this.#refused.get(table) === reason) return;
        const fields = { table, ...describeError(error) };
        this.#log.error(fields, 'replication sets do not take effect in a table');
      },
    });
    this.#refused = new Map(
      [...this.#refused, ...refused].filter(([table]) => left.includes(table)),
    );
    if (left.length > 0 && this.#left.length === 0) {
      this.#log.warn(
        { tables: left.length },
        'replication sets take effect later in tables that are held by open transactions, or many',
      );
    }
    this.#left = left;
    this.#settled = left.length === 0 ? facts : undefined;
    this.#settledAt = now;
  }
}
