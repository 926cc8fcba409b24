import { quoteIdent, quoteQualified } from '../base/names.ts';
import { pgTimeSql } from '../base/pg-time.ts';
import { LOOK_AGAIN } from '../catalog/ahead.ts';
import type { LocalColumn } from '../postgres/relation-info.ts';
import { ORIGIN, OWN, versionTest, type Unrecorded } from './row-tests.ts';
import type { RowValues } from './row-values.ts';
import type { Table, TableColumn } from './table.ts';

/**
 * SQL on user tables, as text: pure. Every value is a parameter cast to its column's type, every name is quoted. In the order
 * of parameters, what a statement writes comes first, then the key, then what the version test needs.
 */

/** Columns that a statement writes: those with a local counterpart, as far as their values were sent. */
export function writable(
  table: Table,
  isSent: (position: number) => boolean = () => true,
): readonly TableColumn[] {
  return table.columns.filter((column) => column.local !== undefined && isSent(column.position));
}

/** Columns that an INSERT of a row writes: those of `writable`, and what the row brings along of this node's own. */
export function insertable(table: Table, values: RowValues): readonly TableColumn[] {
  const columns = writable(table);
  return values.length > table.columns.length ? [...columns, ...table.kept] : columns;
}

/** With `skipExisting`, a row that is already here is seen as one row not taken, and not as an error. */
export function insertSql(
  table: Table,
  columns: readonly TableColumn[],
  skipExisting: boolean,
): string {
  const name = quoteQualified(table.local.name);
  const onConflict = skipExisting ? ` ON CONFLICT ${arbiter(table)}DO NOTHING` : '';
  if (columns.length === 0) return `INSERT INTO ${name} DEFAULT VALUES${onConflict}`;
  const names = columns.map((column) => quoteIdent(column.name)).join(', ');
  const values = columns.map((column, index) => param(index + 1, column)).join(', ');
  return `INSERT INTO ${name} (${names}) OVERRIDING SYSTEM VALUE VALUES (${values})${onConflict}`;
}

/** Any unique index counts, unless one of them is deferrable: ON CONFLICT cannot use those, so there the key is named. */
export function arbiter(table: Table): string {
  if (!table.local.deferrable) return '';
  return `(${table.key.columns.map((column) => quoteIdent(column.name)).join(', ')}) `;
}

/**
 * An UPDATE by key that takes the row only where that is certain to be right without looking: the row is this provider's own, or
 * older than the change and seen by its writer, or without record (DESIGN 4.2, rule 11). The condition stands on the target
 * table, so that it is tested again on the new row after a wait for a lock. Parameters after the key: the provider's origin
 * number, then the greatest commit time to overwrite.
 */
export function fastUpdateSql(
  table: Table,
  columns: readonly TableColumn[],
  unrecorded: Unrecorded = 'taken',
): string {
  const sets = setList(columns);
  const key = keyCondition(table, sets.count + 1);
  return `UPDATE ONLY ${quoteQualified(table.local.name)} AS t SET ${sets.sql} WHERE ${key.sql} AND ${versionTest(key.next, unrecorded)}`;
}

/** A statement that takes one row, as one that fails when it takes none: for what is sent without waiting for its answer. */
export function takingOneSql(sql: string): string {
  return (
    `WITH taken AS (${sql} RETURNING 1)` +
    ` SELECT CASE WHEN count(*) = 1 THEN true ELSE bdr.internal_look_again('${LOOK_AGAIN.row}') END FROM taken`
  );
}

/**
 * An UPDATE by key for a change that leaves out TOASTed values: only the provider's own row holds what was left out, and one that
 * this same transaction wrote. Parameter after the key: the provider's origin number.
 */
export function ownUpdateSql(table: Table, columns: readonly TableColumn[]): string {
  const sets = setList(columns);
  const key = keyCondition(table, sets.count + 1);
  return (
    `UPDATE ONLY ${quoteQualified(table.local.name)} AS t SET ${sets.sql} WHERE ${key.sql}` +
    ` AND (${ORIGIN} = $${key.next}::oid OR ${OWN})`
  );
}

export function fastDeleteSql(table: Table, unrecorded: Unrecorded = 'taken'): string {
  const key = keyCondition(table, 1);
  return `DELETE FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE ${key.sql} AND ${versionTest(key.next, unrecorded)}`;
}

