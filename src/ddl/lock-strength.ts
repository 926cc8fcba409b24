import type { AlterTableCmd, Constraint, Node, ObjectType, RangeVar } from 'libpg-query';
import { isGrantOnRelations } from './grants.ts';

/** A name as it stands in a command: without a schema it is looked for in the search_path. */
export interface WrittenName {
  readonly schema: string | null;
  readonly name: string;
}

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

/**
 * What a statement needs of the other nodes before it runs; undefined for nothing.
 *
 * A table needs the write_lock where rows that other nodes write in its old form, and that are on their way, could not be applied any
 * more, would come out differently, or could break what the command makes sure of.
 */
export function lockStrength(node: Node, place: StatementPlace): StatementNeed | undefined {
  if ('CreateStmt' in node) {
    const {
      relation,
      inhRelations = [],
      partbound,
      tableElts = [],
      if_not_exists: isLazy,
    } = node.CreateStmt;
    if (!isPermanent(relation)) return undefined;
    // A partition locks the table above it, and those that this refers to.
    const parents = partbound ? rangeVars(inhRelations).map(nameOf) : [];
    const above = parents.map((on): LockTarget =>
      place.isAlone
        ? { kind: 'default_partition', on, right: 'owner' }
        : { kind: 'table', on, right: 'owner', isAround: true },
    );
    return {
      about: [],
      targets: [...above, ...referred(tableElts, place)],
      mayBeMajority: true,
      ...(isLazy ? unlessThere('relation', nameOf(relation)) : {}),
    };
  }
  if ('CreateSchemaStmt' in node) {
    const parts = (node.CreateSchemaStmt.schemaElts ?? []).map((part) => lockStrength(part, place));
    return {
      about: [],
      targets: parts.flatMap((part) => part?.targets ?? []),
      mayBeMajority: true,
      ...(node.CreateSchemaStmt.if_not_exists
        ? unlessThere('schema', bare(node.CreateSchemaStmt.schemaname))
        : {}),
    };
  }
  if ('IndexStmt' in node) {
    const { relation, unique, concurrent, idxname, if_not_exists: isLazy } = node.IndexStmt;
    return {
      ...onTable(relation, place, { isStrong: unique === true, mayBeMajority: true }, concurrent),
      ...(isLazy
        ? unlessThere('relation', { schema: relation?.schemaname ?? null, name: idxname ?? '' })
        : {}),
    };
  }
  if ('AlterTableStmt' in node) return ofAlterTable(node.AlterTableStmt, place);
  if ('RenameStmt' in node) {
    const { renameType, relationType, relation, object, subname } = node.RenameStmt;
    if (renameType === 'OBJECT_SCHEMA') return dependents('schema', bare(subname));
    if (renameType === 'OBJECT_ATTRIBUTE') return dependents('type', nameOf(relation));
    if (renameType && TYPES.has(renameType)) return dependents('type', nameOfList(object));
    const isWeak = renameType !== undefined && WITHIN_TABLE.has(renameType);
    const isOther = renameType === 'OBJECT_COLUMN' && relationType !== 'OBJECT_TABLE';
    if (relation && !isOther) return onTable(relation, place, { isStrong: !isWeak });
    return ORDER_ONLY;
  }
  if ('AlterObjectSchemaStmt' in node) {
    const { objectType, relation, object } = node.AlterObjectSchemaStmt;
    if (objectType && TYPES.has(objectType)) return dependents('type', nameOfList(object));
    if (objectType === 'OBJECT_EXTENSION') return dependents('extension', nameOfList(object));
    return relation ? onTable(relation, place, { isStrong: true }) : ORDER_ONLY;
  }
  if ('AlterEnumStmt' in node) {
    const { oldVal, typeName = [] } = node.AlterEnumStmt;
    return oldVal === undefined ? ORDER_ONLY : dependents('type', nameOfStrings(typeName));
  }
  if ('AlterDomainStmt' in node) {
    const { subtype, typeName = [] } = node.AlterDomainStmt;
    const isStrong = subtype === 'C' || subtype === 'O';
    return isStrong ? dependents('type', nameOfStrings(typeName)) : ORDER_ONLY;
  }
  if ('CreateExtensionStmt' in node) {
    const { extname, if_not_exists: isLazy } = node.CreateExtensionStmt;
    return { ...ORDER_ONLY, ...(isLazy ? unlessThere('extension', bare(extname)) : {}) };
  }
  if ('AlterExtensionStmt' in node)
    return dependents('extension', bare(node.AlterExtensionStmt.extname));
  if ('AlterExtensionContentsStmt' in node)
    return dependents('extension', bare(node.AlterExtensionContentsStmt.extname));
  if ('DropStmt' in node) return ofDrop(node.DropStmt, place);
  if ('DropOwnedStmt' in node) {
    const roles = (node.DropOwnedStmt.roles ?? []).map((role) =>
      'RoleSpec' in role ? (role.RoleSpec.rolename ?? null) : null,
    );
    // Of CURRENT_USER and the like: everything, rather than to know who that is.
    if (roles.includes(null)) return { ...ORDER_ONLY, targets: [{ kind: 'everything' }] };
    return { ...ORDER_ONLY, targets: roles.map((role) => dependent('role', bare(role ?? ''))) };
  }
  if ('CreateTrigStmt' in node) {
    const need = onTable(node.CreateTrigStmt.relation, place, WEAK);
    const targets = need.targets.map((target): LockTarget =>
      target.kind === 'table' ? { ...target, right: 'trigger' } : target,
    );
    return { ...need, targets };
  }
  if ('RuleStmt' in node) return onTable(node.RuleStmt.relation, place, WEAK);
  if ('CreatePolicyStmt' in node) return onTable(node.CreatePolicyStmt.table, place, WEAK);
  if ('AlterPolicyStmt' in node) return onTable(node.AlterPolicyStmt.table, place, WEAK);
  if ('CreateTableAsStmt' in node) return made(node.CreateTableAsStmt.into?.rel);
  if ('SelectStmt' in node) return made(node.SelectStmt.intoClause?.rel);
  if ('ViewStmt' in node) return made(node.ViewStmt.view);
  if ('CreateSeqStmt' in node) return made(node.CreateSeqStmt.sequence);
  if ('CreateFunctionStmt' in node) {
    const { schema } = nameOfStrings(node.CreateFunctionStmt.funcname ?? []);
    return schema === 'pg_temp' ? undefined : NEW;
  }
  if ('GrantStmt' in node) {
    const { objects = [] } = node.GrantStmt;
    return { ...ORDER_ONLY, about: isGrantOnRelations(node) ? rangeVars(objects).map(nameOf) : [] };
  }
  if ('CommentStmt' in node) {
    const { objtype, object } = node.CommentStmt;
    return { ...ORDER_ONLY, about: objtype === 'OBJECT_TABLE' ? [nameOfList(object)] : [] };
  }
  // Each node computes it from rows of its own.
  if ('RefreshMatViewStmt' in node) return undefined;
  return Object.keys(node).some((kind) => NEW_OBJECTS.has(kind)) ? NEW : ORDER_ONLY;
}

