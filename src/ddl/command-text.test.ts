import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commandText } from './command-text.ts';

const at = (text: string, tag: string, position: number | null = 1) =>
  commandText({ text, tag, position, isContext: false }).then((command) => command.text);
const inside = (text: string, tag: string) =>
  commandText({ text, tag, position: null, isContext: true }).then((command) => command.text);

test('of one text, commands that fire event triggers are counted, and no others', async () => {
  const text = `BEGIN; SELECT 1; /* ; */ CREATE TABLE "ä;" (a text DEFAULT '; -- é'); INSERT INTO t VALUES (1);
    DROP TABLE x; CREATE ROLE r; GRANT ALL ON DATABASE d TO r; REINDEX TABLE t;
    -- CREATE TABLE no ();
    ALTER TABLE t ADD COLUMN b integer; SELECT 1 INTO made; COMMENT ON ROLE r IS 'x'; REFRESH MATERIALIZED VIEW m; COMMIT`;
  expect(await at(text, 'CREATE TABLE', 1)).toBe(`CREATE TABLE "ä;" (a text DEFAULT '; -- é')`);
  expect(await at(text, 'ALTER TABLE', 2)).toBe('ALTER TABLE t ADD COLUMN b integer');
  expect(await at(text, 'SELECT INTO', 3)).toBe('SELECT 1 INTO made');
  expect(await at(text, 'REFRESH MATERIALIZED VIEW', 4)).toBe('REFRESH MATERIALIZED VIEW m');
});

test('bodies of functions hold semicolons', async () => {
  const body = `CREATE FUNCTION f() RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END`;
  expect(await at(`SELECT 1; ${body}; ALTER TABLE t RENAME TO u`, 'CREATE FUNCTION', 1)).toBe(body);
});

test.each([
  [
    'another command than the tag says',
    'CREATE TABLE t (); ALTER TABLE t RENAME TO u',
    'ALTER TABLE',
    1,
  ],
  ['none in that place', 'CREATE TABLE t ()', 'CREATE TABLE', 2],
  ['no text', '', 'CREATE TABLE', 1],
  ['what no parser reads', 'CREATE TABLE t (', 'CREATE TABLE', 1],
])('%s is an error', async (_, text, tag, position) => {
  await expect(at(text, tag, position)).rejects.toMatchObject({ code: 'apply_failed' });
});

test('what runs concurrently elsewhere runs in the transaction here', async () => {
  expect(await at('CREATE INDEX CONCURRENTLY "concurrently" ON t (a)', 'CREATE INDEX')).toBe(
    'CREATE INDEX  "concurrently" ON t (a)',
  );
  expect(
    await at('ALTER TABLE p DETACH PARTITION é concurrently /* CONCURRENTLY */', 'ALTER TABLE'),
  ).toBe('ALTER TABLE p DETACH PARTITION é  /* CONCURRENTLY */');
  expect(await at('CREATE TABLE "concurrently" (a text)', 'CREATE TABLE')).toBe(
    'CREATE TABLE "concurrently" (a text)',
  );
});

const FRAME = 'PL/pgSQL function public.f() line 3 at EXECUTE';

test('a call stack ends its statement with a quote at the end of a line', async () => {
  expect(
    await inside(`SQL statement "CREATE TABLE "t"\n(a "char")"\n${FRAME}`, 'CREATE TABLE'),
  ).toBe('CREATE TABLE "t"\n(a "char")');
  expect(
    await inside(
      `SQL statement "SELECT 1; ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (1)"\n${FRAME}`,
      'ALTER TABLE',
    ),
  ).toBe('ALTER TABLE t RENAME TO u');
});

test('it is not led astray by what a statement holds', async () => {
  const identifiers = fc
    .array(fc.constantFrom('"', '\n', 'a', ' ', "'", ';', 'PL/pgSQL function f()'), {
      minLength: 1,
      maxLength: 12,
    })
    .map((parts) => parts.join(''));
  await fc.assert(
    fc.asyncProperty(identifiers, identifiers, async (name, value) => {
      const command = `CREATE TABLE "x${name.replaceAll('"', '""')}" (a text DEFAULT '${value.replaceAll("'", "''")}')`;
      expect(
        await inside(
          `SQL statement "${command}"\n${FRAME}\nSQL statement "SELECT f()"\n${FRAME}`,
          'CREATE TABLE',
        ),
      ).toBe(command);
      expect(await at(`SELECT 1;${command};SELECT 2`, 'CREATE TABLE')).toBe(command);
    }),
  );
});

test('several commands of one kind in one EXECUTE cannot be told apart', async () => {
  await expect(
    inside(`SQL statement "CREATE TABLE a (); CREATE TABLE b ()"\n${FRAME}`, 'CREATE TABLE'),
  ).rejects.toMatchObject({ code: 'apply_failed' });
});

test('a privilege on one table may be of one that is only where it was granted', async () => {
  const isOfLocal = async (text: string) =>
    (await commandText({ text, tag: 'GRANT', position: 1, isContext: false })).mayBeOfLocal;
  expect(await isOfLocal('GRANT SELECT ON t TO r')).toBe(true);
  expect(await isOfLocal('GRANT SELECT ON t, u TO r')).toBe(false);
  expect(await isOfLocal('GRANT SELECT ON ALL TABLES IN SCHEMA s TO r')).toBe(false);
  expect(await isOfLocal('GRANT EXECUTE ON FUNCTION f() TO r')).toBe(false);
});