/**
 * Reads and locks the row under a key, with what decides about it. The version is taken in the select list: it is computed
 * again when the row turns out to have changed before the lock.
 *
 * Under a deferrable key there may be two rows for a while: the one that looks like the provider's old row is meant. If both do, it is
 * the one that this transaction has written, as it came from there; if neither does, it is the other. There the values of `key.alike`
 * follow the key.
 */
export function fetchSql(table: Table): string {
  if (!table.key.deferrable) return `${fetchAllSql(table, 'LIMIT 1')}`;
  const { next } = keyCondition(table, 1);
  const alike = conditions(table.key.alike, next, textEquals).sql;
  const order = `(${alike}) DESC, (${alike}) = coalesce(${OWN}, false) DESC`;
  return fetchAllSql(table, `ORDER BY ${order} LIMIT 1`);
}

/** As `fetchSql`, for every row under the key. */
export function fetchAllSql(table: Table, choice = ''): string {
  const key = keyCondition(table, 1);
  return (
    `SELECT ${rowFacts(table)}` +
    ` FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE ${key.sql} ${choice} FOR UPDATE`
  );
}

/**
 * As `fetchSql`, for many keys; the parameters are those of `foundAmongSql`. `n` is a key's position in the arrays, from 1; `bytes` about
 * how large the row's long values are as text, with `withBytes`.
 */
export function fetchAmongSql(table: Table, withBytes: boolean): string {
  const { given, equal } = keysGiven(table);
  return (
    `SELECT k.n, ${rowFacts(table)}, ${withBytes ? longBytes(table) : '0'} AS bytes` +
    ` FROM ${given} JOIN ONLY ${quoteQualified(table.local.name)} AS t ON ${equal} FOR UPDATE OF t`
  );
}

/** Values that were compressed to less than this are not long. */
const LEAST_LONG = 2000;

function longBytes({ local }: Table): string {
  const sizes = [...local.columns.values()]
    .filter(({ isVarlena }) => isVarlena)
    .map(({ name, type }) => {
      const value = `t.${quoteIdent(name)}`;
      // As text, one of more than 256 MB would be an error.
      const text = type === 'bytea' ? value : `${value}::text`;
      return `coalesce(CASE WHEN pg_column_size(${value}) > ${LEAST_LONG} THEN octet_length(${text})::bigint END, 0)`;
    });
  return sizes.length > 0 ? sizes.join(' + ') : '0';
}

/** What decides about a row `t`, as a select list: see src/apply/local-rows.ts. */
export function rowFacts(table: Table): string {
  const keyJson = table.key.kind === 'unique' ? `${keyJsonSql(table)}::text` : 'NULL';
  return (
    `t.ctid::text AS ctid, t.xmin::text AS xmin, ${keyJson} AS key,` +
    ` ${OWN} AS own, ${pgTimeSql('(pg_xact_commit_timestamp_origin(t.xmin)).timestamp')} AS time,` +
    ` ${ORIGIN} AS origin`
  );
}

/** The key of a row `t` as bdr.row_version keeps it. */
function keyJsonSql(table: Table): string {
  const pairs = table.key.columns.map(
    ({ name }) => `${quoteName(name)}, t.${quoteIdent(name)}::text`,
  );
  return `jsonb_build_object(${pairs.join(', ')})`;
}

/** Writes the row that `fetchSql` has locked. The last parameter is its ctid. */
export function lockedUpdateSql(table: Table, columns: readonly TableColumn[]): string {
  const sets = setList(columns);
  return `UPDATE ONLY ${quoteQualified(table.local.name)} AS t SET ${sets.sql} WHERE t.ctid = $${sets.count + 1}::tid`;
}

export function lockedDeleteSql(table: Table): string {
  return `DELETE FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE t.ctid = $1::tid`;
}

/** The same for many: a parameter, their ctids as tid[]. */
export function lockedDeletesSql(table: Table): string {
  return `DELETE FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE t.ctid = ANY ($1::tid[])`;
}

/** Reads rows that are locked and their keys as JSON text, by their ctids: a parameter, as tid[]. */
export function lockedJsonSql({ local, key }: Table, withRows: boolean): string {
  const names = key.columns.map(({ name }) => `t.${quoteIdent(name)}`).join(', ');
  const keyJson =
    key.kind === 'unique' ? `(SELECT row_to_json(k.*)::text FROM (SELECT ${names}) AS k)` : 'NULL';
  const row = withRows ? 'row_to_json(t.*)::text' : 'NULL';
  return (
    `SELECT t.ctid::text AS ctid, ${row} AS row, ${keyJson} AS key` +
    ` FROM ONLY ${quoteQualified(local.name)} AS t WHERE t.ctid = ANY ($1::tid[])`
  );
}

