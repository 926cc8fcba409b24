import { quoteIdent, quoteQualified } from '../base/names.ts';
import type { UniqueIndex, Uniqueness } from '../postgres/unique-indexes.ts';
import { rowFacts } from './statements.ts';
import type { Table, TableColumn } from './table.ts';

/**
 * SQL that finds, through a unique index, the rows which have the same value there as a row that is to be written, as text: pure.
 *
 * The index's own expressions are evaluated over both rows and compared with its own operators and collations, under its own
 * predicate: so what is found is what the server would refuse, and the index is what it is found by. Values compared here, or
 * read from the error's text, would not be that: expressions, collations, types of their own, nulls.
 */

/** Where the row that is to be written comes from. */
export interface Candidate {
  /** Columns whose values are parameters, the first ones, in this order. */
  readonly sent: readonly TableColumn[];
  /** It is to replace the row whose ctid is the parameter behind those, and has the rest of its values. */
  readonly replaces: boolean;
}

/** Reads and locks the rows that have the candidate's value in an index, but for the one that it replaces. */
export function rivalsSql(
  table: Table,
  { generated }: Uniqueness,
  index: UniqueIndex,
  candidate: Candidate,
): string {
  const values = index.terms.map(
    ({ expression, cast }, n) => `(${expression})${cast} AS bdr_value${n}`,
  );
  const equal = index.terms.map(({ expression, cast, collate, equals }, n) => {
    const value = `bdr_new.bdr_value${n}`;
    const same = `(${expression})${cast}${collate} ${equals} ${value}`;
    return index.nullsNotDistinct
      ? `(${same} OR (${expression}) IS NULL AND ${value} IS NULL)`
      : same;
  });
  const predicate = index.predicate === null ? 'true' : `(${index.predicate})`;
  const others = candidate.replaces ? ` AND t.ctid <> $${candidate.sent.length + 1}::tid` : '';
  return (
    `SELECT ${rowFacts(table)} FROM ONLY ${quoteQualified(table.local.name)} AS t,` +
    ` (SELECT ${values.join(', ')} FROM (${candidateSql(table, generated, candidate)}) AS r WHERE ${predicate}) AS bdr_new` +
    ` WHERE ${[...equal, predicate].join(' AND ')}${others} FOR UPDATE OF t`
  );
}

/** The candidate as one row with all columns of the local table. What only that has, and no row gives, is null. */
function candidateSql(
  table: Table,
  generated: Uniqueness['generated'],
  { sent, replaces }: Candidate,
): string {
  const columns = [...table.local.columns.values()].filter((column) => !column.generated);
  const list = columns.map(({ name, type }) => {
    const at = sent.findIndex((column) => column.name === name);
    const quoted = quoteIdent(name);
    if (at >= 0) return `$${at + 1}::${type} AS ${quoted}`;
    return replaces ? `b.${quoted}` : `NULL::${type} AS ${quoted}`;
  });
  const from = replaces
    ? ` FROM ONLY ${quoteQualified(table.local.name)} AS b WHERE b.ctid = $${sent.length + 1}::tid`
    : '';
  const plain = `SELECT ${list.join(', ')}${from}`;
  if (generated.length === 0) return plain;
  const computed = generated.map(
    ({ name, expression }) => `(${expression}) AS ${quoteIdent(name)}`,
  );
  return `SELECT p.*, ${computed.join(', ')} FROM (${plain}) AS p`;
}
