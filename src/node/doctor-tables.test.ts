import { describe, expect, test } from 'vitest';
import type { DoctorSequence, DoctorTable, DoctorTables } from '../postgres/doctor-tables.ts';
import { checkTables } from './doctor-tables.ts';

const TABLE: DoctorTable = {
  name: { schema: 'public', name: 't' },
  primaryKey: 'usable',
  identity: 'd',
  keyCandidate: null,
  uniques: [],
  generatedKeyColumn: null,
  exclusions: [],
};
const SEQUENCE: DoctorSequence = {
  name: { schema: 'public', name: 't_id_seq' },
  table: TABLE.name,
  column: 'id',
  type: 'bigint',
  isGlobal: false,
  increment: 1n,
};
const NONE: DoctorTables = {
  tables: [],
  sequences: [],
  unlogged: [],
  largeObjects: 0,
  encoding: 'UTF8',
  subscriptions: [],
  userCode: [],
};

const ofTable = (table: Partial<DoctorTable>) =>
  checkTables({ ...NONE, tables: [{ ...TABLE, ...table }] }, { nodes: 1, isNode: false });
const ofSequence = (sequence: Partial<DoctorSequence>, nodes = 1, isNode = true) =>
  checkTables({ ...NONE, sequences: [{ ...SEQUENCE, ...sequence }] }, { nodes, isNode });

test('an empty database gives no finding', () => {
  expect(checkTables(NONE, { nodes: 1, isNode: false })).toEqual([]);
});

test('an encoding that takes bytes which cannot be read is warned of', () => {
  const check = (encoding: string) =>
    checkTables({ ...NONE, encoding }, { nodes: 1, isNode: false });
  expect(check('SQL_ASCII')).toMatchObject([{ level: 'warning', check: 'encoding' }]);
  expect(check('LATIN1')).toEqual([]);
});

test('subscriptions of the server are warned of: what they bring reaches no peer', () => {
  expect(
    checkTables({ ...NONE, subscriptions: ['feed'] }, { nodes: 1, isNode: false }),
  ).toMatchObject([
    {
      level: 'warning',
      check: 'subscription',
      message: expect.stringContaining('feed') as string,
    },
  ]);
});

test('code that a table runs is told of, and warned of where it runs with the rights of a superuser', () => {
  const code = {
    table: TABLE.name,
    owner: '20000',
    isOwnersTrusted: false,
    places: ['CHECK constraint c: public.f(integer)'],
    untrusted: ['CHECK constraint c: public.f(integer)'],
    hasUsersTypes: false,
    opaqueColumns: [],
  };
  const check = (more: Partial<typeof code>) =>
    checkTables({ ...NONE, userCode: [{ ...code, ...more }] }, { nodes: 1, isNode: false });
  const told = expect.stringContaining('CHECK constraint c: public.f(integer)') as string;
  expect(check({})).toMatchObject([{ level: 'note', check: 'user_code', message: told }]);
  expect(check({ isOwnersTrusted: true })).toMatchObject([
    { level: 'warning', check: 'user_code', message: told },
  ]);
  expect(check({ isOwnersTrusted: true, untrusted: [] })).toEqual([]);
  expect(check({ places: [], untrusted: [] })).toEqual([]);
});