/** Reads columns of the row that `fetchSql` has locked, as text. */
export function lockedColumnsSql(table: Table, columns: readonly TableColumn[]): string {
  const list = columns.map(
    (column) => `t.${quoteIdent(column.name)}::text AS ${quoteIdent(column.name)}`,
  );
  return `SELECT ${list.join(', ')} FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE t.ctid = $1::tid`;
}

/**
 * Whether the row that `fetchSql` has locked holds certain values. Parameters: the values of the columns, then its ctid.
 */
export function holdsSql(table: Table, columns: readonly TableColumn[]): string {
  const { sql, next } = conditions(columns, 1, textEquals);
  return `SELECT (${sql}) AS holds FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE t.ctid = $${next}::tid`;
}

/** The row that `fetchSql` has locked as a JSON object, all columns by name as text. The parameter is its ctid. */
export function rowAsTextsSql({ local }: Table): string {
  const columns = [...local.columns.values()];
  const names = columns.map(({ name }) => quoteName(name));
  const values = columns.map(({ name }) => `t.${quoteIdent(name)}::text`);
  return (
    `SELECT json_object(ARRAY[${names.join(', ')}]::text[], ARRAY[${values.join(', ')}]::text[])::text AS texts` +
    ` FROM ONLY ${quoteQualified(local.name)} AS t WHERE t.ctid = $1::tid`
  );
}

/** Reads columns of one row by key, as text: asked of the provider for values that its stream left out. */
export function readColumnsSql(table: Table, columns: readonly TableColumn[]): string {
  const list = columns.map(
    (column) => `t.${quoteIdent(column.name)}::text AS ${quoteIdent(column.name)}`,
  );
  const name = quoteQualified({ schema: table.relation.schema, name: table.relation.name });
  return `SELECT ${list.join(', ')} FROM ONLY ${name} AS t WHERE ${keyCondition(table, 1).sql} LIMIT 1`;
}

/** Asked of the provider: the origin of its row under a key, as text; 0 is its own. */
export function originSql(table: Table): string {
  const name = quoteQualified({ schema: table.relation.schema, name: table.relation.name });
  return `SELECT ${ORIGIN}::text AS origin FROM ONLY ${name} AS t WHERE ${keyCondition(table, 1).sql} LIMIT 1`;
}

/** Whether a table has rows whose commit records are gone. */
export function hasUnrecordedSql(table: Table): string {
  return (
    `SELECT EXISTS (SELECT FROM ONLY ${quoteQualified(table.local.name)} AS t` +
    ` WHERE pg_xact_commit_timestamp(t.xmin) IS NULL AND ${OWN} IS NOT TRUE) AS any`
  );
}

/**
 * Writes some rows of this node's users again as they are, from a transaction on and up to a time. Rows that others hold are left.
 * Parameters: the time, the transaction's id. Undefined where no UPDATE can do it.
 */
export function rewriteLateRowsSql(table: Table, most: number): string | undefined {
  return rewriteSql(table, LATE, most);
}

/** Whether there is such a row; the same parameters. */
export function hasLateRowsSql(table: Table): string {
  return hasRowsSql(table, LATE);
}

/**
 * As `rewriteLateRowsSql`, of rows that peers' changes have written here: from a transaction on, before another, and between two times.
 * Parameters: the earlier and the later time, the earlier id, the later id.
 */
export function rewritePeerRowsSql(table: Table, most: number): string | undefined {
  return rewriteSql(table, OF_PEERS, most, rewrittenWhole(table));
}

/** Whether there is such a row; the same parameters. */
export function hasPeerRowsSql(table: Table): string {
  return hasRowsSql(table, OF_PEERS);
}

/** As `rewriteLateRowsSql`, of everybody's rows that were committed up to a time. Parameter: the time. */
export function rewriteOldRowsSql(table: Table, most: number): string | undefined {
  return rewriteSql(table, OLD, most);
}

/** Whether there is such a row; the same parameter. */
export function hasOldRowsSql(table: Table): string {
  return hasRowsSql(table, OLD);
}

