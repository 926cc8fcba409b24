import type { Node, RangeVar } from 'libpg-query';
import { constraintsOf, nameOf, type WrittenName } from './written-name.ts';

/** Tables that a command names, in one way or another. */
export type LockTarget =
  /** The relation, if it is a table. Whoever runs the command owns it, or may refer to it. */
  | {
      readonly kind: 'table';
      readonly on: WrittenName;
      readonly right: 'owner' | 'references' | 'trigger';
      /** And the tables at the other ends of its foreign keys. */
      readonly isAround?: boolean;
    }
  /** The table, if one of these columns may hold a value that is too long for an index. */
  | {
      readonly kind: 'long_columns';
      readonly on: WrittenName;
      readonly columns: readonly string[];
      readonly right: 'owner';
    }
  /** The table, if the type is a domain: that may refuse the null, or the default, that its rows get. */
  | {
      readonly kind: 'domain';
      readonly on: WrittenName;
      readonly type: WrittenName;
      readonly right: 'owner';
    }
  /** The partitioned table, if it has a default partition: rows of that are looked at. */
  | { readonly kind: 'default_partition'; readonly on: WrittenName; readonly right: 'owner' }
  /** The table of an index, if that is unique. */
  | {
      readonly kind: 'unique_index' | 'index';
      readonly on: WrittenName;
      readonly right: 'owner';
    }
  /** All tables that depend on an object, or on what does. */
  | {
      readonly kind: 'dependents';
      readonly class: 'relation' | 'type' | 'schema' | 'routine' | 'extension' | 'role';
      readonly on: WrittenName;
      readonly right: 'owner';
      readonly isAround?: boolean;
    }
  | { readonly kind: 'everything' };

/** What a statement needs the global lock for (DESIGN 6): a write_lock on its targets, a ddl_lock where none of them is there. */
export interface StatementNeed {
  /** What it is about: where all of these are only here, temporary or unlogged, it needs nothing. */
  readonly about: readonly WrittenName[];
  readonly targets: readonly LockTarget[];
  /** It does nothing where all of these are there, or none of them is. */
  readonly unless?: {
    readonly kind: 'relation' | 'schema' | 'extension';
    readonly names: readonly WrittenName[];
    readonly present: boolean;
  };
  /** After it every row in the old form can still be applied, so a majority of the nodes is enough for the ddl_lock. */
  readonly mayBeMajority: boolean;
}

/** Where a statement stands. */
export interface StatementPlace {
  /**
   * Nothing else is done in its transaction. Where that is not so, the transaction may ask for more of the lock later, and what other
   * nodes have on their way by then must not wait for what the statement has locked: so it covers the tables that it locks.
   */
  readonly isAlone: boolean;
}

export type DependedClass = Extract<LockTarget, { kind: 'dependents' }>['class'];

/** Definitions come in one order on all nodes. */
export const ORDER_ONLY: StatementNeed = { about: [], targets: [], mayBeMajority: false };
/** It adds what no row knows of yet. */
export const NEW: StatementNeed = { about: [], targets: [], mayBeMajority: true };

/** Of a command on one table. */
export function onTable(
  relation: RangeVar | undefined,
  { isAlone }: StatementPlace,
  {
    isStrong,
    mayBeMajority = false,
    isAround = false,
  }: { isStrong: boolean; mayBeMajority?: boolean; isAround?: boolean },
  isConcurrent = false,
): StatementNeed {
  const about = relation ? [nameOf(relation)] : [];
  const needsTable = isStrong || (!isAlone && !isConcurrent);
  return {
    about,
    targets: needsTable
      ? about.map((on) => ({ kind: 'table', on, right: 'owner', isAround: isAround && !isAlone }))
      : [],
    mayBeMajority,
  };
}

/** Of a command on what others depend on. */
export function dependents(cls: DependedClass, on: WrittenName): StatementNeed {
  return { ...ORDER_ONLY, targets: [dependent(cls, on)] };
}

export function dependent(
  cls: DependedClass,
  on: WrittenName,
  { isAlone }: StatementPlace = { isAlone: true },
): LockTarget {
  return { kind: 'dependents', class: cls, on, right: 'owner', isAround: !isAlone };
}

export function table(relation: RangeVar): Extract<LockTarget, { kind: 'table' }> {
  return { kind: 'table', on: nameOf(relation), right: 'owner' };
}

/** The tables that foreign keys refer to. A new table's own are locked by the command, and nothing more. */
export function referred(elements: readonly Node[], { isAlone }: StatementPlace): LockTarget[] {
  if (isAlone) return [];
  const constraints = elements.flatMap((element) => {
    if ('Constraint' in element) return [element.Constraint];
    return 'ColumnDef' in element ? constraintsOf(element.ColumnDef.constraints ?? []) : [];
  });
  return constraints.flatMap(({ pktable }) =>
    pktable ? [{ kind: 'table', on: nameOf(pktable), right: 'references' }] : [],
  );
}
