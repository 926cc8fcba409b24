import { messageOf } from '../base/errors.ts';
import { LONG_AGO } from '../base/pg-time.ts';
import { textArray } from '../base/text-array.ts';
import { enterApplyGate } from '../catalog/apply-gate.ts';
import { commitKeysAgain } from '../catalog/late-deletions.ts';
import { forgetAsk, readAsksToParted, type OpenAsk } from '../catalog/open-asks.ts';
import {
  forgetKill,
  hasOutbox,
  readSentKills,
  sendOutbox,
  type OutboxKill,
} from '../catalog/outbox.ts';
import { readDefinitions } from '../catalog/restricted.ts';
import { noteLateSql } from '../catalog/tombstones.ts';
import { describeTable } from '../postgres/describe-table.ts';
import type { Session } from '../postgres/session.ts';
import { readSnapshot } from '../postgres/snapshot-shows.ts';
import { soughtKeys } from './below-tombstones.ts';
import { isLockConflict } from './lock-conflict.ts';
import { keyParams } from './local-rows.ts';
import { PreparedStatements } from './prepared.ts';
import { foundAmongSql, ownRowAgainSql } from './statements.ts';
import { seekKeyedTable, valuesOfStored } from './stored-keys.ts';
import { TableMap } from './table-map.ts';
import { TableStatements } from './table-statements.ts';
import { Tombstones, tombstoneTable } from './tombstones.ts';

/** So many rows of parted nodes are looked after at once: each holds apply for a moment. */
const MOST_OF_PARTED = 100;

/** So that users' triggers do not fire, and no user waits long. */
const BEGIN = `BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = '50ms'`;

/**
 * Sends what apply has put into the outbox (DESIGN 4.2, rule 10), in transactions of the node's own.
 *
 * A kill takes away, at the peers, whatever this node has written under the key before it was sent. That may be a new row: users could
 * use the key again as soon as the loser was gone here. So when a kill is sent, and all that may lie before it in the log is
 * seen, this node's own row of that key is written again, unchanged: it comes to the peers behind the kill.
 *
 * A node that was asked to remove a row, and is parted before it has answered, never will: some peers would keep the row. Then whoever
 * has asked, having removed it, tells the others in its stead: by a deletion of the present time, as of a row that users have deleted.
 */
export class OutboxSender {
  readonly #session: Session;
  readonly #onTrouble: (what: string) => void;
  readonly #tables: TableMap;
  readonly #onTable: TableStatements;
  /** By the kill's id: whatever lies before it in the log has a transaction id below this. */
  readonly #before = new Map<string, bigint>();

  /** `session` has no origin. */
  constructor(session: Session, onTrouble: (what: string) => void) {
    this.#session = session;
    this.#onTrouble = onTrouble;
    this.#tables = new TableMap(session);
    this.#onTable = new TableStatements(session, new PreparedStatements(session));
  }

  /** Does what there is to do, as far as it can be done now. */
  async look(): Promise<void> {
    for (const ask of await readAsksToParted(this.#session, MOST_OF_PARTED)) {
      await this.#tried(() => this.#answer(ask));
    }
    if (!(await hasOutbox(this.#session))) return;
    await sendOutbox(this.#session);
    const kills = await readSentKills(this.#session);
    const { xmin, xmax } = await readSnapshot(this.#session);
    for (const kill of kills) {
      const before = this.#before.get(kill.id) ?? xmax;
      this.#before.set(kill.id, before);
      if (xmin >= before && (await this.#lookAfter(kill))) this.#before.delete(kill.id);
    }
  }

  async #lookAfter(kill: OutboxKill): Promise<boolean> {
    const session = this.#session;
    return this.#tried(async () => {
      this.#tables.defined(await readDefinitions(session));
      await session.script(BEGIN);
      await this.#writeAgain(kill);
      await forgetKill(session, kill);
      await session.script('COMMIT');
    });
  }

  /** Runs a transaction; false when it has to be tried again. */
  async #tried(work: () => Promise<void>): Promise<boolean> {
    const session = this.#session;
    try {
      await work();
      return true;
    } catch (error) {
      if (session.lost.aborted) throw error;
      this.#tables.forget();
      await session.script('ROLLBACK');
      if (!isLockConflict(error)) this.#onTrouble(messageOf(error));
      return false;
    }
  }

  /** Answers an ask in the stead of a parted node, unless there is another row by now, which has come to the peers or will. */
  async #answer(ask: OpenAsk): Promise<void> {
    const session = this.#session;
    const gate = await enterApplyGate(session, LONG_AGO, true);
    if (gate) this.#tables.defined(gate.definitions);
    const table = await seekKeyedTable(session, this.#tables, ask.relation);
    if (table && !(await this.#tables.hold(table))) {
      await session.script('ROLLBACK');
      return;
    }
    await forgetAsk(session, ask);
    const key = table && valuesOfStored(table, ask.key);
    const sought = key && soughtKeys(table, [key]);
    const isThere =
      sought &&
      (await this.#onTable.rowsOnce(table, foundAmongSql(table, 'anybody'), sought.columns));
    if (!sought || isThere?.length !== 0) {
      await session.script('COMMIT');
      return;
    }
    const of = tombstoneTable(table);
    const noted = await session.query<{ id: string }>(noteLateSql(of), [
      of.oid,
      '0',
      textArray(['-infinity']),
      ...sought.columns,
    ]);
    await commitKeysAgain(
      session,
      noted.map(({ id }) => ({ id, key: ask.key })),
    );
  }

  async #writeAgain({ relation: oid, key }: OutboxKill): Promise<void> {
    const relation = await describeTable(this.#session, oid);
    const table = relation && (await this.#tables.find(relation));
    if (!table || !Tombstones.byKey(table)) return;
    const values = valuesOfStored(table, key);
    const text = ownRowAgainSql(table);
    if (values && text) await this.#onTable.runOnce(table, text, keyParams(table, values));
  }
}