const OLD = `(pg_xact_commit_timestamp(t.xmin) <= $1::timestamptz) IS NOT FALSE AND ${OWN} IS NOT TRUE`;

function rewriteSql(
  table: Table,
  condition: string,
  most: number,
  otherwise: ReadonlyMap<string, string> = new Map(),
): string | undefined {
  const column = rewritable(table);
  if (!column) return undefined;
  const [name, first] = [quoteQualified(table.local.name), quoteIdent(column.name)];
  const sets = [...new Map([[first, `t.${first}`], ...otherwise])].map((set) => set.join(' = '));
  return (
    `UPDATE ONLY ${name} AS t SET ${sets.join(', ')} WHERE t.ctid = ANY (ARRAY(` +
    `SELECT t.ctid FROM ONLY ${name} AS t WHERE ${condition} LIMIT ${most} FOR UPDATE SKIP LOCKED))`
  );
}

/**
 * Of a row of a peer all long values are to be sent, and those that stay the same are not: a peer that has an older row of this node there
 * would keep what that had. Written as text by a function, and read back, a value is another one. By column, quoted, what it is set to.
 */
function rewrittenWhole(table: Table): Map<string, string> {
  return new Map(
    settable(longColumns(table)).map(({ name, local }) => {
      const column = quoteIdent(name);
      const whole = `pg_catalog.concat(t.${column})::${local?.type}`;
      return [column, `CASE WHEN t.${column} IS NULL THEN t.${column} ELSE ${whole} END`];
    }),
  );
}

function hasRowsSql(table: Table, condition: string): string {
  return `SELECT EXISTS (SELECT FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE ${condition}) AS any`;
}

/** What users wrote late. An id has 32 bits in a row: one that is no older than another lies no further behind. */
const LATE =
  `${ORIGIN} = 0 AND pg_xact_commit_timestamp(t.xmin) <= $1::timestamptz` +
  ` AND age(t.xmin) <= age(($2::xid8)::xid)`;

/** What was applied meanwhile, and may have taken the place of such a row. */
const OF_PEERS =
  `${ORIGIN} <> 0 AND pg_xact_commit_timestamp(t.xmin) BETWEEN $1::timestamptz AND $2::timestamptz` +
  ` AND age(t.xmin) <= age(($3::xid8)::xid) AND age(t.xmin) > age(($4::xid8)::xid)`;

/**
 * Writes the row of a key again, unchanged, where a user of this node wrote it: as a new version of it. Undefined where no column can
 * be set.
 */
export function ownRowAgainSql(table: Table): string | undefined {
  const column = rewritable(table);
  if (!column) return undefined;
  const name = quoteIdent(column.name);
  return `UPDATE ONLY ${quoteQualified(table.local.name)} AS t SET ${name} = t.${name} WHERE ${keyCondition(table, 1).sql} AND ${ORIGIN} = 0`;
}

/** A row below a TRUNCATE: of its commit time, a statement's first parameter, and of the origins that lose to it at equal times, the second. */
const OLDER_THAN_TRUNCATE =
  `(pg_xact_commit_timestamp(t.xmin) < $1::timestamptz` +
  ` OR pg_xact_commit_timestamp(t.xmin) = $1::timestamptz AND ${ORIGIN} = ANY ($2::oid[]))`;

/**
 * Removes the rows that lose to a TRUNCATE. Parameters: the truncate's commit time, the origin numbers of the nodes that lose to the
 * provider at equal times, and the provider's origin number. With a key, then: the origin numbers of copies, whose stamps say
 * nothing, and the keys of copied rows that stay, as bdr.row_version has them.
 */
export function truncateSql(table: Table): string {
  const copied = ` OR ${ORIGIN} = ANY ($4::oid[]) AND ${keyJsonSql(table)} <> ALL ($5::text[]::jsonb[])`;
  return (
    `DELETE FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE (${OLDER_THAN_TRUNCATE} OR ${ORIGIN} = $3::oid` +
    `${table.key.kind === 'unique' ? copied : ''}) IS NOT FALSE`
  );
}

/**
 * Locks rows of this node's own users that lose to a provider's TRUNCATE and that its writer may not have had. Parameters: the TRUNCATE's
 * commit time, the origin numbers of the nodes that lose to the provider at equal times, up to when the provider had applied what this
 * node's users wrote, and the ctids between which it looks.
 */
