import { assert } from '../base/assert.ts';
import { quoteLiteral } from '../base/names.ts';
import type { Param } from '../postgres/session.ts';

/** A name or constant in quotes, which is left alone, or a parameter. */
const QUOTED_OR_PARAM = /"(?:[^"]|"")*"|'(?:[^']|'')*'|\$(\d+)/g;

/**
 * A statement of src/apply/statements.ts with its parameters as constants. Both are read by the input function of the type that
 * they are cast to. Those statements hold no other quotes than plain ones.
 */
export function inlined(sql: string, params: readonly Param[]): string {
  return sql.replace(QUOTED_OR_PARAM, (found, number: string | undefined) => {
    if (number === undefined) return found;
    const value = params[Number(number) - 1];
    assert(value !== undefined, `parameter ${found} has a value`);
    assert(!Buffer.isBuffer(value), 'values of rows that are written one by one are text');
    return value === null ? 'NULL' : `(${quoteLiteral(String(value))})`;
  });
}
