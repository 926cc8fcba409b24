import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import {
  closeDeletionsSql,
  nextDeletionsSql,
  openDeletionsSql,
  type RememberedKey,
} from '../catalog/tombstones.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import { describeTable } from '../postgres/describe-table.ts';
import type { Session } from '../postgres/session.ts';
import { soughtKeys, type BelowTombstones } from './below-tombstones.ts';
import { keyParams } from './local-rows.ts';
import { withPossibleKeys } from './possible-keys.ts';
import { valuesOfStored } from './stored-keys.ts';
import type { Table } from './table.ts';
import type { TableMap } from './table-map.ts';
import { Tombstones } from './tombstones.ts';
import type { OriginMap } from './writers.ts';

/**
 * Deletions of other nodes that a user's transaction has not met, because it was open while they were applied and had made, under
 * their key, a row that nobody could see (DESIGN 4.2, rule 6). Once everything of this node's users up to the time of a
 * deletion is seen, whoever lies below it is removed.
 *
 * Each deletion is looked after once. One that is committed here after that look has looked for its row after it, too: where it
 * finds none, it lets no other apply transaction be open while it looks and commits (src/apply/deletions.ts), and this look is one.
 */
export class DeletedElsewhere {
  readonly #session: Session;
  readonly #tables: TableMap;
  readonly #below: BelowTombstones;
  readonly #tombstones: Tombstones;
  readonly #origins: () => OriginMap;
  /** Deletions up to here have been looked after. */
  #lookedUpTo: PgTime = LONG_AGO;
  /** By OID, as long as definitions are these. */
  #relations = new Map<string, Relation>();
  #definitions = '';

  constructor(options: {
    session: Session;
    tables: TableMap;
    below: BelowTombstones;
    tombstones: Tombstones;
    origins: () => OriginMap;
  }) {
    this.#session = options.session;
    this.#tables = options.tables;
    this.#below = options.below;
    this.#tombstones = options.tombstones;
    this.#origins = options.origins;
  }

  /**
   * Looks after deletions up to `upTo`, inside an apply transaction that sees everything of this node's users up to there. Returns
   * how many it found to look after; undefined when the tables have to be looked at again first, in another transaction. Call
   * `looked` when this one is committed. `isSifted`: some keys may be none that their tables can have any more.
   */
  async look(upTo: PgTime, definitions: string, isSifted: boolean): Promise<number | undefined> {
    if (this.#definitions !== definitions) this.#relations = new Map();
    this.#definitions = definitions;
    const { id } = this.#origins().local;
    await this.#session.script(openDeletionsSql(id, this.#lookedUpTo, upTo));
    let count = 0;
    for (;;) {
      const keys = await this.#session.query<RememberedKey>(nextDeletionsSql);
      if (keys.length === 0) break;
      count += keys.length;
      for (const [oid, some] of byRelation(keys)) {
        const table = await this.#table(oid);
        if (!table) continue;
        if (!(await this.#tables.hold(table))) return undefined;
        await this.#lookInto(table, some, isSifted);
      }
    }
    await this.#session.script(closeDeletionsSql);
    return count;
  }

  looked(upTo: PgTime): void {
    this.#lookedUpTo = upTo;
  }

  /** Undefined for a table that is gone by now, or has no key any more. */
  async #table(oid: string): Promise<Table | undefined> {
    const relation = this.#relations.get(oid) ?? (await describeTable(this.#session, oid));
    if (!relation) return undefined;
    this.#relations.set(oid, relation);
    const table = await this.#tables.seek(relation);
    return table && Tombstones.byKey(table) ? table : undefined;
  }

  async #lookInto(
    table: Table,
    remembered: readonly RememberedKey[],
    isSifted: boolean,
  ): Promise<void> {
    const all = remembered
      .map(({ key }) => valuesOfStored(table, key))
      .filter((key) => key !== undefined);
    const keys = isSifted ? await withPossibleKeys(this.#session, table, all, (key) => key) : all;
    const sought = soughtKeys(table, keys);
    await this.#below.removeAmong(table, sought, 'anybody', (index) => {
      const key = keys[index];
      return key && this.#tombstones.find(table, keyParams(table, key));
    });
  }
}

function byRelation(keys: readonly RememberedKey[]): Map<string, RememberedKey[]> {
  const found = new Map<string, RememberedKey[]>();
  for (const key of keys) {
    const some = found.get(key.relation);
    if (some) some.push(key);
    else found.set(key.relation, [key]);
  }
  return found;
}
