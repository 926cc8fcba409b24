import { assert } from '../base/assert.ts';
import { quoteLiteral } from '../base/names.ts';
import type { Param } from '../postgres/session.ts';

/** A name or constant in quotes, which is left alone, or a parameter. */
const QUOTED_OR_PARAM = /"(?:[^"]|"")*"|'(?:[^']|'')*'|\$(\d+)/g;

/**
 * A statement of src/apply/statements.ts with something else in the place of each parameter; `number` counts from 1. Those
 * statements hold no other quotes than plain ones.
 */
export function withoutParams(sql: string, replacement: (number: number) => string): string {
  return sql.replace(QUOTED_OR_PARAM, (found, number: string | undefined) =>
    number === undefined ? found : replacement(Number(number)),
  );
}

/**
 * A statement of src/apply/statements.ts with its parameters as constants. Both are read by the input function of the type that
 * they are cast to.
 */
export function inlined(sql: string, params: readonly Param[]): string {
  return withoutParams(sql, (number) => {
    const value = params[number - 1];
    assert(value !== undefined, `parameter $${number} has a value`);
    assert(!Buffer.isBuffer(value), 'values of rows that are written one by one are text');
    return value === null ? 'NULL' : `(${quoteLiteral(String(value))})`;
  });
}
