import type { ConflictAction } from '../catalog/conflict-history.ts';
import type { ChangeKind } from '../conflict/decide.ts';
import type { RowChange } from '../pgoutput/transaction.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import type { ChangeContext } from './change-context.ts';
import { tupleOf, type FoldedChange, type Past } from './coalesce.ts';
import type { FoundRow, LocalRows } from './local-rows.ts';
import type { RowValues } from './row-values.ts';
import { rowOf, type Table } from './table.ts';

/** So many changes are under way at once at most, and so many bytes of local rows that the history gets, about. */
const MOST_SIDE_BY_SIDE = 100;
const MOST_BYTES_SIDE_BY_SIDE = 4 * 1024 * 1024;

interface Options {
  readonly rows: LocalRows;
  /** Whether the local row is read where there is a conflict. */
  readonly isReadForHistory: () => boolean;
  /** Whether what is found tells all about a change: its provider need not be asked. */
  readonly isCertain: (context: ChangeContext) => boolean;
  /** Decides about a change that brings a whole row, and carries it out. */
  readonly resolve: (
    kind: ChangeKind,
    table: Table,
    values: RowValues,
    found: FoundRow,
    context: ChangeContext,
  ) => Promise<ConflictAction>;
  /** Writes a change by itself. */
  readonly write: (change: RowChange, context: ChangeContext, past: Past) => Promise<void>;
}

/**
 * Writes what a set has not taken (DESIGN 3.2). Where changes bring whole rows, the rows that they meet are found and locked by one
 * statement, and what becomes of each is decided and carried out without waiting for the others. Inside the caller's transaction.
 */
export class LeftChanges {
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  /** The changes are of one kind, each of another key. */
  async write(table: Table, changes: readonly FoldedChange[]): Promise<void> {
    const { isCertain, write } = this.#options;
    const isSimple =
      table.key.kind === 'unique' &&
      changes.every((one) => bringsWholeRow(one) && isCertain(one.context));
    const most = isSimple ? MOST_SIDE_BY_SIDE : changes.length;
    for (let from = 0; from < changes.length; from += most) {
      const some = changes.slice(from, from + most);
      const others = isSimple ? await this.#writeSideBySide(table, some) : some;
      for (const folded of others) await write(folded.change, folded.context, folded);
    }
  }

  /** Returns those that have met no row, or one that another one of them has met: keys may be equal that are spelt differently. */
  async #writeSideBySide(
    table: Table,
    changes: readonly FoldedChange[],
  ): Promise<readonly FoldedChange[]> {
    const { rows, isReadForHistory, resolve } = this.#options;
    const keys = changes.map(({ change, context }) => ({
      values: rowOf(table, tupleOf(change)),
      remoteTime: context.commitTime,
    }));
    const found = await rows.findAmong(table, keys, isReadForHistory());
    const met = new Set<string>();
    const others: FoldedChange[] = [];
    const resolving: Promise<ConflictAction>[] = [];
    let bytes = 0;
    for (const [at, folded] of changes.entries()) {
      const { change, context } = folded;
      const row = found[at];
      const values = keys[at]?.values;
      if (!row || !values || met.has(row.ctid)) {
        others.push(folded);
        continue;
      }
      met.add(row.ctid);
      bytes += row.bytes;
      if (bytes > MOST_BYTES_SIDE_BY_SIDE) {
        await allDone(resolving.splice(0));
        bytes = row.bytes;
      }
      resolving.push(resolve(change.kind, table, values, row, context));
    }
    await allDone(resolving);
    return others;
  }
}

function bringsWholeRow({ change, mask }: FoldedChange): boolean {
  return change.kind !== 'delete' && mask === '' && change.newTuple.isComplete;
}

/** Returns when all are done; throws why one of them failed, and not that others then failed as well. */
async function allDone(work: readonly Promise<unknown>[]): Promise<void> {
  const errors = (await Promise.allSettled(work)).flatMap((one) =>
    one.status === 'rejected' ? [one.reason as unknown] : [],
  );
  const reason = errors.find((error) => !hasSqlstate(error, SQLSTATE.inFailedTransaction));
  if (errors.length > 0) throw reason ?? errors[0];
}
