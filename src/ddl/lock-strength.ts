import type { Node, ObjectType, RangeVar } from 'libpg-query';
import { ofAlterTable } from './alter-table-need.ts';
import { isGrantOnRelations } from './grants.ts';
import {
  dependent,
  dependents,
  NEW,
  onTable,
  ORDER_ONLY,
  referred,
  type DependedClass,
  type LockTarget,
  type StatementNeed,
  type StatementPlace,
} from './lock-need.ts';
import {
  bare,
  nameOf,
  nameOfList,
  nameOfObject,
  nameOfStrings,
  rangeVars,
  type WrittenName,
} from './written-name.ts';

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
    const { relation, idxname, if_not_exists: isLazy } = node.IndexStmt;
    return {
      ...ofIndex(node.IndexStmt, place),
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

/**
 * An index that may refuse rows needs those that are on their way: one that is unique or evaluates something, and one of columns whose
 * values may be too long for it. Not where it is built beside writers (CONCURRENTLY), and is not unique: holding them up is what that is to avoid.
 */
function ofIndex(
  {
    relation,
    unique,
    concurrent: isConcurrent = false,
    accessMethod,
    whereClause,
    indexParams = [],
    indexIncludingParams = [],
  }: Extract<Node, { IndexStmt: unknown }>['IndexStmt'],
  place: StatementPlace,
): StatementNeed {
  const elements = [...indexParams, ...indexIncludingParams].flatMap((element) =>
    'IndexElem' in element ? [element.IndexElem] : [],
  );
  const isPlain =
    (accessMethod === undefined || PLAIN_METHODS.has(accessMethod)) &&
    whereClause === undefined &&
    elements.every(({ name, opclass }) => name !== undefined && opclass === undefined);
  const isStrong = unique === true || (!isPlain && !isConcurrent);
  const need = onTable(relation, place, { isStrong, mayBeMajority: true }, isConcurrent);
  if (need.targets.length > 0 || isConcurrent || !relation) return need;
  const columns = elements.flatMap(({ name }) => name ?? []);
  const long = { kind: 'long_columns', on: nameOf(relation), columns, right: 'owner' } as const;
  return { ...need, targets: [long] };
}

/** Their own operators fail for no value. */
const PLAIN_METHODS: ReadonlySet<string> = new Set(['btree', 'hash', 'brin']);

/** The name of a table that a statement makes on this node only; undefined where it makes none. */
export function localTableMadeBy(node: Node): string | undefined {
  const relation =
    ('CreateStmt' in node && node.CreateStmt.relation) ||
    ('CreateTableAsStmt' in node && node.CreateTableAsStmt.into?.rel) ||
    ('SelectStmt' in node && node.SelectStmt.intoClause?.rel);
  return relation && !isPermanent(relation) ? relation.relname : undefined;
}

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

/** Of a command that makes a relation. */
function made(relation: RangeVar | undefined): StatementNeed | undefined {
  return isPermanent(relation) ? NEW : undefined;
}

/** What is temporary or unlogged is only here. */
function isPermanent(relation: RangeVar | undefined): boolean {
  return relation?.relpersistence === 'p' && relation.schemaname !== 'pg_temp';
}

function unlessThere(
  kind: NonNullable<StatementNeed['unless']>['kind'],
  name: WrittenName,
): Pick<StatementNeed, 'unless'> {
  return { unless: { kind, names: [name], present: true } };
}
