import type { DumpEntry } from './dump-archive.ts';

const ROLE = '("(?:[^"]|"")+"|[a-z_][a-z0-9_]*)';
const GRANTEE = new RegExp(
  `^(?:ALTER DEFAULT PRIVILEGES .*)?GRANT .* TO ${ROLE}(?: WITH GRANT OPTION)?;$`,
  'gm',
);
const REVOKED = new RegExp(`^(?:ALTER DEFAULT PRIVILEGES .*)?REVOKE .* FROM ${ROLE};$`, 'gm');
const FOR_ROLE = new RegExp(`^ALTER DEFAULT PRIVILEGES FOR ROLE ${ROLE} `, 'gm');
const GRANTOR = new RegExp(`^SET SESSION AUTHORIZATION ${ROLE};$`, 'gm');
const POLICY =
  /^CREATE POLICY .* TO ((?:"(?:[^"]|"")+"|[a-z_0-9, ]+)+?)(?: USING \(| WITH CHECK \(|;$)/gm;

/**
 * The roles that the text of a dump names: owners, grantees, grantors, those of policies. `requiredRolesSql` asks the
 * catalogs and is exact; this is for a dump whose source is out of reach.
 */
export function rolesNamedIn(entries: readonly DumpEntry[]): string[] {
  const roles = new Set<string>();
  for (const entry of entries) {
    if (entry.owner !== null) roles.add(entry.owner);
    if (/^(DEFAULT )?ACL$/.test(entry.type))
      for (const pattern of [GRANTEE, REVOKED, FOR_ROLE, GRANTOR])
        for (const match of entry.sql.matchAll(pattern)) addNames(roles, match[1]);
    if (entry.type === 'POLICY')
      for (const match of entry.sql.matchAll(POLICY)) addNames(roles, match[1]);
  }
  return [...roles].toSorted();
}

function addNames(roles: Set<string>, list: string | undefined): void {
  for (const [name] of (list ?? '').matchAll(/"(?:[^"]|"")+"|[^\s,"]+/g)) {
    const role = name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name;
    if (role !== 'PUBLIC') roles.add(role);
  }
}