describe('keys', () => {
  test('a primary key or an identity by index is well', () => {
    expect(ofTable({})).toMatchObject([{ level: 'ok', check: 'table_key' }]);
    expect(ofTable({ primaryKey: 'none', identity: 'i' })).toMatchObject([{ level: 'ok' }]);
  });

  test('a table without any key gets a new column', () => {
    expect(ofTable({ primaryKey: 'none' })).toMatchObject([
      {
        level: 'warning',
        check: 'table_key',
        message: expect.stringContaining('public.t has no primary key') as string,
        fix: 'ALTER TABLE "public"."t" ADD COLUMN row_id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY;',
      },
    ]);
  });

  test('a unique index on NOT NULL columns can serve as the key, and is then no second one', () => {
    const uniques = [{ name: 'u"x', columns: 'code', isPartial: false }];
    const found = ofTable({ primaryKey: 'none', keyCandidate: 'u"x', uniques });
    expect(found).toMatchObject([
      { level: 'warning', fix: 'ALTER TABLE "public"."t" REPLICA IDENTITY USING INDEX "u""x";' },
    ]);
    expect(found).toHaveLength(1);
  });

  test('in a group, what is mended is mended on every node, and never by values that would differ', () => {
    const inGroup = (table: Partial<DoctorTable>) =>
      checkTables({ ...NONE, tables: [{ ...TABLE, ...table }] }, { nodes: 2, isNode: true })[0]
        ?.fix;
    expect(inGroup({ primaryKey: 'none' })).toBe(
      'ALTER TABLE "public"."t" ADD PRIMARY KEY (…);  -- on every node, of columns that tell its rows apart',
    );
    expect(inGroup({ primaryKey: 'none', keyCandidate: 'u' })).toBe(
      'ALTER TABLE "public"."t" REPLICA IDENTITY USING INDEX "u";  -- on every node',
    );
    expect(inGroup({ identity: 'n' })).toContain('REPLICA IDENTITY DEFAULT;  -- on every node');
    expect(inGroup({ primaryKey: 'deferrable' })).toContain('on every node');
  });

  test('a deferrable primary key does not count', () => {
    expect(ofTable({ primaryKey: 'deferrable' })).toMatchObject([
      { level: 'warning', fix: expect.stringContaining('NOT DEFERRABLE') as string },
    ]);
  });

  test('REPLICA IDENTITY NOTHING hides a primary key', () => {
    expect(ofTable({ identity: 'n' })).toMatchObject([
      { level: 'warning', fix: 'ALTER TABLE "public"."t" REPLICA IDENTITY DEFAULT;' },
    ]);
  });

  test('REPLICA IDENTITY FULL is slow without a primary key, and well with one', () => {
    expect(ofTable({ identity: 'f' })).toMatchObject([{ level: 'ok' }]);
    expect(ofTable({ identity: 'f', primaryKey: 'none' })[0]).toMatchObject({
      level: 'warning',
      message: expect.stringContaining('all their columns') as string,
    });
  });
});

describe('constraints', () => {
  test('a second unique index is a warning', () => {
    const uniques = [
      { name: 'u', columns: 'lower(email)', isPartial: false },
      { name: 'p', columns: 'code', isPartial: true },
    ];
    expect(ofTable({ uniques })).toMatchObject([
      {
        level: 'warning',
        check: 'unique_index',
        message: expect.stringMatching(
          /u \(lower\(email\)\), p \(code\) on some rows\. .* the earlier row is removed/,
        ) as string,
      },
      { level: 'ok' },
    ]);
    // What has no key cannot be named to the others.
    const [, found] = ofTable({ primaryKey: 'none', keyCandidate: null, uniques });
    expect(found?.message).toContain('the link stops');
  });

  test('an exclusion constraint must go: bdr_group_create refuses it', () => {
    expect(ofTable({ exclusions: ['no_overlap'] })[0]).toMatchObject({
      level: 'error',
      check: 'exclusion_constraint',
      fix: 'ALTER TABLE "public"."t" DROP CONSTRAINT "no_overlap";',
    });
  });
});

describe('sequences', () => {
  const fixOf = (...args: Parameters<typeof ofSequence>) => ofSequence(...args)[0]?.fix ?? null;

  test('one that counts by one collides; it is converted to what its column takes', () => {
    expect(ofSequence({})).toMatchObject([{ level: 'warning', check: 'sequence' }]);
    expect(fixOf({})).toBe(`SELECT bdr.convert_sequence('"public"."t_id_seq"', 'snowflake');`);
    expect(fixOf({ type: 'integer' })).toContain(`'step'`);
    // Numbers are the group's.
    expect(fixOf({}, 1, false)).toMatch(/^-- once this database is a node:\nSELECT /);
  });

  test('one that gives out global ids is well', () => {
    expect(ofSequence({ isGlobal: true }, 3)).toEqual([]);
  });

  test('one that counts in steps of at least the number of nodes is well', () => {
    expect(ofSequence({ increment: 2n }, 2)).toEqual([]);
    expect(ofSequence({ increment: 2n }, 3)).toHaveLength(1);
    expect(ofSequence({ increment: -10n }, 3)).toEqual([]);
  });

  test('one that counts down gets advice in place of SQL', () => {
    expect(fixOf({ increment: -1n })).toContain('uuid');
  });
});

test('what is not replicated is told', () => {
  const unlogged = [{ schema: 'public', name: 'scratch' }];
  expect(
    checkTables({ ...NONE, unlogged, largeObjects: 3 }, { nodes: 1, isNode: false }),
  ).toMatchObject([
    { level: 'note', message: 'unlogged tables are not replicated: public.scratch' },
    { level: 'warning', message: '3 large objects are not replicated' },
  ]);
});
