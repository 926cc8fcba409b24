import { quoteQualified } from '../base/names.ts';
import type { Session } from '../postgres/session.ts';
import type { Table } from './table.ts';

/**
 * Lets a session update and delete rows of tables without a replica identity. The server refuses that for a published table, also to
 * apply, whose changes no peer is to get: such a table is given one for as long as it is worked on, within the transaction.
 */
export class GivenIdentities {
  readonly #session: Session;
  /** How many are at work on a table, by its OID. */
  readonly #working = new Map<string, number>();

  constructor(session: Session) {
    this.#session = session;
  }

  /** Does work on a table; what `work` sends is sent before this returns. Work within work, or beside it, is given nothing again. */
  async during<Result>({ local }: Table, work: () => Promise<Result>): Promise<Result> {
    const { oid, name, missingIdentity } = local;
    if (missingIdentity === undefined) return work();
    const alter = `ALTER TABLE ONLY ${quoteQualified(name)} REPLICA IDENTITY`;
    const before = this.#working.get(oid) ?? 0;
    this.#working.set(oid, before + 1);
    const given = before === 0 ? this.#session.script(`${alter} FULL`) : undefined;
    const done = Promise.all([work(), given]);
    try {
      await done;
    } finally {
      this.#working.set(oid, (this.#working.get(oid) ?? 0) - 1);
    }
    if (this.#working.get(oid) === 0) await this.#session.script(`${alter} ${missingIdentity}`);
    return (await done)[0];
  }
}
