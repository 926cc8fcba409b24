import { describe, expect, test } from 'vitest';
import type { Relation, ReplicaIdentity } from '../pgoutput/transaction.ts';
import { tupleOf, UNCHANGED } from '../pgoutput/tuple-value.ts';
import type { LocalColumn, LocalRelation } from '../postgres/relation-info.ts';
import { UNSENT, type RowValues } from './row-values.ts';
import { insertable, writable } from './statements.ts';
import { joinTable, refuseMissingColumns, rowOf, withKept } from './table.ts';

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

const local = (
  columns: readonly LocalColumn[],
  more: Partial<LocalRelation> = {},
): LocalRelation => ({
  oid: '16400',
  name: { schema: 'public', name: 'item' },
  columns: new Map(columns.map((one) => [one.name, one])),
  generatedKeyColumn: undefined,
  missingIdentity: undefined,
  primaryKey: ['id'],
  deferrable: false,
  hasReplicaTriggers: false,
  refusesOnConflict: false,
  immediateKeys: [['id']],
  ...more,
});

/** A name with a star is part of the replica identity. */
const remote = (
  names: readonly string[],
  replicaIdentity: ReplicaIdentity = 'default',
): Relation => ({
  id: 1,
  schema: 'public',
  name: 'item',
  replicaIdentity,
  columns: names.map((name) => ({
    name: name.replace('*', ''),
    typeOid: 25,
    typmod: -1,
    isKey: name.endsWith('*'),
  })),
});

describe('local columns', () => {
  const table = joinTable(
    remote(['id*', 'note', 'v']),
    local([
      column('own'),
      column('id'),
      column('note', { stays: true }),
      column('computed', { generated: true }),
      column('v'),
    ]),
  );
  const names = (columns: readonly { name: string }[]) => columns.map(({ name }) => name);

  test('are not written, though they are sent, and what is sent of them is not looked at', () => {
    expect(names(writable(table))).toEqual(['id', 'v']);
    expect(rowOf(table, tupleOf(['1', UNCHANGED, 'a']))).toEqual(['1', null, 'a']);
    expect(rowOf(table, tupleOf(['1', 'theirs', 'a']))).toEqual(['1', null, 'a']);
    expect(table.columns.some(({ missing }) => missing)).toBe(false);
  });

  test('go along where a row brings them, as what only this node has does', () => {
    const row = withKept(table, ['1', null, 'a'], ['mine', 'kept']);
    expect(names(insertable(table, row))).toEqual(['id', 'v', 'own', 'note']);
    expect(insertable(table, row).map(({ position }) => row[position])).toEqual([
      '1',
      'a',
      'mine',
      'kept',
    ]);
    expect(names(insertable(table, ['1', null, 'a']))).toEqual(['id', 'v']);
    expect(withKept(table, row, ['other', 'values'])).toEqual(['1', null, 'a', 'other', 'values']);
  });
});

describe('joinTable', () => {
  test('matches columns by name, whatever their order, and knows which are missing or computed', () => {
    const table = joinTable(
      remote(['b', 'id*', 'computed', 'extra']),
      local([column('id'), column('own'), column('computed', { generated: true }), column('b')]),
    );
    expect(
      table.columns.map(({ name, position, local: found, missing }) => [
        name,
        position,
        found?.name,
        missing,
      ]),
    ).toEqual([
      ['b', 0, 'b', false],
      ['id', 1, 'id', false],
      ['computed', 2, undefined, false],
      ['extra', 3, undefined, true],
    ]);
  });

  test.each<[string, Relation, Partial<LocalRelation>, string, string[]]>([
    ['the replica identity', remote(['id*', 'b']), {}, 'unique', ['id']],
    ['an index that is the replica identity', remote(['id', 'b*'], 'index'), {}, 'unique', ['b']],
    [
      'the local primary key, with identity full',
      remote(['id*', 'b*'], 'full'),
      {},
      'unique',
      ['id'],
    ],
    [
      'the local primary key, with identity nothing',
      remote(['id', 'b'], 'nothing'),
      {},
      'unique',
      ['id'],
    ],
    [
      'the whole row, with identity full and no key here',
      remote(['id*', 'b*'], 'full'),
      { primaryKey: [] },
      'whole-row',
      ['id', 'b'],
    ],
    [
      'the whole row, where the provider lacks the key',
      remote(['b*'], 'full'),
      {},
      'whole-row',
      ['b'],
    ],
    ['nothing', remote(['id', 'b'], 'nothing'), { primaryKey: [] }, 'none', []],
  ])('finds rows by %s', (_, relation, more, kind, columns) => {
    const { key } = joinTable(relation, local([column('id'), column('b')], more));
    expect([key.kind, key.columns.map(({ name }) => name), key.deferrable]).toEqual([
      kind,
      columns,
      false,
    ]);
  });

  test('refuses a key that is not sent as a whole, but finds whole rows', () => {
    const columns = [column('id'), column('sum', { generated: true })];
    const here = local(columns, { primaryKey: ['id', 'sum'], generatedKeyColumn: 'sum' });
    expect(() => joinTable(remote(['id*', 'b']), here)).toThrow(/has generated column "sum"/);
    expect(joinTable(remote(['id*', 'b*'], 'full'), here).key.kind).toBe('whole-row');
  });

  test('knows a key that is checked only at the end of a transaction', () => {
    const columns = [column('id'), column('b')];
    const keyOf = (more: Partial<LocalRelation>) =>
      joinTable(remote(['id*', 'b*'], 'full'), local(columns, { deferrable: true, ...more })).key;
    expect(keyOf({ immediateKeys: [] })).toMatchObject({
      deferrable: true,
      alike: [{ name: 'id' }, { name: 'b' }],
    });
    expect(keyOf({ immediateKeys: [['b']] }).deferrable).toBe(true);
    expect(keyOf({ immediateKeys: [['b'], ['id']] })).toMatchObject({
      deferrable: false,
      alike: [],
    });
    expect(
      joinTable(
        remote(['b*', 'id*', 'c']),
        local([...columns, column('c')], { deferrable: true, immediateKeys: [['id', 'b']] }),
      ).key.deferrable,
    ).toBe(false);
  });
});

describe('refuseMissingColumns', () => {
  const table = joinTable(remote(['id*', 'extra']), local([column('id')]));

  test('lets a null pass', () => {
    expect(() => refuseMissingColumns(table, ['1', null])).not.toThrow();
  });

  test.each<[string, RowValues[number]]>([
    ['a value', 'x'],
    ['an empty text', ''],
    ['a value that was not sent', UNSENT],
  ])('refuses %s', (_, value) => {
    expect(() => refuseMissingColumns(table, ['1', value])).toThrow(
      expect.objectContaining({
        sqlstate: '42703',
        message: 'column "extra" of table public.item does not exist on this node',
      }),
    );
  });
});
