import { textArray } from '../base/text-array.ts';
import type { ConflictAction } from '../catalog/conflict-history.ts';
import { noteLostWriteSql, noteWriteParams } from '../catalog/lost-writes.ts';
import type { Decision } from '../conflict/decide.ts';
import type { Version } from '../conflict/version.ts';
import { sameNode, type NodeId } from '../model/node.ts';
import type { MetChange } from './conflict-log.ts';
import { columnParams } from './local-rows.ts';
import type { PreparedStatements } from './prepared.ts';
import type { RowValues } from './row-values.ts';
import { holdsSql, rowAsTextsSql, writable } from './statements.ts';
import { storedKey } from './stored-keys.ts';
import { bringsOldRows, isOwn } from './table.ts';
import type { TableStatements } from './table-statements.ts';
import type { OriginMap } from './writers.ts';

/**
 * Keeps what this node's users wrote where a change of the provider is about to overwrite it that did not know of it, in tables with
 * a conflict policy: what the policy says is done afterwards (src/apply/lost-writes.ts). All inside the caller's transaction.
 */
export class LostWriteNotes {
  readonly #statements: PreparedStatements;
  readonly #onTable: TableStatements;
  readonly #provider: NodeId;
  readonly #origins: () => OriginMap;
  readonly #onNoted: () => void;

  constructor(options: {
    statements: PreparedStatements;
    onTable: TableStatements;
    provider: NodeId;
    origins: () => OriginMap;
    /** Something was noted, if the transaction commits. */
    onNoted: () => void;
  }) {
    this.#statements = options.statements;
    this.#onTable = options.onTable;
    this.#provider = options.provider;
    this.#origins = options.origins;
    this.#onNoted = options.onNoted;
  }

  /**
   * What was decided about a change, as it is once it is known what its writer had: heartbeats tell only what he had at least. With
   * a conflict policy the change brings the row that he overwrote or deleted; if that is the row that it meets, there is no conflict.
   */
  async judged(
    decision: Decision,
    { table, found }: MetChange,
    brought: RowValues | undefined,
  ): Promise<Decision> {
    const { action, conflict } = decision;
    if (!table.policy || !conflict || !found || action === 'skip') return decision;
    if (!brought || !bringsOldRows(table)) return decision;
    const columns = writable(table);
    const [row] = await this.#onTable.rows<{ holds: 't' | 'f' }>(table, holdsSql(table, columns), [
      ...columnParams(columns, brought),
      found.ctid,
    ]);
    return row?.holds === 't' ? { action } : decision;
  }

  /** A row of this node's users loses. Call it before the decision is carried out. */
  async noteRow(decision: Decision, met: MetChange): Promise<void> {
    const { table, found } = met;
    if (!found || decision.action === 'skip' || !this.#isToBeAsked(decision, met)) return;
    const { row, ctid } = found;
    if (row.kind !== 'versioned' || !this.#isByUsers(row.version)) return;
    const [read] = await this.#onTable.rows<{ texts: string }>(table, rowAsTextsSql(table), [ctid]);
    await this.#add(met, { row: read?.texts ?? null, time: row.version.time });
  }

  /**
   * A row comes back: its writer had it, so somebody has deleted it here. Whether that were users of this node, and when, is known
   * once the own stream has come so far. Call it when the decision is carried out, and `done` is what was done.
   */
  async noteDeletion(decision: Decision, met: MetChange, done: ConflictAction): Promise<void> {
    if (decision.action !== 'as-insert' || done !== 'insert') return;
    const { tombstone } = met;
    if (!this.#isToBeAsked(decision, met) || (tombstone && !this.#isByUsers(tombstone))) return;
    await this.#add(met, { row: null, time: null });
  }

  #isToBeAsked({ conflict }: Decision, { kind, table }: MetChange): boolean {
    if (!table.policy || !conflict || isOwn(table.relation)) return false;
    // Without the old row nobody can tell what its writer knew: its node does not have the policy yet.
    return kind === 'insert' || bringsOldRows(table);
  }

  #isByUsers({ writer }: Version): boolean {
    return sameNode(writer.id, this.#origins().local.id);
  }

  async #add(
    { kind, table, values, context }: MetChange,
    local: Parameters<typeof noteWriteParams>[2],
  ): Promise<void> {
    const { xid, commitTime: time, commitLsn: lsn, seen } = context;
    const seenUpTo = seen.upTo(this.#origins().local.id);
    const key = textArray(storedKey(table, values));
    await this.#statements.run(
      noteLostWriteSql,
      noteWriteParams(table.local.oid, key, local, this.#provider, {
        kind,
        xid,
        time,
        lsn,
        seenUpTo,
      }),
    );
    this.#onNoted();
  }
}
