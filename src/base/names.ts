/** A table's schema and name, unquoted. */
export interface QualifiedName {
  readonly schema: string;
  readonly name: string;
}

/** Quotes an identifier always, so that no name can be read as anything else. */
export function quoteIdent(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** `"schema"."name"` */
export function quoteQualified({ schema, name }: QualifiedName): string {
  return `${quoteIdent(schema)}.${quoteIdent(name)}`;
}

/**
 * Quotes a string constant for places that take no parameter (replication commands, DDL). Backslashes get the `E''` form,
 * so that the result means the same whatever `standard_conforming_strings` is.
 */
export function quoteLiteral(value: string): string {
  const quoted = `'${value.replaceAll("'", "''")}'`;
  return value.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted;
}

/** `schema.name` for people: quoted only where PostgreSQL would have to. */
export function displayName({ schema, name }: QualifiedName): string {
  const part = (text: string) => (/^[a-z_][a-z0-9_$]*$/.test(text) ? text : quoteIdent(text));
  return `${part(schema)}.${part(name)}`;
}
