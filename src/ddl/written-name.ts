import type { Constraint, Node, RangeVar } from 'libpg-query';

/** A name as it stands in a command: without a schema it is looked for in the search_path. */
export interface WrittenName {
  readonly schema: string | null;
  readonly name: string;
}

export function bare(name: string | undefined): WrittenName {
  return { schema: null, name: name ?? '' };
}

export function nameOf(relation: RangeVar | undefined): WrittenName {
  return { schema: relation?.schemaname ?? null, name: relation?.relname ?? '' };
}

export function nameOfObject(object: Node): WrittenName {
  if ('String' in object) return bare(object.String.sval);
  if ('TypeName' in object) return nameOfStrings(object.TypeName.names ?? []);
  if ('ObjectWithArgs' in object) return nameOfStrings(object.ObjectWithArgs.objname ?? []);
  return nameOfList(object);
}

export function nameOfList(object: Node | undefined): WrittenName {
  if (object && 'String' in object) return bare(object.String.sval);
  if (object && 'TypeName' in object) return nameOfStrings(object.TypeName.names ?? []);
  return nameOfStrings(object && 'List' in object ? (object.List.items ?? []) : []);
}

export function nameOfStrings(names: readonly Node[]): WrittenName {
  const parts = names.map((part) => ('String' in part ? (part.String.sval ?? '') : ''));
  return { schema: parts.at(-2) ?? null, name: parts.at(-1) ?? '' };
}

export function rangeVars(nodes: readonly Node[]): RangeVar[] {
  return nodes.flatMap((node) => ('RangeVar' in node ? [node.RangeVar] : []));
}

export function constraintsOf(nodes: readonly Node[]): Constraint[] {
  return nodes.flatMap((node) => ('Constraint' in node ? [node.Constraint] : []));
}
