import type { DumpEntry } from './dump-archive.ts';

/** The server and database that a dump is going to be restored into. */
export interface DumpTarget {
  readonly major: number;
  /** Schemas that exist there before the restore. */
  readonly schemas: readonly string[];
}

/**
 * The entries as the target can run them: without what belongs to bdr and is installed there by bdr itself, without
 * settings it does not know, without making what it has.
 */
export function forTarget(entries: readonly DumpEntry[], target: DumpTarget): DumpEntry[] {
  const kept: DumpEntry[] = [];
  let lead = '';
  for (const entry of entries) {
    const { settings, rest } = leadingSettings(entry.sql);
    if (belongsToBdr(entry)) {
      // Settings hold until the next of their kind: those in front of an entry are for the ones after it, too.
      lead = [lead, settings].filter((text) => text !== '').join('\n');
      continue;
    }
    const sql = adapt({ ...entry, sql: rest }, target);
    const before = [lead, settings].filter((text) => text !== '').join('\n');
    lead = '';
    kept.push({ ...entry, sql: before === '' ? sql : `${before}\n\n${sql}` });
  }
  return kept;
}

function leadingSettings(sql: string): { settings: string; rest: string } {
  const match = /^(?:SET default_\w+ = [^\n]*;\n+)+/.exec(sql);
  return { settings: match?.[0].trimEnd() ?? '', rest: sql.slice(match?.[0].length ?? 0) };
}

function belongsToBdr({ type, name }: DumpEntry): boolean {
  switch (type) {
    case 'EXTENSION':
      return name === 'bdr';
    case 'COMMENT':
      return name === 'EXTENSION bdr' || /^EVENT TRIGGER "?bdr/.test(name);
    case 'EVENT TRIGGER':
      return name.startsWith('bdr');
    case 'TRIGGER':
      // A gate is of the node that shut it; named "table trigger".
      return / bdr_gate_\w+$/.test(name);
    case 'SCHEMA':
      return name === 'bdr' || name === 'bdr_guard';
    default:
      return false;
  }
}

function adapt(entry: DumpEntry, target: DumpTarget): string {
  if (entry.type === 'SETTINGS' && target.major < 17)
    return entry.sql.replace(/^SET transaction_timeout = 0;\n?/m, '');
  if (entry.type === 'SCHEMA' && entry.name === 'public' && target.schemas.includes('public'))
    return entry.sql.replace(/^CREATE SCHEMA public;/m, 'CREATE SCHEMA IF NOT EXISTS public;');
  return entry.sql;
}

interface Novelty {
  readonly since: number;
  readonly types: RegExp;
  readonly sql: RegExp;
  readonly what: string;
}

const TABLES = /^(FOREIGN )?TABLE$/;
const CONSTRAINTS = /^(TABLE|(FK |CHECK )?CONSTRAINT)$/;

/** Syntax that pg_dump writes only for objects which use what is new in a major. Looked for outside of quoted text. */
const NOVELTIES: readonly Novelty[] = [
  {
    since: 18,
    types: TABLES,
    sql: /\bNOT NULL NO INHERIT\b/,
    what: 'a NOT NULL constraint with NO INHERIT',
  },
  {
    since: 18,
    types: TABLES,
    sql: /^\s*CONSTRAINT \S+ NOT NULL \S/m,
    what: 'a NOT NULL constraint of the table',
  },
  {
    since: 18,
    types: /CONSTRAINT$/,
    sql: /\bADD CONSTRAINT \S+ NOT NULL\b/,
    what: 'a NOT NULL constraint that is added later',
  },
  {
    since: 18,
    types: TABLES,
    sql: /\bGENERATED ALWAYS AS \((?!.*\) STORED).*$/m,
    what: 'a virtual generated column',
  },
  { since: 18, types: CONSTRAINTS, sql: /\bNOT ENFORCED\b/, what: 'a constraint NOT ENFORCED' },
  { since: 18, types: CONSTRAINTS, sql: /\bWITHOUT OVERLAPS\b|, PERIOD /, what: 'a temporal key' },
  { since: 17, types: /^ACL|DEFAULT ACL$/, sql: /\bMAINTAIN\b/, what: 'the privilege MAINTAIN' },
  {
    since: 17,
    types: /^COLLATION$/,
    sql: /\bprovider = builtin\b/,
    what: 'the collation provider "builtin"',
  },
  {
    since: 17,
    types: /VIEW$/,
    sql: /\bJSON_(TABLE|VALUE|QUERY|EXISTS|SCALAR|SERIALIZE)\(/,
    what: "SQL/JSON's functions",
  },
  { since: 16, types: /^COLLATION$/, sql: /\brules = /, what: 'rules of a collation' },
  {
    since: 16,
    types: /VIEW$/,
    sql: /\bJSON_(OBJECT|ARRAY)(AGG)?\(|\bIS (NOT )?JSON\b|\bSYSTEM_USER\b/,
    what: "SQL/JSON's constructors or SYSTEM_USER",
  },
  {
    since: 15,
    types: /^(INDEX|CONSTRAINT)$/,
    sql: /\bNULLS NOT DISTINCT\b/,
    what: 'NULLS NOT DISTINCT',
  },
  { since: 15, types: /^VIEW$/, sql: /\bsecurity_invoker\b/, what: 'a view with security_invoker' },
  {
    since: 15,
    types: /^FK CONSTRAINT$/,
    sql: /\bON DELETE SET (NULL|DEFAULT) \(/,
    what: 'ON DELETE SET of some columns',
  },
];

/**
 * Why the target's major cannot take a dump, as far as that can be told from its text: one sentence an object. An empty
 * list is no promise; a restore shows the rest.
 */
export function incompatibilities(entries: readonly DumpEntry[], targetMajor: number): string[] {
  const newer = NOVELTIES.filter((novelty) => novelty.since > targetMajor);
  if (newer.length === 0) return [];
  return entries.flatMap((entry) => {
    const sql = withoutQuotedText(entry.sql);
    return newer
      .filter((novelty) => novelty.types.test(entry.type) && novelty.sql.test(sql))
      .map(
        ({ what, since }) =>
          `${entry.type} ${entry.schema === null ? '' : `${entry.schema}.`}${entry.name}: ${what} needs PostgreSQL ${since}`,
      );
  });
}

/** Names and texts hold anything; each is replaced by one that holds nothing. */
function withoutQuotedText(sql: string): string {
  return sql.replaceAll(
    /(\$(?:[A-Za-z_]\w*)?\$)[\s\S]*?\1|'(?:[^']|'')*'|"(?:[^"]|"")*"/g,
    (text) => (text.startsWith('"') ? 'quoted' : "''"),
  );
}
