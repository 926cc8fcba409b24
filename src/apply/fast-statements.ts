import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import { takingOneStep } from '../catalog/ahead.ts';
import type { Param } from '../postgres/session.ts';
import { columnParams, keyParams } from './local-rows.ts';
import type { Statement } from './prepared.ts';
import type { Unrecorded } from './row-tests.ts';
import { isComplete, UNSENT, type RowValues } from './row-values.ts';
import * as sql from './statements.ts';
import { hasFixedColumn, type Table, type TableColumn } from './table.ts';

/** The statements that take a row only where that is certain to be right without looking (DESIGN 4.2, rule 11): one row or none. */

/**
 * What becomes of a statement's text: itself; a statement that fails when it takes no row, for a batch; or the same as a step of a
 * procedure.
 */
export type Form = 'plain' | 'asserted' | 'step';

const FORMS: Readonly<Record<Form, (statement: string) => string>> = {
  plain: (statement) => statement,
  asserted: sql.takingOneSql,
  step: takingOneStep,
};

/** Inserts the row unless one is in its way. */
export function fastInsert(table: Table, values: RowValues): Statement {
  return inserting(table, values, 'insert', true);
}

/** As `fastInsert`; a row in the way is an error, so that it takes one row in every form. */
export function strictInsert(table: Table, values: RowValues, form: Form): Statement {
  return inserting(table, values, `strict insert ${form}`, false, form);
}

function inserting(
  table: Table,
  values: RowValues,
  name: string,
  skipExisting: boolean,
  form: Form = 'plain',
): Statement {
  const text = textOf(table, `${name} ${values.length}`, () => {
    const columns = sql.insertable(table, values);
    const insert = sql.insertSql(table, columns, skipExisting);
    return { sql: form === 'step' ? `${insert};` : insert, columns };
  });
  return { sql: text.sql, params: columnParams(text.columns, values) };
}

/** Rows that are taken without looking, beside the provider's own. */
export interface Certain {
  /** Those older than this. */
  readonly limit: PgTime;
  readonly unrecorded: Unrecorded;
}

/** Undefined when no UPDATE can do it. */
export function fastUpdate(
  table: Table,
  values: RowValues,
  providerOrigin: number,
  { limit, unrecorded }: Certain,
  form: Form = 'plain',
): Statement | undefined {
  const complete = isComplete(values);
  const sent = complete ? '' : values.map((value) => (value === UNSENT ? '0' : '1')).join('');
  const text = textOf(table, `update ${sent} ${form} ${unrecorded}`, () => {
    const columns =
      complete && hasFixedColumn(table)
        ? []
        : sql.updatable(table, sql.writable(table, sentIn(values)));
    const update = complete
      ? sql.fastUpdateSql(table, columns, unrecorded)
      : sql.ownUpdateSql(table, columns);
    return { sql: FORMS[form](update), columns };
  });
  if (text.columns.length === 0) return undefined;
  const params = [...columnParams(text.columns, values), ...keyParams(table, values)];
  params.push(providerOrigin);
  if (complete) params.push(formatPgTime(limit));
  return { sql: text.sql, params };
}

export function fastDelete(
  table: Table,
  old: RowValues,
  providerOrigin: number,
  { limit, unrecorded }: Certain,
  form: Form = 'plain',
): Statement {
  const { sql: text } = textOf(table, `delete ${form} ${unrecorded}`, () => {
    const remove = sql.fastDeleteSql(table, unrecorded);
    return { sql: FORMS[form](remove), columns: [] };
  });
  const params: Param[] = keyParams(table, old);
  params.push(providerOrigin, formatPgTime(limit));
  return { sql: text, params };
}

/** Tells of each column of the provider whether its value was sent. */
export function sentIn(values: RowValues): (position: number) => boolean {
  return (position) => values[position] !== UNSENT;
}

interface Text {
  readonly sql: string;
  /** Whose values it writes. */
  readonly columns: readonly TableColumn[];
}

const texts = new WeakMap<Table, Map<string, Text>>();

/** Made once for each table: making a statement's text takes longer than sending it. */
function textOf(table: Table, name: string, make: () => Text): Text {
  const ofTable = texts.get(table) ?? new Map<string, Text>();
  texts.set(table, ofTable);
  const text = ofTable.get(name) ?? make();
  ofTable.set(name, text);
  return text;
}