/** The name of a table that a statement makes on this node only; undefined where it makes none. */
export function localTableMadeBy(node: Node): string | undefined {
  const relation =
    ('CreateStmt' in node && node.CreateStmt.relation) ||
    ('CreateTableAsStmt' in node && node.CreateTableAsStmt.into?.rel) ||
    ('SelectStmt' in node && node.SelectStmt.intoClause?.rel);
  return relation && !isPermanent(relation) ? relation.relname : undefined;
}

/** Definitions come in one order on all nodes. */
const ORDER_ONLY: StatementNeed = { about: [], targets: [], mayBeMajority: false };
/** It adds what no row knows of yet. */
const NEW: StatementNeed = { about: [], targets: [], mayBeMajority: true };
const WEAK = { isStrong: false };

const NEW_OBJECTS: ReadonlySet<string> = new Set([
  'CompositeTypeStmt',
  'CreateDomainStmt',
  'CreateEnumStmt',
  'CreateForeignTableStmt',
  'CreateRangeStmt',
  'CreateStatsStmt',
  'DefineStmt',
]);

const TYPES: ReadonlySet<ObjectType> = new Set(['OBJECT_TYPE', 'OBJECT_DOMAIN']);

/** Of a table, but of no row of it. */
const WITHIN_TABLE: ReadonlySet<ObjectType> = new Set([
  'OBJECT_TABCONSTRAINT',
  'OBJECT_TRIGGER',
  'OBJECT_RULE',
  'OBJECT_POLICY',
]);

