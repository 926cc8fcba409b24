import { BdrError } from '../base/errors.ts';
import { displayName } from '../base/names.ts';
import type { Policy, TablePolicy } from '../conflict/policy.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import type { Tuple } from '../pgoutput/tuple.ts';
import type { LocalColumn, LocalRelation } from '../postgres/relation-info.ts';
import { readValues, sameValue, type RowValues, type UNSENT } from './row-values.ts';

/** A column of the provider's relation with its local counterpart, matched by name. */
export interface TableColumn {
  /** Position in the provider's tuples. */
  readonly position: number;
  /** The local column, if changes write it; undefined when there is none, when the server computes it, or when its values stay on each node. */
  readonly local: LocalColumn | undefined;
  readonly name: string;
  readonly missing: boolean;
}

/** How rows are found: by the columns of a unique key, or, without any, by all columns at once. */
export interface TableKey {
  readonly kind: 'unique' | 'whole-row' | 'none';
  readonly columns: readonly TableColumn[];
  /** The relation's replica identity, which the provider holds unique at every moment. */
  readonly isIdentity: boolean;
  /** Checked here only at the end of a transaction, so that in its course two rows may have one key. */
  readonly deferrable: boolean;
  /** With a deferrable key: the columns by which two such rows are told apart. */
  readonly alike: readonly TableColumn[];
}

/** A relation as the provider describes it, joined to the local table of the same name. */
export interface Table {
  readonly relation: Relation;
  readonly local: LocalRelation;
  readonly columns: readonly TableColumn[];
  /**
   * Columns that have values of this node's own, which changes leave alone: local columns, and what only the local table has. Their
   * positions are behind the provider's: a row that is longer brings them along (see `withKept`).
   */
  readonly kept: readonly TableColumn[];
  /** Positions of local columns in the provider's tuples, where it has sent them all the same. */
  readonly staying: ReadonlySet<number>;
  readonly key: TableKey;
  /**
   * OID of the owner, where the table runs his code when its rows are read or written: that is done with his rights. Undefined
   * where it runs none, or where he is a superuser.
   */
  readonly role: string | undefined;
  /** What must stay as it is while the table is used, because an ordinary role could change it so that it runs code. */
  readonly hold: 'nothing' | 'table' | 'table and casts';
  /** Its rows run code of users, a superuser's too: that may say NOTIFY. */
  readonly runsCode: boolean;
  /** Undefined for last update wins. */
  readonly policy: TablePolicy | undefined;
}

/** How conflicts of the table are resolved. */
export function policyOf({ policy }: Table): Policy {
  return policy?.name ?? 'last_update_wins';
}

/** How far the local table's owner is trusted; see `Table`. */
export type TableTrust = Pick<Table, 'role' | 'hold' | 'runsCode'>;

const TRUSTED: TableTrust = { role: undefined, hold: 'nothing', runsCode: false };

/**
 * Joins the provider's relation to the local table, column by name: dropped columns and column order do not matter. Local columns, and
 * those that only the local table has, keep their value, or take their default.
 */
export function joinTable(
  relation: Relation,
  local: LocalRelation,
  trust: TableTrust = TRUSTED,
  policy?: TablePolicy,
): Table {
  const columns = relation.columns.map((column, position): TableColumn => {
    const found = local.columns.get(column.name);
    return {
      position,
      name: column.name,
      local: found?.generated || found?.stays ? undefined : found,
      missing: found === undefined,
    };
  });
  const isStaying = ({ name }: TableColumn) => local.columns.get(name)?.stays === true;
  return {
    relation,
    local,
    columns,
    kept: keptOf(local, columns),
    staying: new Set(columns.filter(isStaying).map(({ position }) => position)),
    key: keyOf(relation, local, columns),
    ...trust,
    policy,
  };
}

function keptOf(local: LocalRelation, columns: readonly TableColumn[]): TableColumn[] {
  const written = new Set(columns.map((column) => column.local?.name));
  return [...local.columns.values()]
    .filter(({ name, generated }) => !generated && !written.has(name))
    .map((column, index) => ({
      position: columns.length + index,
      name: column.name,
      local: column,
      missing: false,
    }));
}

/** The values of a row; of columns whose values stay on each node none, even where the provider has sent some. */
export function rowOf({ staying }: Table, tuple: Tuple): RowValues {
  const values = readValues(tuple);
  if (staying.size === 0) return values;
  return values.map((value, position) => (staying.has(position) ? null : value));
}

