import { displayName } from '../base/names.ts';
import { readDeathNotice, type DeathNotice } from '../catalog/outbox.ts';
import type { Relation, RowChange } from '../pgoutput/transaction.ts';
import { describeTable } from '../postgres/describe-table.ts';
import { readRelation } from '../postgres/relation-info.ts';
import type { Session } from '../postgres/session.ts';
import type { RowValues } from './row-values.ts';
import { valuesOfStored } from './stored-keys.ts';
import type { Table } from './table.ts';
import type { TableMap } from './table-map.ts';
import { Tombstones } from './tombstones.ts';

/** A kill or an ask of a row that can be found here, or of a whole table that is here. */
export interface HeardDeath extends Pick<DeathNotice, 'kind' | 'time' | 'writer' | 'isLate'> {
  readonly table: Table;
  /** Undefined where the table was truncated. */
  readonly key: RowValues | undefined;
}

/** Joins what a peer tells of lost rows (DESIGN 4.2, rule 10) to the local tables, each looked for once in a transaction. */
export class DeathNotices {
  readonly #session: Session;
  readonly #tables: TableMap;
  /** By name; undefined for one that is not here. */
  readonly #relations = new Map<string, Relation | undefined>();

  constructor(session: Session, tables: TableMap) {
    this.#session = session;
    this.#tables = tables;
  }

  /** Call it when a local transaction has begun. */
  begin(): void {
    this.#relations.clear();
  }

  /** Reads a change of one of the tables by which deaths are told; undefined where it says nothing that counts here. */
  async read(change: RowChange): Promise<HeardDeath | undefined> {
    const notice = readDeathNotice(change);
    const relation = notice && (await this.#relationOf(notice));
    if (!relation) return undefined;
    const table = await this.#tables.find(relation);
    const { key: stored, kind, time, writer, isLate } = notice;
    const heard = { kind, time, writer, isLate, table };
    if (stored === null) return { ...heard, key: undefined };
    const key = Tombstones.byKey(table) ? valuesOfStored(table, stored) : undefined;
    return key && { ...heard, key };
  }

  async #relationOf({ table: name }: DeathNotice): Promise<Relation | undefined> {
    const shown = displayName(name);
    if (!this.#relations.has(shown)) {
      const local = await readRelation(this.#session, name);
      this.#relations.set(shown, local && (await describeTable(this.#session, local.oid)));
    }
    return this.#relations.get(shown);
  }
}