/** Parts of ALTER TABLE that rows in the old form do not mind, and that make sure of nothing that these could break. */
const WEAK_PARTS: ReadonlySet<string> = new Set([
  'AT_ChangeOwner',
  'AT_ClusterOn',
  // What is sent has values for all columns that its table has.
  'AT_ColumnDefault',
  'AT_DropCluster',
  'AT_DropNotNull',
  'AT_DisableRowSecurity',
  'AT_DisableRule',
  'AT_DisableTrig',
  'AT_DisableTrigUser',
  'AT_EnableRowSecurity',
  'AT_EnableRule',
  'AT_EnableTrig',
  'AT_EnableTrigUser',
  'AT_ForceRowSecurity',
  'AT_NoForceRowSecurity',
  'AT_ResetOptions',
  'AT_ResetRelOptions',
  'AT_SetCompression',
  'AT_SetIdentity',
  'AT_SetOptions',
  'AT_SetRelOptions',
  'AT_SetStatistics',
  'AT_SetStorage',
  'AT_SetTableSpace',
  'AT_ValidateConstraint',
]);

const KEY_PARTS: ReadonlySet<string> = new Set([
  'AT_AlterColumnType',
  'AT_AttachPartition',
  'AT_DetachPartition',
  'AT_DetachPartitionFinalize',
  'AT_DropColumn',
  'AT_DropConstraint',
]);

function ofAlterTable(
  { relation, cmds = [], objtype }: Extract<Node, { AlterTableStmt: unknown }>['AlterTableStmt'],
  place: StatementPlace,
): StatementNeed {
  if (objtype === 'OBJECT_TYPE') return dependents('type', nameOf(relation));
  if (objtype !== 'OBJECT_TABLE' || !relation) return ORDER_ONLY;
  const parts = cmds.flatMap((cmd) => ('AlterTableCmd' in cmd ? [cmd.AlterTableCmd] : []));
  const isAddition = parts.every(addsPlainColumn);
  const isStrong = !parts.every((part) => addsPlainColumn(part) || isWeakPart(part));
  const need = onTable(relation, place, {
    isStrong,
    mayBeMajority: isAddition,
    // A foreign key that goes, or is made anew, locks both tables.
    isAround: parts.some(({ subtype }) => subtype !== undefined && KEY_PARTS.has(subtype)),
  });
  const others = parts.flatMap((part) => [
    ...tablesWithin(part, place),
    ...(part.behavior === 'DROP_CASCADE' ? [dependent('relation', nameOf(relation), place)] : []),
  ]);
  return { ...need, targets: [...need.targets, ...others] };
}

function isWeakPart({ subtype }: AlterTableCmd): boolean {
  return subtype !== undefined && WEAK_PARTS.has(subtype);
}

