import { expect, test } from 'vitest';
import type { LockTarget } from './lock-need.ts';
import { lockStrength } from './lock-strength.ts';
import { parseStatements } from './parser.ts';
import type { WrittenName } from './written-name.ts';

/** What a statement needs, in words: the mode of a lock without tables, then the targets. */
async function needOf(text: string, isAlone = true): Promise<string> {
  const [statement] = await parseStatements(text);
  const need = lockStrength(statement?.node ?? expect.unreachable(), { isAlone });
  if (!need) return 'nothing';
  const order = need.mayBeMajority ? 'majority' : 'all';
  return [order, ...need.targets.map(inWords)].join(', ');
}

function nameInWords({ schema, name }: WrittenName): string {
  return schema === null ? name : `${schema}.${name}`;
}

function inWords(target: LockTarget): string {
  if (target.kind === 'everything') return 'everything';
  const on = nameInWords(target.on);
  const around = 'isAround' in target && target.isAround ? ' and around' : '';
  if (target.kind === 'dependents') return `dependents of ${target.class} ${on}${around}`;
  if (target.kind === 'long_columns') return `${target.columns.join(' or ')} of ${on} if long`;
  if (target.kind === 'domain') return `${on} if ${nameInWords(target.type)} is a domain`;
  return `${target.kind} ${on}${target.right === 'references' ? ' (references)' : ''}${around}`;
}

test.each([
  ['CREATE TABLE t (a int PRIMARY KEY REFERENCES other)', 'majority'],
  ['CREATE TABLE p1 PARTITION OF s.p FOR VALUES IN (1)', 'majority, default_partition s.p'],
  ['CREATE TABLE t AS SELECT 1', 'majority'],
  ['CREATE SCHEMA s CREATE TABLE t (a int)', 'majority'],
  ['CREATE VIEW v AS SELECT 1', 'majority'],
  ['CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$', 'majority'],
  ['CREATE TYPE e AS ENUM ()', 'majority'],
  ['CREATE INDEX ON t (a) INCLUDE (b)', 'majority, a or b of t if long'],
  ['CREATE INDEX ON t USING hash (a)', 'majority, a of t if long'],
  ['CREATE INDEX CONCURRENTLY ON t ((a::int)) WHERE a > 0', 'majority'],
  ['CREATE INDEX CONCURRENTLY i ON t (a)', 'majority'],
  ['ALTER TABLE t ADD a int', 'majority, dependents of type t'],
  ['ALTER TABLE t ADD a s.d', 'majority, t if s.d is a domain, dependents of type t'],
  [
    `ALTER TABLE t ADD a int NOT NULL DEFAULT 3, ADD b text DEFAULT 'x'::text`,
    'majority, dependents of type t, t if text is a domain, dependents of type t',
  ],
])('%s adds what no row knows of', async (text, need) => {
  expect(await needOf(text)).toBe(need);
});

test.each([
  ['ALTER TABLE t OWNER TO bob, ALTER a SET DEFAULT 3, ALTER a DROP NOT NULL', 'all'],
  ['CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()', 'all'],
  ['DROP TRIGGER tr ON s.t', 'all'],
  ['CREATE POLICY p ON t', 'all'],
  ['ALTER POLICY p ON t USING (true)', 'all'],
  ['CREATE RULE r AS ON INSERT TO t DO NOTHING', 'all'],
  ['ALTER TRIGGER tr ON t RENAME TO u', 'all'],
  ['GRANT SELECT ON t TO bob', 'all'],
  [`COMMENT ON TABLE t IS 'x'`, 'all'],
  [`ALTER TYPE e ADD VALUE 'x'`, 'all'],
  ['ALTER DOMAIN d DROP CONSTRAINT c', 'all'],
  ['ALTER FUNCTION f() RENAME TO g', 'all'],
  ['ALTER VIEW v RENAME COLUMN a TO b', 'all'],
  ['DROP VIEW v', 'all'],
  ['DROP FUNCTION f()', 'all'],
  ['DROP OPERATOR + (int, int)', 'all'],
  ['CREATE EXTENSION hstore', 'all'],
])('%s does nothing to rows, but has its place among other commands', async (text, need) => {
  expect(await needOf(text)).toBe(need);
});

