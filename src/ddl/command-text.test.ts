import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commandText } from './command-text.ts';

const at = (text: string, tag: string, position: number | null = 1) =>
  commandText({ text, tag, position, isContext: false }).then(({ texts }) => texts.join('; '));
const inside = (text: string, tag: string, position: number | null = null) =>
  commandText({ text, tag, position, isContext: true }).then(({ texts }) => texts.join('; '));

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
  expect(await at('ALTER TABLE finalize DETACH PARTITION p FINALIZE', 'ALTER TABLE')).toBe(
    'ALTER TABLE finalize DETACH PARTITION p ',
  );
  expect(await at('CREATE TABLE "concurrently" (a text)', 'CREATE TABLE')).toBe(
    'CREATE TABLE "concurrently" (a text)',
  );
});

const FRAME = 'PL/pgSQL function public.f() line 3 at EXECUTE';

test('an index that is built concurrently may be built beside what else arrives, if it has a name and is not unique', async () => {
  const of = async (text: string) =>
    (await commandText({ text, tag: 'CREATE INDEX', position: 1, isContext: false })).beside;
  const text = 'CREATE INDEX CONCURRENTLY IF NOT EXISTS "I" ON "S".t (a) INCLUDE (b)';
  expect(await of(text)).toEqual({ text, table: '"S"."t"', index: 'I', isPlain: true });
  for (const more of ['((a + 1))', '(a) WHERE b > 0']) {
    expect(await of(`CREATE INDEX CONCURRENTLY i ON t ${more}`)).toMatchObject({ isPlain: false });
  }
  for (const other of ['INDEX i', 'INDEX CONCURRENTLY', 'UNIQUE INDEX CONCURRENTLY i']) {
    expect(await of(`CREATE ${other} ON t (a)`)).toBeUndefined();
  }
});

test('a partition that is detached concurrently, or was begun to be, is told apart from others', async () => {
  const of = async (more: string) =>
    (
      await commandText({
        text: `ALTER TABLE t DETACH PARTITION "S".p${more}`,
        tag: 'ALTER TABLE',
        position: 1,
        isContext: false,
      })
    ).detached;
  expect(await of(' CONCURRENTLY')).toBe('"S"."p"');
  expect(await of(' FINALIZE')).toBe('"S"."p"');
  expect(await of('')).toBeUndefined();
});

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

test('of several commands in one statement it is the one in its place, also when the statement runs again', async () => {
  // A comment that ends with a quote ends no statement.
  const stack = `SQL statement "CREATE TABLE a (); -- "a"\nDROP TABLE x; CREATE TABLE b ()"\n${FRAME}`;
  expect(await inside(stack, 'CREATE TABLE', 1)).toBe('CREATE TABLE a ()');
  expect(await inside(stack, 'CREATE TABLE', 2)).toContain('CREATE TABLE b ()');
  expect(await inside(stack, 'CREATE TABLE', 2)).not.toContain('CREATE TABLE a ()');
  expect(await inside(stack, 'CREATE TABLE', 5)).toBe('CREATE TABLE a ()');
});

const several = 'CREATE TABLE a (); CREATE TABLE b ()';
test.each([
  ['that may be any of several', `SQL statement "${several}"\n${FRAME}`, null],
  [
    'of another kind than the one in its place',
    `SQL statement "${several}; CREATE INDEX ON a (b)"\n${FRAME}`,
    3,
  ],
  [
    'whose statement may end in two places',
    `SQL statement "CREATE VIEW v AS SELECT 1 "\n${FRAME}""\n${FRAME}`,
    1,
  ],
  ['that something unknown has run', `SQL statement "CREATE TABLE a ()"\nelsewhere`, 1],
])('a command %s is an error', async (_, stack, position) => {
  await expect(inside(stack, 'CREATE TABLE', position)).rejects.toMatchObject({
    code: 'apply_failed',
  });
});

test('of a function in SQL it is the statement that the call stack names', async () => {
  const body = `\n SELECT 1; CREATE TABLE a (id text DEFAULT ';');\nCREATE TABLE b ();`;
  const of = (number: number) =>
    inside(`SQL function "f" statement ${number}\n${body}`, 'CREATE TABLE');
  expect(await of(2)).toBe(`CREATE TABLE a (id text DEFAULT ';')`);
  expect(await of(3)).toBe('CREATE TABLE b ()');
  await expect(of(1)).rejects.toMatchObject({ code: 'apply_failed' });
  await expect(of(4)).rejects.toMatchObject({ code: 'apply_failed' });
});

test('privileges on tables may be of some that are only where they were granted', async () => {
  const textsOf = async (text: string, tag = 'GRANT') => {
    const { texts, mayBeOfLocal } = await commandText({ text, tag, position: 1, isContext: false });
    return mayBeOfLocal ? texts : [];
  };
  expect(await textsOf('GRANT SELECT ON t TO r')).toEqual(['GRANT SELECT ON t  TO r']);
  expect(
    await textsOf(
      'GRANT SELECT (a, b) ON TABLE ü."t, to" /*,*/, "from" , s.u TO r, public WITH GRANT OPTION',
    ),
  ).toEqual([
    'GRANT SELECT (a, b) ON TABLE ü."t, to" /*,*/ TO r, public WITH GRANT OPTION',
    'GRANT SELECT (a, b) ON TABLE "from"  TO r, public WITH GRANT OPTION',
    'GRANT SELECT (a, b) ON TABLE s.u  TO r, public WITH GRANT OPTION',
  ]);
  expect(await textsOf('REVOKE ALL ON SEQUENCE a, b FROM r CASCADE', 'REVOKE')).toEqual([
    'REVOKE ALL ON SEQUENCE a FROM r CASCADE',
    'REVOKE ALL ON SEQUENCE b  FROM r CASCADE',
  ]);
  expect(await textsOf('GRANT SELECT ON ALL TABLES IN SCHEMA s TO r')).toEqual([]);
  expect(await textsOf('GRANT EXECUTE ON FUNCTION f() TO r')).toEqual([]);
});
