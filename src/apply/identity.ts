import { quoteLiteral, quoteQualified, type QualifiedName } from '../base/names.ts';
import type { MissingIdentity } from '../postgres/relation-info.ts';
import type { Session } from '../postgres/session.ts';
import type { Table } from './table.ts';

/**
 * Lets a session update and delete rows of tables without a replica identity. The server refuses that for a published table, also to
 * apply, whose changes no peer is to get: such a table is given one for as long as it is worked on, within the transaction. Where there
 * is none that the server would take, it is not published for as long.
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
    const { give, takeBack } = waysOf(name, oid, missingIdentity);
    const before = this.#working.get(oid) ?? 0;
    this.#working.set(oid, before + 1);
    const given = before === 0 ? this.#session.script(give) : undefined;
    const done = Promise.all([work(), given]);
    try {
      await done;
    } finally {
      this.#working.set(oid, (this.#working.get(oid) ?? 0) - 1);
    }
    if (this.#working.get(oid) === 0) await this.#session.script(takeBack);
    return (await done)[0];
  }
}

function waysOf(
  name: QualifiedName,
  oid: string,
  missing: MissingIdentity,
): { readonly give: string; readonly takeBack: string } {
  if (missing === 'GENERATED') {
    const relation = `${quoteLiteral(oid)}::oid::regclass`;
    return {
      give: `SELECT bdr.internal_unpublish(${relation})`,
      takeBack: `SELECT bdr.internal_sync_publication(${relation})`,
    };
  }
  const alter = `ALTER TABLE ONLY ${quoteQualified(name)} REPLICA IDENTITY`;
  return { give: `${alter} FULL`, takeBack: `${alter} ${missing}` };
}
