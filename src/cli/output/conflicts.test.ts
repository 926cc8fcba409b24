import { stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import type { ConflictEntry } from '../../catalog/read-conflicts.ts';
import { drawConflict } from './conflicts.ts';

const ENTRY: ConflictEntry = {
  id: 7,
  at: '2030-01-02T03:04:05.000006Z',
  schema: 'public',
  table: 'item',
  key: 'id=5',
  type: 'update_update',
  resolution: 'last_update_wins_keep_local',
  action: 'skip',
  certainlyConcurrent: true,
  local: 'one',
  remote: 'two',
  json: '{}',
};
const draw = (entry: Partial<ConflictEntry>) =>
  stripVTControlCharacters(drawConflict({ ...ENTRY, ...entry })).split('  ');

test('a conflict is a line: when, where, which row, what kind, what was done, who won', () => {
  expect(draw({})).toEqual([
    '2030-01-02 03:04:05.000006Z',
    'public.item',
    'id=5',
    'update_update',
    'change skipped',
    'one over two',
    'concurrent',
  ]);
});

test.each<[Partial<ConflictEntry>, string, string]>([
  [
    { resolution: 'last_update_wins_keep_remote', action: 'update' },
    'row overwritten',
    'two over one',
  ],
  [{ resolution: 'last_update_wins_keep_remote', action: 'delete' }, 'row deleted', 'two over one'],
  [{ resolution: 'apply_change', action: 'insert' }, 'row inserted', 'two over one'],
  [{ resolution: 'apply_change', action: 'insert', local: null }, 'row inserted', 'from two'],
  [{ resolution: 'skip_change' }, 'change skipped', 'one over two'],
  [{ resolution: 'skip_change', local: null }, 'change skipped', 'from two'],
])('%j', (entry, done, who) => {
  expect(draw(entry).slice(4, 6)).toEqual([done, who]);
});

test('what users have written cannot break the line', () => {
  const [, table, key, , , who] = draw({
    table: 'a\nb',
    key: 'id=\u001b[31mred\nx',
    remote: 't\rwo',
  });
  expect([table, key, who]).toEqual(['public."a b"', 'id=red x', 'one over t wo']);
});

test('a row without a key says so', () => {
  expect(draw({ key: null, certainlyConcurrent: false })).toEqual(
    expect.arrayContaining(['(no key)', 'perhaps concurrent']),
  );
});