test.each([
  ['ALTER TABLE s.t DROP a', 'all, table s.t'],
  ['ALTER TABLE t DROP a CASCADE', 'all, table t, dependents of relation t'],
  ['ALTER TABLE t ADD a int NOT NULL', 'all, table t, dependents of type t'],
  [
    'ALTER TABLE t ADD a timestamptz DEFAULT now()',
    'all, table t, t if timestamptz is a domain, dependents of type t',
  ],
  [
    `ALTER TABLE t ADD a timestamptz DEFAULT 'now'::timestamptz`,
    'all, table t, t if timestamptz is a domain, dependents of type t',
  ],
  ['ALTER TABLE t ADD a serial', 'all, table t, t if serial is a domain, dependents of type t'],
  [
    'ALTER TABLE t ADD a int REFERENCES o',
    'all, table t, table o (references), dependents of type t',
  ],
  [
    'ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES o NOT VALID',
    'all, table t, table o (references)',
  ],
  ['ALTER TABLE t ADD CHECK (a > 0)', 'all, table t'],
  ['ALTER TABLE t ALTER a TYPE text, OWNER TO bob', 'all, table t'],
  ['ALTER TABLE t ALTER a SET NOT NULL', 'all, table t'],
  ['ALTER TABLE p ATTACH PARTITION q DEFAULT', 'all, table p, table q'],
  ['ALTER TABLE t INHERIT p', 'all, table t, table p'],
  ['ALTER TABLE t RENAME TO u', 'all, table t'],
  ['ALTER TABLE t RENAME a TO b', 'all, table t'],
  ['ALTER TABLE t SET SCHEMA s', 'all, table t'],
  ['CREATE UNIQUE INDEX ON t (a)', 'majority, table t'],
  ['CREATE UNIQUE INDEX CONCURRENTLY ON t (a)', 'majority, table t'],
  ['CREATE INDEX ON t ((a::int))', 'majority, table t'],
  ['CREATE INDEX ON t (a) WHERE 1 / a > 0', 'majority, table t'],
  ['CREATE INDEX ON t (a text_pattern_ops)', 'majority, table t'],
  ['CREATE INDEX ON t USING gin (a)', 'majority, table t'],
  ['DROP INDEX i', 'all, unique_index i'],
  ['DROP TABLE a, s.b', 'all, table a, table s.b'],
  ['DROP TABLE a CASCADE', 'all, table a, dependents of relation a'],
  ['DROP TYPE s.e CASCADE', 'all, dependents of type s.e'],
  ['DROP SCHEMA s CASCADE', 'all, dependents of schema s'],
  ['DROP FUNCTION f(int) CASCADE', 'all, dependents of routine f'],
  ['DROP COLLATION c CASCADE', 'all, everything'],
  [`ALTER TYPE e RENAME VALUE 'a' TO 'b'`, 'all, dependents of type e'],
  ['ALTER TYPE c ADD ATTRIBUTE x int', 'all, dependents of type c'],
  ['ALTER TYPE c RENAME ATTRIBUTE x TO y', 'all, dependents of type c'],
  ['ALTER TYPE c RENAME TO d', 'all, dependents of type c'],
  ['ALTER DOMAIN d ADD CHECK (value > 1)', 'all, dependents of type d'],
  ['ALTER SCHEMA s RENAME TO u', 'all, dependents of schema s'],
  ['ALTER EXTENSION e UPDATE', 'all, dependents of extension e'],
  ['DROP OWNED BY bob, alice', 'all, dependents of role bob, dependents of role alice'],
  ['DROP OWNED BY CURRENT_USER', 'all, everything'],
])('%s needs rows in the old form to have arrived', async (text, need) => {
  expect(await needOf(text)).toBe(need);
});

test.each([
  ['CREATE TABLE t (a int REFERENCES o)', 'majority, table o (references)'],
  ['CREATE INDEX ON t (a)', 'majority, table t'],
  ['ALTER TABLE t ADD a int', 'majority, table t, dependents of type t'],
  ['ALTER TABLE t OWNER TO bob', 'all, table t'],
  ['CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()', 'all, table t'],
  ['DROP TRIGGER tr ON s.t', 'all, table s.t'],
  ['DROP INDEX i', 'all, index i'],
  ['ALTER TRIGGER tr ON t RENAME TO u', 'all, table t'],
  ['DROP TABLE t', 'all, table t and around'],
  ['DROP SCHEMA s CASCADE', 'all, dependents of schema s and around'],
  ['ALTER TABLE t DROP CONSTRAINT c', 'all, table t and around'],
])('%s among others holds up what its table is locked against', async (text, need) => {
  expect(await needOf(text, false)).toBe(need);
});

test.each([
  'CREATE TEMP TABLE t (a int)',
  'CREATE TABLE pg_temp.t (a int)',
  'CREATE UNLOGGED TABLE t (a int)',
  'CREATE TEMP TABLE t AS SELECT 1',
  'SELECT 1 INTO TEMP t',
  'CREATE TEMP VIEW v AS SELECT 1',
  'CREATE TEMP SEQUENCE s',
  'CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$',
  'REFRESH MATERIALIZED VIEW m',
])('%s needs nothing', async (text) => {
  expect(await needOf(text)).toBe('nothing');
});