/** A column that rows in the old form get the same value for everywhere: none, or a constant. */
function addsPlainColumn({ subtype, def }: AlterTableCmd): boolean {
  if (subtype !== 'AT_AddColumn' || !def || !('ColumnDef' in def)) return false;
  const { constraints = [], typeName } = def.ColumnDef;
  const type = nameOfStrings(typeName?.names ?? []).name;
  if (/^(small|big)?serial[248]?$/.test(type)) return false;
  const kinds = constraintsOf(constraints).map(({ contype, raw_expr: expr }) =>
    contype === 'CONSTR_DEFAULT' && !isConstant(expr) ? 'CONSTR_GENERATED' : contype,
  );
  const isFilled = kinds.includes('CONSTR_DEFAULT');
  return kinds.every(
    (kind) =>
      kind === 'CONSTR_NULL' ||
      kind === 'CONSTR_DEFAULT' ||
      (kind === 'CONSTR_NOTNULL' && isFilled),
  );
}

function isConstant(expr: Node | undefined): boolean {
  if (!expr) return false;
  if ('A_Const' in expr) return true;
  // now, today and the like are times as well, once they are cast.
  if (!('TypeCast' in expr) || !expr.TypeCast.arg || !('A_Const' in expr.TypeCast.arg))
    return false;
  const type = nameOfStrings(expr.TypeCast.typeName?.names ?? []).name;
  return !/^(date|time|timetz|timestamp|timestamptz|abstime)$/.test(type);
}

/** Other tables than its own that a part of ALTER TABLE names. */
function tablesWithin({ def }: AlterTableCmd, { isAlone }: StatementPlace): LockTarget[] {
  if (!def) return [];
  if ('Constraint' in def) return referred([def], { isAlone: false });
  if ('ColumnDef' in def) return referred([def], { isAlone: false });
  if ('PartitionCmd' in def && def.PartitionCmd.name)
    return [{ ...table(def.PartitionCmd.name), isAround: !isAlone }];
  // INHERIT
  if ('RangeVar' in def) return [table(def.RangeVar)];
  return [];
}

/** The tables that foreign keys refer to. A new table's own are locked by the command, and nothing more. */
function referred(elements: readonly Node[], { isAlone }: StatementPlace): LockTarget[] {
  if (isAlone) return [];
  const constraints = elements.flatMap((element) => {
    if ('Constraint' in element) return [element.Constraint];
    return 'ColumnDef' in element ? constraintsOf(element.ColumnDef.constraints ?? []) : [];
  });
  return constraints.flatMap(({ pktable }) =>
    pktable ? [{ kind: 'table', on: nameOf(pktable), right: 'references' }] : [],
  );
}

function ofDrop(
  {
    objects = [],
    removeType,
    behavior,
    missing_ok: isLazy,
  }: Extract<Node, { DropStmt: unknown }>['DropStmt'],
  place: StatementPlace,
): StatementNeed {
  const isCascade = behavior === 'DROP_CASCADE';
  const names = objects.map(nameOfObject);
  if (removeType && WITHIN_TABLE.has(removeType)) {
    const tables = objects.map((object) =>
      nameOfStrings('List' in object ? (object.List.items ?? []).slice(0, -1) : []),
    );
    return {
      about: tables,
      targets: place.isAlone ? [] : tables.map((on) => ({ kind: 'table', on, right: 'owner' })),
      mayBeMajority: false,
    };
  }
  const cls = removeType && DROPPED[removeType];
  // Of what nothing here can look up what depends on it.
  if (!cls) return { ...ORDER_ONLY, targets: isCascade ? [{ kind: 'everything' }] : [] };
  const targets = names.flatMap((on): LockTarget[] => {
    if (removeType === 'OBJECT_INDEX')
      return [{ kind: place.isAlone ? 'unique_index' : 'index', on, right: 'owner' }];
    return removeType === 'OBJECT_TABLE'
      ? [{ kind: 'table', on, right: 'owner', isAround: !place.isAlone }]
      : [];
  });
  return {
    about: cls === 'relation' ? names : [],
    targets: [...targets, ...(isCascade ? names.map((on) => dependent(cls, on, place)) : [])],
    mayBeMajority: false,
    ...(isLazy && (cls === 'relation' || cls === 'schema' || cls === 'extension')
      ? { unless: { kind: cls, names, present: false } }
      : {}),
  };
}

