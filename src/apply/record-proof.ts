import { BdrError } from '../base/errors.ts';
import { displayName } from '../base/names.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import { readRecordLimit, type RecordLimit } from '../catalog/commit-records.ts';
import { decide, type ChangeKind } from '../conflict/decide.ts';
import type { Writer } from '../conflict/version.ts';
import type { Session } from '../postgres/session.ts';
import type { ChangeContext } from './change-context.ts';
import { keyParams, type FoundRow } from './local-rows.ts';
import { MOST_UNSEEN_MS, type ReadFromProvider } from './provider-values.ts';
import type { RowValues } from './row-values.ts';
import { hasUnrecordedSql, originSql } from './statements.ts';
import type { Table } from './table.ts';
import type { TableStatements } from './table-statements.ts';

/**
 * Proof for old changes that meet a row whose commit record is gone, or may be another transaction's (DESIGN 4.1): the provider tells
 * what became of its change. Its row under the key is what has won there, of all that it has applied. Where that is another node's row,
 * or none, the change is superseded, and what superseded it is here or on its way. Where it is the provider's own, the change
 * or what it wrote over it stands, and is greater than all that the provider has applied by then.
 *
 * The provider's own records can be relied on for this: its slot for this node keeps them as long as the change is not acknowledged.
 */
export class RecordProof {
  readonly #session: Session;
  readonly #onTable: TableStatements;
  readonly #provider: Writer;
  readonly #recordLimit: () => PgTime;
  readonly #read: ReadFromProvider;
  readonly #untilSeen: (xid: number, mostMs: number) => Promise<boolean>;
  readonly #providerApplied: () => Promise<PgTime>;

  constructor(options: {
    session: Session;
    onTable: TableStatements;
    provider: Writer;
    /** Changes up to then do not take it for granted what records say. */
    recordLimit: () => PgTime;
    readFromProvider: ReadFromProvider;
    /** Returns whether what the provider's transaction did can be read there, once it can or the time is over. */
    untilSeen: (xid: number, mostMs: number) => Promise<boolean>;
    /** Up to when the provider has applied all that its own peers have committed. */
    providerApplied: () => Promise<PgTime>;
  }) {
    this.#session = options.session;
    this.#onTable = options.onTable;
    this.#provider = options.provider;
    this.#recordLimit = options.recordLimit;
    this.#read = options.readFromProvider;
    this.#untilSeen = options.untilSeen;
    this.#providerApplied = options.providerApplied;
  }

  /** Whether records are to be taken at their word without looking. */
  trusts({ commitTime }: ChangeContext): boolean {
    return commitTime > this.#recordLimit();
  }

  /**
   * The row that a change has met, with what is certain of its version. Throws BdrError `record_lost` where nothing is: the link then
   * waits.
   */
  async settled(
    kind: ChangeKind,
    table: Table,
    old: RowValues,
    found: FoundRow,
    context: ChangeContext,
  ): Promise<FoundRow> {
    const { row } = found;
    if (this.trusts(context) || table.key.kind !== 'unique') return found;
    if (row.kind === 'unrecorded') {
      const { lostUpTo } = await readRecordLimit(this.#session);
      if (context.commitTime > lostUpTo) return found;
      return this.#ask(kind, table, old, found, context, lostUpTo);
    }
    if (row.kind !== 'versioned') return found;
    const remote = { time: context.commitTime, writer: this.#provider };
    // A false record says that its row is newer than it is.
    if (decide(kind, remote, row, context.commitTime).action !== 'skip') return found;
    const { lostUpTo, mayBeFalse } = await readRecordLimit(this.#session);
    if (!mayBeFalse) return found;
    const { time } = row.version;
    return this.#ask(kind, table, old, found, context, time > lostUpTo ? time : lostUpTo);
  }

  /** Throws where a TRUNCATE is as old as the records that rows of the table have lost: which of them it meant nobody can say. */
  async refuseTruncate(table: Table, context: ChangeContext): Promise<void> {
    if (this.trusts(context)) return;
    const { lostUpTo } = await readRecordLimit(this.#session);
    if (context.commitTime > lostUpTo) return;
    const [row] = await this.#onTable.rowsOnce<{ any: string }>(table, hasUnrecordedSql(table), []);
    if (row?.any !== 't') return;
    throw new BdrError('apply_failed', {
      message: `a replicated TRUNCATE of ${displayName(table.local.name)} meets rows whose commit records are gone`,
      detail: describeAge(context, { lostUpTo }),
      hint: 'Delete from the table what was there before the TRUNCATE, here; the link goes on once no such row is left.',
    });
  }

  /** `writtenUpTo`: the row was written no later. */
  async #ask(
    kind: ChangeKind,
    table: Table,
    old: RowValues,
    found: FoundRow,
    context: ChangeContext,
    writtenUpTo: PgTime,
  ): Promise<FoundRow> {
    if (!(await this.#untilSeen(context.xid, MOST_UNSEEN_MS))) {
      throw unproven(table, context, writtenUpTo, 'It does not show that commit yet.');
    }
    // Before the row is read: what it has applied since may be what supersedes the change.
    const applied = await this.#providerApplied();
    const name = { schema: table.relation.schema, name: table.relation.name };
    const [row] = await this.#read(name, originSql(table), keyParams(table, old));
    if (row?.['origin'] === null) {
      throw unproven(table, context, writtenUpTo, 'Its own record of the row is gone, too.');
    }
    const stands = row ? row['origin'] === '0' : kind === 'delete';
    if (!stands) return { ...found, row: { kind: 'newer' } };
    if (applied >= writtenUpTo) return { ...found, row: { kind: 'older' } };
    throw unproven(
      table,
      context,
      writtenUpTo,
      `It has applied its peers' changes up to ${formatPgTime(applied)} only, so what it has there may not have met the row yet.`,
    );
  }
}

function unproven(table: Table, context: ChangeContext, lostUpTo: PgTime, reason: string) {
  return new BdrError('record_lost', {
    message: `a replicated change of ${displayName(table.local.name)} meets a row of which it is not known when it was committed`,
    detail: `${describeAge(context, { lostUpTo })} The provider cannot say which of the two is the later. ${reason}`,
    hint: 'The link goes on by itself once the provider has caught up with its own peers: see bdr status there, and part a peer that will not come back.',
  });
}

function describeAge(
  { commitTime }: ChangeContext,
  { lostUpTo }: Pick<RecordLimit, 'lostUpTo'>,
): string {
  return `The change was committed at ${formatPgTime(commitTime)}, the row at ${formatPgTime(lostUpTo)} or before: its commit record is gone, or may be that of another transaction.`;
}
