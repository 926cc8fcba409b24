import { BdrError, messageOf } from '../base/errors.ts';
import { displayName, quoteIdent, quoteLiteral, quoteQualified } from '../base/names.ts';
import type { PgTime } from '../base/pg-time.ts';
import { readConflictHandlers, type ConflictHandler } from '../catalog/conflict-policies.ts';
import { runRestricted } from '../catalog/restricted.ts';
import type { ChangeKind, ConflictType } from '../conflict/decide.ts';
import type { LocalColumn } from '../postgres/relation-info.ts';
import type { Session } from '../postgres/session.ts';
import { sqlstateOf } from '../postgres/sqlstate.ts';
import { isLockConflict } from './lock-conflict.ts';
import { equalsSql, quoteName } from './statements.ts';
import type { Table } from './table.ts';

/** A row by column, as text. */
export type Texts = Readonly<Record<string, string | null>>;

/** What a handler is asked about. */
export interface HandledConflict {
  readonly table: Table;
  readonly type: ConflictType;
  readonly change: ChangeKind;
  /** Undefined where the row was deleted here. */
  readonly local: Texts | undefined;
  /** Of a row that the change has deleted only the key. */
  readonly remote: Texts;
  /** When both were committed; undefined where one of the rows is missing. */
  readonly times: readonly [PgTime, PgTime] | undefined;
}

/** What a handler says: write this row, or keep what is here and not what came. */
export type Handled = { readonly action: 'row'; readonly row: Texts } | { readonly action: 'skip' };

/** What the statement of `callSql` answers. */
interface Answer {
  readonly action: 'IGNORE' | 'ROW' | 'SKIP' | null;
  readonly isNull: boolean;
  readonly sameKey: boolean | null;
  readonly row: Record<string, string | null>;
}

/**
 * Asks the handlers of a table, in the order of their names, until one says something; undefined where none does. Each runs with the
 * rights of its owner, in a security-restricted operation, as all code of users does (docs/concepts/trust.md). Throws BdrError
 * `apply_failed` where one fails.
 */
export async function askHandlers(
  session: Session,
  conflict: HandledConflict,
): Promise<Handled | undefined> {
  const { table, type, times } = conflict;
  const apartUs = times ? Math.abs(times[0] - times[1]) : 0;
  for (const handler of await readConflictHandlers(session, table.local, type, apartUs)) {
    const { action, isNull, sameKey, row } = await call(session, handler, conflict);
    if (action === null) throw failed(handler, table, 'handler action may not be NULL!');
    if (action === 'SKIP') return { action: 'skip' };
    if (action === 'IGNORE') continue;
    if (isNull) throw failed(handler, table, 'handler action is ROW but returned row is NULL');
    if (sameKey !== true) throw failed(handler, table, 'the returned row has another key');
    return { action: 'row', row };
  }
  return undefined;
}

async function call(
  session: Session,
  handler: ConflictHandler,
  conflict: HandledConflict,
): Promise<Answer> {
  const { found } = handler;
  const { table } = conflict;
  if (!found) {
    throw failed(handler, table, `function ${handler.signature} does not exist on this node`);
  }
  if (found.flaw !== null) throw failed(handler, table, found.flaw);
  let answer: string;
  try {
    answer = await runRestricted(
      session,
      found.owner,
      callSql(quoteQualified(found.name), conflict),
    );
  } catch (error) {
    if (session.lost.aborted || isLockConflict(error)) throw error;
    throw failed(handler, table, messageOf(error), error);
  }
  return JSON.parse(answer) as Answer;
}

/** One SELECT of one text; values are constants, because there it can have no parameters. */
function callSql(name: string, { table, type, change, local, remote }: HandledConflict): string {
  const columns = [...table.local.columns.values()];
  const relation = quoteQualified(table.local.name);
  const given = [
    local ? composite(columns, local, relation) : `NULL::${relation}`,
    composite(columns, remote, relation),
    `'${change.toUpperCase()}'::text`,
    `${table.local.oid}::oid::regclass`,
    `'${type}'::bdr.bdr_conflict_type`,
  ];
  const names = columns.map((column) => quoteName(column.name));
  const values = columns.map((column) => `((h.r).${quoteIdent(column.name)})::text`);
  const key = table.key.columns.map(
    ({ name: column, local: found }) =>
      `${equalsSql(`(h.r).${quoteIdent(column)}`, found)} ${constant(remote[column], found?.type)}`,
  );
  return (
    `SELECT json_build_object('action', h.a, 'isNull', h.r IS NULL, 'sameKey', ${key.join(' AND ')},` +
    ` 'row', json_object(ARRAY[${names.join(', ')}]::text[], ARRAY[${values.join(', ')}]::text[]))::text` +
    ` FROM ${name}(${given.join(', ')}) AS h (r, a)`
  );
}

/** A row of the table; the order is that of its columns. */
function composite(columns: readonly LocalColumn[], texts: Texts, relation: string): string {
  const values = columns.map(({ name, type }) => constant(texts[name], type));
  return `ROW(${values.join(', ')})::${relation}`;
}

function constant(value: string | null | undefined, type = 'text'): string {
  return `${value === null || value === undefined ? 'NULL' : quoteLiteral(value)}::${type}`;
}

function failed(handler: ConflictHandler, table: Table, why: string, cause?: unknown): BdrError {
  return new BdrError('apply_failed', {
    message: `conflict handler "${handler.name}" of table ${displayName(table.local.name)} failed: ${why}`,
    detail: `It was to resolve a conflict that is noted in bdr.lost_write and waits there. Its function is ${handler.signature}.`,
    hint: 'Mend the function on this node, or drop the handler: bdr.bdr_drop_conflict_handler(…). The link goes on by itself.',
    ...(cause === undefined ? {} : { sqlstate: sqlstateOf(cause), cause }),
  });
}
