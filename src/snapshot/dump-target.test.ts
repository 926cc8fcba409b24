import { expect, test } from 'vitest';
import type { DumpEntry } from './dump-archive.ts';
import { rolesNamedIn } from './dump-roles.ts';
import { forTarget, incompatibilities } from './dump-target.ts';

const entry = (
  type: string,
  name: string,
  sql: string,
  owner: string | null = null,
): DumpEntry => ({
  section: 'pre-data',
  type,
  name,
  schema: 's',
  owner,
  sql,
});
const names = (entries: DumpEntry[]) => entries.map(({ name }) => name);

test('what belongs to bdr is left out, what only sounds like it stays', () => {
  const kept = forTarget(
    [
      entry('EXTENSION', 'bdr', ''),
      entry('COMMENT', 'EXTENSION bdr', ''),
      entry('EVENT TRIGGER', 'bdr_ddl', ''),
      entry('COMMENT', 'EVENT TRIGGER bdr_ddl', ''),
      entry('COMMENT', 'EVENT TRIGGER "bdr-x"', ''),
      entry('EXTENSION', 'bdr_tools', ''),
      entry('TABLE', 'bdr', ''),
      entry('TRIGGER', 'my table bdr_gate_read_only', ''),
      entry('TRIGGER', 'my table bdr_gates', ''),
      entry('EVENT TRIGGER', 'my_bdr', ''),
      entry('TRIGGER', 'item bdr_gate_lock', ''),
      entry('TRIGGER', 'item my_bdr_gate_lock', ''),
    ],
    { major: 18, schemas: [] },
  );
  expect(names(kept)).toEqual([
    'bdr_tools',
    'bdr',
    'my table bdr_gates',
    'my_bdr',
    'item my_bdr_gate_lock',
  ]);
});

test('settings in front of what is left out go to the next', () => {
  const kept = forTarget(
    [
      entry('EVENT TRIGGER', 'bdr_ddl', 'SET default_tablespace = x;\n\nCREATE EVENT TRIGGER …'),
      entry('TABLE', 't', 'CREATE TABLE t ();'),
    ],
    { major: 18, schemas: [] },
  );
  expect(kept.map(({ sql }) => sql)).toEqual(['SET default_tablespace = x;\n\nCREATE TABLE t ();']);
});

test('settings are those that the target knows', () => {
  const settings = entry(
    'SETTINGS',
    'session',
    'SET a = 0;\nSET transaction_timeout = 0;\nSET b = 0;',
  );
  const at = (major: number) => forTarget([settings], { major, schemas: [] })[0]?.sql;
  expect(at(16)).toBe('SET a = 0;\nSET b = 0;');
  expect(at(17)).toBe(settings.sql);
});

test('schema public is made only where it is missing', () => {
  const made = entry(
    'SCHEMA',
    'public',
    'CREATE SCHEMA public;\n\n\nALTER SCHEMA public OWNER TO me;',
  );
  const on = (schemas: string[]) => forTarget([made], { major: 18, schemas })[0]?.sql;
  expect(on([])).toBe(made.sql);
  expect(on(['public'])).toBe(
    'CREATE SCHEMA IF NOT EXISTS public;\n\n\nALTER SCHEMA public OWNER TO me;',
  );
});

test('texts and names do not make an object newer than it is', () => {
  const sql = `CREATE TABLE "NOT NULL NO INHERIT" (a text DEFAULT 'x NOT ENFORCED');
    COMMENT $$ WITHOUT OVERLAPS $$`;
  expect(incompatibilities([entry('TABLE', 't', sql)], 14)).toEqual([]);
});

test('a stored generated column is old, a virtual one is not', () => {
  const stored = 'CREATE TABLE t (\n    b int GENERATED ALWAYS AS ((a + 1)) STORED NOT NULL\n);';
  expect(incompatibilities([entry('TABLE', 't', stored)], 14)).toEqual([]);
  const virtual = stored.replace(' STORED', '');
  expect(incompatibilities([entry('TABLE', 't', virtual)], 17)).toEqual([
    'TABLE s.t: a virtual generated column needs PostgreSQL 18',
  ]);
  expect(incompatibilities([entry('TABLE', 't', virtual)], 18)).toEqual([]);
});

test('roles are owners, grantees, grantors and those of policies', () => {
  const roles = rolesNamedIn([
    entry('TABLE', 't', 'GRANT SELECT ON t TO not_a_grant;', 'owner'),
    entry(
      'ACL',
      'TABLE t',
      `REVOKE ALL ON TABLE s.t FROM owner;
SET SESSION AUTHORIZATION "gr""antor";
GRANT SELECT ON TABLE s."x TO y;" TO "TO me" WITH GRANT OPTION;
RESET SESSION AUTHORIZATION;
GRANT ALL ON TABLE s.t TO PUBLIC;`,
    ),
    entry(
      'DEFAULT ACL',
      'DEFAULT PRIVILEGES FOR TABLES',
      'ALTER DEFAULT PRIVILEGES FOR ROLE maker IN SCHEMA s GRANT SELECT ON TABLES TO taker;',
    ),
    entry(
      'POLICY',
      't p',
      `CREATE POLICY p ON s.t FOR SELECT TO a, "b, c" USING ((x = 'y'::text));`,
    ),
  ]);
  expect(roles).toEqual(['TO me', 'a', 'b, c', 'gr"antor', 'maker', 'owner', 'taker']);
});