export function unseenTruncatedSql(table: Table): string {
  return (
    `SELECT ${rowFacts(table)} FROM ONLY ${quoteQualified(table.local.name)} AS t` +
    ` WHERE ${ORIGIN} = 0 AND ${OLDER_THAN_TRUNCATE} AND pg_xact_commit_timestamp(t.xmin) > $3::timestamptz` +
    ` AND t.ctid >= $4::tid AND t.ctid < $5::tid FOR UPDATE`
  );
}

/** The least commit time, as PgTime, of the so many rows of this node's own users that are newest; NULL where there are not more. */
export function newestSql(table: Table, count: number): string {
  return (
    `SELECT ${pgTimeSql('pg_xact_commit_timestamp(t.xmin)')} AS time FROM ONLY ${quoteQualified(table.local.name)} AS t` +
    ` WHERE ${ORIGIN} = 0 AND pg_xact_commit_timestamp(t.xmin) IS NOT NULL` +
    ` ORDER BY pg_xact_commit_timestamp(t.xmin) DESC OFFSET ${count} LIMIT 1`
  );
}

/**
 * Locks rows that other nodes wrote before this node truncated the table, and that came in only afterwards. Parameters: the
 * truncate's commit time, the origin numbers of the nodes that lose to this one at equal times, and the ctids between which it looks.
 */
export function truncatedRestSql(table: Table): string {
  return `SELECT ${rowFacts(table)} ${truncatedRest(table)} AND t.ctid >= $3::tid AND t.ctid < $4::tid FOR UPDATE`;
}

/** Whether `truncatedRestSql` would find anything anywhere; the same parameters without the ctids. */
export function hasTruncatedRestSql(table: Table): string {
  return `SELECT EXISTS (SELECT ${truncatedRest(table)}) AS any`;
}

function truncatedRest(table: Table): string {
  return `FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE ${ORIGIN} <> 0 AND ${OLDER_THAN_TRUNCATE}`;
}

/** Keys of rows that other nodes wrote, as text named `c0`, `c1` …, each with the number of its origin. */
export function keysOfOthersSql(table: Table): string {
  const list = table.key.columns.map(
    ({ name }, index) => `t.${quoteIdent(name)}::text AS c${index}`,
  );
  return `SELECT ${[...list, `${ORIGIN}::text AS origin`].join(', ')} FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE ${ORIGIN} <> 0`;
}

/**
 * Which of the given keys have a row here, by anybody or by another node than this. Parameters: for each column of the key its
 * values, as an array of text. Returns positions in the arrays, from 1.
 */
export function foundAmongSql(table: Table, by: 'anybody' | 'others'): string {
  const { given, equal } = keysGiven(table);
  return (
    `SELECT k.n FROM ${given} WHERE EXISTS (SELECT FROM ONLY ${quoteQualified(table.local.name)} AS t` +
    ` WHERE ${equal}${by === 'others' ? ` AND ${ORIGIN} <> 0` : ''}) ORDER BY k.n`
  );
}

/**
 * Reads columns of many rows by key, as text named `c0`, `c1` …: asked of the provider. Parameters: for each column of the key its
 * values, as an array of text. `n` is the key's position in the arrays, from 1.
 */
export function readAmongSql(table: Table, columns: readonly TableColumn[]): string {
  const list = columns.map((column, index) => `t.${quoteIdent(column.name)}::text AS c${index}`);
  const name = quoteQualified({ schema: table.relation.schema, name: table.relation.name });
  const { given, equal } = keysGiven(table);
  return `SELECT k.n, ${list.join(', ')} FROM ${given} JOIN ONLY ${name} AS t ON ${equal}`;
}

/** Keys as arrays of text, one for each column, as rows `k`, and where `t` has such a row. */
function keysGiven({ key: { columns } }: Table): { given: string; equal: string } {
  const arrays = columns.map((_, index) => `$${index + 1}::text[]`);
  const names = columns.map((_, index) => `key${index}`);
  const equal = columns.map(
    ({ name, local }, index) =>
      `${equalsSql(`t.${quoteIdent(name)}`, local)} k.key${index}::${local?.type ?? 'text'}`,
  );
  return {
    given: `unnest(${arrays.join(', ')}) WITH ORDINALITY AS k (${names.join(', ')}, n)`,
    equal: equal.join(' AND '),
  };
}

/** What is read of a conflict: `found`, there is a local row; the change's columns; those of them that are its key. */
export interface ConflictColumns {
  readonly found: boolean;
  readonly columns: readonly TableColumn[];
  readonly key: readonly TableColumn[];
}

