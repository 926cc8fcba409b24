import type { AlterTableCmd, Node, RangeVar } from 'libpg-query';
import {
  dependent,
  dependents,
  onTable,
  ORDER_ONLY,
  referred,
  table,
  type LockTarget,
  type StatementNeed,
  type StatementPlace,
} from './lock-need.ts';
import { constraintsOf, nameOf, nameOfStrings } from './written-name.ts';

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

/** As lockStrength(), of ALTER TABLE and ALTER TYPE of a composite type. */
export function ofAlterTable(
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
    ...ofColumn(part, relation),
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

/** Tables that mind a column being added: its own where the type does, and those that hold rows of it as values. */
function ofColumn({ subtype, def }: AlterTableCmd, relation: RangeVar): LockTarget[] {
  if (subtype !== 'AT_AddColumn' || !def || !('ColumnDef' in def)) return [];
  const on = nameOf(relation);
  const type = nameOfStrings(def.ColumnDef.typeName?.names ?? []);
  const rows = dependent('type', on);
  return type.schema === 'pg_catalog'
    ? [rows]
    : [{ kind: 'domain', on, type, right: 'owner' }, rows];
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