/** A row together with what this node has in the columns that changes leave alone: for one that is deleted and inserted again. */
export function withKept(
  { columns }: Table,
  values: RowValues,
  kept: readonly (string | null)[],
): RowValues {
  return [...values.slice(0, columns.length), ...kept];
}

function keyOf(
  relation: Relation,
  local: LocalRelation,
  columns: readonly TableColumn[],
): TableKey {
  const flagged = columns.filter(({ position }) => relation.columns[position]?.isKey);
  // REPLICA IDENTITY FULL flags every column: the primary key finds the row better, where there is one.
  if (relation.replicaIdentity !== 'full' && local.generatedKeyColumn !== undefined)
    throw generatedKey(local, local.generatedKeyColumn);
  if (flagged.length > 0 && relation.replicaIdentity !== 'full') {
    return uniqueKey(local, columns, flagged, true);
  }
  const primary = local.primaryKey.map((name) => columns.find((column) => column.name === name));
  if (primary.length > 0 && primary.every((column) => column !== undefined)) {
    return uniqueKey(local, columns, primary, false);
  }
  const none = { isIdentity: false, deferrable: false, alike: [] };
  return flagged.length > 0
    ? { kind: 'whole-row', columns: flagged.filter(({ local: found }) => found), ...none }
    : { kind: 'none', columns: [], ...none };
}

/** What is sent of the key means other rows here. */
function generatedKey({ name }: LocalRelation, column: string): BdrError {
  return new BdrError('apply_failed', {
    message: `the key of table ${displayName(name)} has generated column "${column}", which is not sent`,
    hint: 'With SET bdr.skip_ddl_replication = on, give the table another PRIMARY KEY or REPLICA IDENTITY on all nodes; then skip the transaction on each (docs/guides/recover.md) and make the rows equal.',
  });
}

function uniqueKey(
  local: LocalRelation,
  columns: readonly TableColumn[],
  key: readonly TableColumn[],
  isIdentity: boolean,
): TableKey {
  const names = key.map(({ name }) => name).sort();
  const immediate = local.immediateKeys.some(
    (other) => [...other].sort().join('\0') === names.join('\0'),
  );
  const deferrable = local.deferrable && !immediate;
  return {
    kind: 'unique',
    columns: key,
    isIdentity,
    deferrable,
    alike: deferrable ? columns.filter(({ local: found }) => found) : [],
  };
}

/**
 * Refuses a row that has a value for a column which does not exist here: dropping it would lose it in silence. A null is let
 * pass, as in BDR, so that a column can be added on one node after the other.
 */
export function refuseMissingColumns(table: Table, values: RowValues): void {
  for (const column of table.columns) {
    if (column.missing && values[column.position] !== null) {
      const name = displayName(table.local.name);
      throw new BdrError('apply_failed', {
        message: `column "${column.name}" of table ${name} does not exist on this node`,
        detail: 'A replicated row has a value for it.',
        hint: `Add the column here: ALTER TABLE ${name} ADD COLUMN … ; the link goes on by itself.`,
        sqlstate: '42703',
      });
    }
  }
}

/** Whether two rows have the same key, spelt the same. */
export function sameKey(table: Table, old: RowValues, row: RowValues): boolean {
  return table.key.columns.every(({ position }) => sameValue(old[position], row[position]));
}

/** A row of which only some columns have values; `valueOf` is asked by their places in `columns`. */
export function rowWith(
  table: Table,
  columns: readonly TableColumn[],
  valueOf: (index: number) => string | null | undefined,
): RowValues {
  const values: (string | null)[] = table.columns.map(() => null);
  for (const [index, { position }] of columns.entries()) values[position] = valueOf(index) ?? null;
  return values;
}

/** A row of which only the key is kept: `others` stands for the rest, UNSENT where it is to be read. */
export function keyOnly(
  { key }: Table,
  values: RowValues,
  others: null | typeof UNSENT = null,
): RowValues {
  return values.map((value, position) =>
    key.columns.some((column) => column.position === position) ? value : others,
  );
}

/** Whether a relation is one of bdr's own, which replicate like a user's but are none of the user's changes. */
export function isOwn({ schema }: Relation): boolean {
  return schema === 'bdr';
}

/**
 * Whether a column that is not part of the key is GENERATED ALWAYS AS IDENTITY: no UPDATE can give it a value, and only a new row
 * can have another one than the old.
 */
export function hasFixedColumn({ columns, key }: Table): boolean {
  return columns.some((column) => column.local?.identityAlways && !key.columns.includes(column));
}

/** Whether each change of the table comes with the row that its writer had. */
export function bringsOldRows({ relation }: Table): boolean {
  return relation.replicaIdentity === 'full';
}
