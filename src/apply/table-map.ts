import { BdrError } from '../base/errors.ts';
import { displayName } from '../base/names.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import { readRelation } from '../postgres/relation-info.ts';
import type { Session } from '../postgres/session.ts';
import { joinTable, type Table } from './table.ts';

/**
 * The provider's relations joined to local tables, each read once. A relation is described anew when it changes over there, and
 * `forget` throws all away after an error, so that a table that was mended here is seen. A table that lacks a column is read again
 * in each transaction: nulls for that column are let pass without an error that would tell when it has been added.
 */
export class TableMap {
  readonly #session: Session;
  #tables = new WeakMap<Relation, Table>();
  #lacking: Relation[] = [];

  constructor(session: Session) {
    this.#session = session;
  }

  begin(): void {
    for (const relation of this.#lacking.splice(0)) this.#tables.delete(relation);
  }

  /** The table, if it has been read. */
  known(relation: Relation): Table | undefined {
    return this.#tables.get(relation);
  }

  /** Throws BdrError when there is no such table here. */
  async find(relation: Relation): Promise<Table> {
    const table = await this.seek(relation);
    if (!table) {
      const name = displayName(relation);
      throw new BdrError('apply_failed', {
        message: `table ${name} does not exist on this node`,
        detail: 'A peer has sent a change of it.',
        hint: 'Create it here with the same columns; the link goes on by itself.',
        sqlstate: '42P01',
      });
    }
    return table;
  }

  /** As `find`; undefined when there is no such table here. */
  async seek(relation: Relation): Promise<Table | undefined> {
    const known = this.#tables.get(relation);
    if (known) return known;
    const local = await readRelation(this.#session, relation);
    if (!local) return undefined;
    const table = joinTable(relation, local);
    this.#tables.set(relation, table);
    if (table.columns.some((column) => column.missing)) this.#lacking.push(relation);
    return table;
  }

  forget(): void {
    this.#tables = new WeakMap();
  }
}