/**
 * Both rows of a conflict and the change's key as JSON, typed by the local table. Parameters: the values of `columns`, then, where
 * a row was found, its ctid.
 */
export function conflictRowsSql(table: Table, { found, columns, key }: ConflictColumns): string {
  const list = columns.map(
    (column, index) => `${param(index + 1, column)} AS ${quoteIdent(column.name)}`,
  );
  const local = found
    ? `(SELECT row_to_json(t.*)::text FROM ONLY ${quoteQualified(table.local.name)} AS t WHERE t.ctid = $${columns.length + 1}::tid)`
    : 'NULL';
  const remote = columns.length > 0 ? 'row_to_json(r.*)::text' : 'NULL';
  const names = key.map(({ name }) => `r.${quoteIdent(name)}`).join(', ');
  const keyJson =
    key.length > 0 ? `(SELECT row_to_json(k.*)::text FROM (SELECT ${names}) AS k)` : 'NULL';
  return `SELECT ${local} AS local, ${remote} AS remote, ${keyJson} AS key FROM (SELECT ${list.join(', ')}) AS r`;
}

/** Columns that an UPDATE of a peer may leave out, because it did not change their long values. */
export function longColumns(table: Table): TableColumn[] {
  return table.columns.filter(
    (column) => column.local?.isVarlena && !table.key.columns.includes(column),
  );
}

/**
 * Columns that an UPDATE by key sets. Key columns are equal already, and left out they let the server keep index entries. One
 * is set where there is no other column, because the row must get the change's version.
 */
export function updatable(table: Table, columns: readonly TableColumn[]): readonly TableColumn[] {
  const all = settable(columns);
  const payload =
    table.key.kind === 'unique' ? all.filter((column) => !table.key.columns.includes(column)) : all;
  return payload.length > 0 ? payload : all.slice(0, 1);
}

/** A column that can be set to what it is, to write a row again. */
function rewritable(table: Table): TableColumn | undefined {
  return updatable(table, writable(table))[0] ?? settable(table.kept)[0];
}

/** A GENERATED ALWAYS identity cannot be set, not even in replica role: there may be no column that can. */
export function settable(columns: readonly TableColumn[]): readonly TableColumn[] {
  return columns.filter((column) => !column.local?.identityAlways);
}

function setList(columns: readonly TableColumn[]): { sql: string; count: number } {
  const sql = columns
    .map((column, index) => `${quoteIdent(column.name)} = ${param(index + 1, column)}`)
    .join(', ');
  return { sql, count: columns.length };
}

/** Finds rows by key. A whole row is compared by its text, null like any value: not every type has an equality operator. */
function keyCondition(table: Table, first: number): Conditions {
  const { kind, columns } = table.key;
  const equals = (column: string, position: number, { local }: TableColumn) =>
    `${equalsSql(column, local)} $${position}${local ? `::${local.type}` : ''}`;
  return conditions(columns, first, kind === 'unique' ? equals : textEquals);
}

/**
 * A value of a key's column and the operator that compares it, up to the other value, of the column's type. A domain counts as what it is
 * made of: the operators of enums do not take domains over these.
 */
export function equalsSql(value: string, local: LocalColumn | undefined): string {
  return `${value}${local?.isDomain ? `::${local.type}` : ''} ${local?.equals ?? '='}`;
}

interface Conditions {
  readonly sql: string;
  /** The number of the first parameter after those used. */
  readonly next: number;
}

function conditions(
  columns: readonly TableColumn[],
  first: number,
  compare: (column: string, position: number, table: TableColumn) => string,
): Conditions {
  const list = columns.map((column, index) =>
    compare(`t.${quoteIdent(column.name)}`, first + index, column),
  );
  return {
    sql: list.length === 0 ? 'true' : list.join(' AND '),
    next: first + columns.length,
  };
}

function textEquals(column: string, position: number, { local }: TableColumn): string {
  return `${column}::text IS NOT DISTINCT FROM $${position}${local ? `::${local.type}` : ''}::text`;
}

function param(index: number, column: TableColumn): string {
  const type = column.local?.type;
  return type === undefined ? `$${index}` : `$${index}::${type}`;
}

/** A column's name as a string constant. */
export function quoteName(name: string): string {
  return `'${name.replaceAll("'", "''")}'`;
}