type DependedClass = Extract<LockTarget, { kind: 'dependents' }>['class'];

const DROPPED: Partial<Record<ObjectType, DependedClass>> = {
  OBJECT_TABLE: 'relation',
  OBJECT_FOREIGN_TABLE: 'relation',
  OBJECT_VIEW: 'relation',
  OBJECT_MATVIEW: 'relation',
  OBJECT_SEQUENCE: 'relation',
  OBJECT_INDEX: 'relation',
  OBJECT_TYPE: 'type',
  OBJECT_DOMAIN: 'type',
  OBJECT_SCHEMA: 'schema',
  OBJECT_FUNCTION: 'routine',
  OBJECT_PROCEDURE: 'routine',
  OBJECT_ROUTINE: 'routine',
  OBJECT_AGGREGATE: 'routine',
  OBJECT_EXTENSION: 'extension',
};

/** Of a command on one table. */
function onTable(
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

/** Of a command that makes a relation. */
function made(relation: RangeVar | undefined): StatementNeed | undefined {
  return isPermanent(relation) ? NEW : undefined;
}

/** What is temporary or unlogged is only here. */
function isPermanent(relation: RangeVar | undefined): boolean {
  return relation?.relpersistence === 'p' && relation.schemaname !== 'pg_temp';
}

function dependents(cls: DependedClass, on: WrittenName): StatementNeed {
  return { ...ORDER_ONLY, targets: [dependent(cls, on)] };
}

function dependent(
  cls: DependedClass,
  on: WrittenName,
  { isAlone }: StatementPlace = { isAlone: true },
): LockTarget {
  return { kind: 'dependents', class: cls, on, right: 'owner', isAround: !isAlone };
}

function table(relation: RangeVar): Extract<LockTarget, { kind: 'table' }> {
  return { kind: 'table', on: nameOf(relation), right: 'owner' };
}

function unlessThere(
  kind: NonNullable<StatementNeed['unless']>['kind'],
  name: WrittenName,
): Pick<StatementNeed, 'unless'> {
  return { unless: { kind, names: [name], present: true } };
}

function bare(name: string | undefined): WrittenName {
  return { schema: null, name: name ?? '' };
}

function nameOf(relation: RangeVar | undefined): WrittenName {
  return { schema: relation?.schemaname ?? null, name: relation?.relname ?? '' };
}

function nameOfObject(object: Node): WrittenName {
  if ('String' in object) return bare(object.String.sval);
  if ('TypeName' in object) return nameOfStrings(object.TypeName.names ?? []);
  if ('ObjectWithArgs' in object) return nameOfStrings(object.ObjectWithArgs.objname ?? []);
  return nameOfList(object);
}

function nameOfList(object: Node | undefined): WrittenName {
  if (object && 'String' in object) return bare(object.String.sval);
  if (object && 'TypeName' in object) return nameOfStrings(object.TypeName.names ?? []);
  return nameOfStrings(object && 'List' in object ? (object.List.items ?? []) : []);
}

function nameOfStrings(names: readonly Node[]): WrittenName {
  const parts = names.map((part) => ('String' in part ? (part.String.sval ?? '') : ''));
  return { schema: parts.at(-2) ?? null, name: parts.at(-1) ?? '' };
}

function rangeVars(nodes: readonly Node[]): RangeVar[] {
  return nodes.flatMap((node) => ('RangeVar' in node ? [node.RangeVar] : []));
}

function constraintsOf(nodes: readonly Node[]): Constraint[] {
  return nodes.flatMap((node) => ('Constraint' in node ? [node.Constraint] : []));
}
