import { quoteIdent, quoteLiteral } from '../base/names.ts';
import { FOLLOWS } from '../catalog/ahead.ts';
import { withoutParams } from './inlined.ts';

/**
 * The text of a procedure that carries out local transactions one behind the other, commits included, within one call: pure.
 *
 * `steps` are what it can do, as code with parameters `$1`, `$2` and so on. Its own parameters: the position at which the session's
 * origin must stand, or null; which steps to take, in order, counted from 0; and the values of all their parameters, in order. A
 * name in code of ours that could be a column's is always qualified, so that names of variables win.
 */
export function procedureSql(name: string, steps: readonly string[]): string {
  const body = `
    #variable_conflict use_variable
    DECLARE
      bdr_step smallint;
      bdr_used integer := 0;
    BEGIN
      ${withoutParams(FOLLOWS, () => 'bdr_after')}
      FOREACH bdr_step IN ARRAY bdr_steps LOOP
        ${oneOf(steps, 0, steps.length)}
      END LOOP;
    END
  `;
  return (
    `CREATE PROCEDURE pg_temp.${quoteIdent(name)} (bdr_after pg_lsn, bdr_steps smallint[], bdr_values text[])` +
    ` LANGUAGE plpgsql AS ${quoteLiteral(body)}`
  );
}

export function callSql(name: string): string {
  return `CALL pg_temp.${quoteIdent(name)} ($1, $2, $3)`;
}

export function dropSql(name: string): string {
  return `DROP PROCEDURE pg_temp.${quoteIdent(name)}`;
}

/** As few comparisons as can be: there may be hundreds of steps. */
function oneOf(steps: readonly string[], from: number, to: number): string {
  if (to - from === 1) return taken(steps[from] ?? '');
  const middle = (from + to) >> 1;
  return `IF bdr_step < ${middle} THEN ${oneOf(steps, from, middle)} ELSE ${oneOf(steps, middle, to)} END IF;`;
}

function taken(step: string): string {
  let params = 0;
  const code = withoutParams(step, (number) => {
    params = Math.max(params, number);
    return `(bdr_values[bdr_used + ${number}])`;
  });
  return params === 0 ? code : `${code} bdr_used := bdr_used + ${params};`;
}
