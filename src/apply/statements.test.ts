import { describe, expect, test } from 'vitest';
import type { LocalColumn, LocalRelation } from '../postgres/relation-info.ts';
import * as sql from './statements.ts';
import { joinTable, type Table } from './table.ts';

const column = (name: string, more: Partial<LocalColumn> = {}): LocalColumn => ({
  name,
  type: 'text',
  equals: undefined,
  hashable: true,
  collate: '',
  generated: false,
  stays: false,
  identityAlways: false,
  castsFromText: true,
  isVarlena: true,
  isDomain: false,
  ...more,
});

function tableOf(
  columns: readonly LocalColumn[],
  more: Partial<LocalRelation> = {},
  full = false,
): Table {
  return joinTable(
    {
      id: 1,
      schema: 'there',
      name: 'item',
      replicaIdentity: full ? 'full' : 'default',
      columns: columns.map(({ name }, index) => ({
        name,
        typeOid: 25,
        typmod: -1,
        isKey: full || index === 0,
      })),
    },
    {
      oid: '16400',
      name: { schema: 'public', name: 'it"em' },
      columns: new Map(columns.map((one) => [one.name, one])),
      generatedKeyColumn: undefined,
      missingIdentity: undefined,
      primaryKey: full ? [] : ['id'],
      deferrable: false,
      hasReplicaTriggers: false,
      refusesOnConflict: false,
      immediateKeys: [['id']],
      ...more,
    },
  );
}

const ID = column('id', { type: 'integer', equals: 'OPERATOR(pg_catalog.=)' });
const ITEM = tableOf([ID, column('v"; --'), column('sum', { generated: true })]);

describe('SQL on a user’s table', () => {
  test('inserts what can be written, and skips a row that is there only when told to', () => {
    const columns = sql.writable(ITEM);
    const insert = `INSERT INTO "public"."it""em" ("id", "v""; --") OVERRIDING SYSTEM VALUE VALUES ($1::integer, $2::text)`;
    expect(sql.insertSql(ITEM, columns, false)).toBe(insert);
    expect(sql.insertSql(ITEM, columns, true)).toBe(`${insert} ON CONFLICT DO NOTHING`);
    expect(sql.insertSql(ITEM, [], true)).toBe(
      'INSERT INTO "public"."it""em" DEFAULT VALUES ON CONFLICT DO NOTHING',
    );
  });

  test('names the key for ON CONFLICT where another constraint is deferrable', () => {
    const table = tableOf([ID, column('v')], { deferrable: true });
    expect(sql.insertSql(table, sql.writable(table), true)).toContain(
      'ON CONFLICT ("id") DO NOTHING',
    );
  });

  test('updates by key only rows that are certain to lose: parameters are values, key, origin, time', () => {
    const columns = sql.updatable(ITEM, sql.writable(ITEM));
    expect(sql.fastUpdateSql(ITEM, columns)).toBe(
      `UPDATE ONLY "public"."it""em" AS t SET "v""; --" = $1::text WHERE t."id" OPERATOR(pg_catalog.=) $2::integer` +
        ` AND (pg_xact_commit_timestamp(t.xmin) < $4::timestamptz` +
        ` OR (pg_xact_commit_timestamp_origin(t.xmin)).roident = $3::oid) IS NOT FALSE`,
    );
    expect(sql.fastDeleteSql(ITEM)).toContain(
      '< $3::timestamptz OR (pg_xact_commit_timestamp_origin(t.xmin)).roident = $2',
    );
    // A row without record must not be taken when values are missing: nobody knows whose they are.
    expect(sql.ownUpdateSql(ITEM, columns)).toMatch(
      / AND \(.*roident = \$3::oid OR \(pg_xact_commit_timestamp\(t\.xmin\) IS NULL AND age\(.*\)$/,
    );
  });

  test('sets the key only where there is nothing else, and never an identity that is ALWAYS', () => {
    const names = (table: Table) =>
      sql.updatable(table, sql.writable(table)).map(({ name }) => name);
    expect(names(ITEM)).toEqual(['v"; --']);
    expect(names(tableOf([ID]))).toEqual(['id']);
    const always = column('n', { identityAlways: true });
    expect(names(tableOf([ID, always, column('v')]))).toEqual(['v']);
    expect(names(tableOf([{ ...ID, identityAlways: true }]))).toEqual([]);
  });

  test('leaves out values that were not sent', () => {
    expect(sql.writable(ITEM, (position) => position !== 1).map(({ name }) => name)).toEqual([
      'id',
    ]);
  });

  test('finds a whole row by its text, nulls too', () => {
    const table = tableOf([ID, column('j', { type: 'json' })], {}, true);
    expect(sql.fetchSql(table)).toContain(
      `WHERE t."id"::text IS NOT DISTINCT FROM $1::integer::text AND t."j"::text IS NOT DISTINCT FROM $2::json::text LIMIT 1 FOR UPDATE`,
    );
  });

  test('prefers the row that looks like the old one where two may have a key', () => {
    const table = tableOf([ID, column('v')], { deferrable: true, immediateKeys: [] });
    expect(sql.fetchSql(table)).toMatch(
      /WHERE t\."id" OPERATOR\(pg_catalog\.=\) \$1::integer ORDER BY \(.*\$2::integer.*\$3::text.*\) DESC, .* LIMIT 1 FOR UPDATE$/,
    );
    expect(sql.fetchAllSql(table)).not.toContain('LIMIT');
  });

  test('reads what was left out from the provider’s table', () => {
    expect(sql.readColumnsSql(ITEM, sql.writable(ITEM).slice(1))).toBe(
      `SELECT t."v""; --"::text AS "v""; --" FROM ONLY "there"."item" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::integer LIMIT 1`,
    );
  });
});
