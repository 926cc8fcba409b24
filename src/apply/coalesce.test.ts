import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ITEM, ITEM_LOCALLY, ITEM_TABLE as TABLE } from '../../test/support/item-relation.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { RowChange } from '../pgoutput/transaction.ts';
import { tupleOf, UNCHANGED, valuesOf, type TupleValue } from '../pgoutput/tuple-value.ts';
import type { ChangeContext } from './change-context.ts';
import { isFoldable, TableBatch } from './coalesce.ts';
import { joinTable, type Table } from './table.ts';
import { Seen } from '../model/seen.ts';

const insert = (id: string, v: string, big = 'big'): RowChange => ({
  kind: 'insert',
  relation: ITEM,
  newTuple: tupleOf([id, v, big]),
});
const update = (id: string, v: string, big: TupleValue = 'big', old?: TupleValue[]): RowChange => ({
  kind: 'update',
  relation: ITEM,
  oldTuple: old ? tupleOf(old) : null,
  oldTupleIsKey: old !== undefined,
  newTuple: tupleOf([id, v, big]),
});
const remove = (id: string): RowChange => ({
  kind: 'delete',
  relation: ITEM,
  oldTuple: tupleOf([id, null, null]),
  oldTupleIsKey: true,
});
const at = (time: number): ChangeContext => ({
  xid: time,
  commitTime: time as PgTime,
  commitLsn: time as Lsn,
  seen: new Seen(),
});

/** What a batch comes to: kind, new values or key, commit time and marks of each change. */
function folded(...changes: readonly RowChange[]): unknown[] {
  return foldedIn(TABLE, ...changes);
}

function foldedIn(table: Table, ...changes: readonly RowChange[]): unknown[] {
  const batch = new TableBatch(table);
  changes.forEach((change, index) => expect(batch.add(change, at(index))).toBe(true));
  return [...batch.changes].map(({ change, context, mask, wasNew, isAnew }) => [
    change.kind,
    change.kind === 'delete' ? valuesOf(change.oldTuple)[0] : valuesOf(change.newTuple)[1],
    context.commitTime,
    ...(mask ? [mask] : []),
    ...(wasNew ? ['was new'] : []),
    ...(isAnew ? ['anew'] : []),
  ]);
}

describe('changes of one key', () => {
  test('become one, of the last one’s time', () => {
    expect(folded(insert('1', 'a'), update('1', 'b'))).toEqual([['insert', 'b', 1]]);
    expect(folded(update('1', 'a'), update('1', 'b'))).toEqual([['update', 'b', 1]]);
    expect(folded(update('1', 'a'), remove('1'))).toEqual([['delete', '1', 1]]);
    expect(folded(remove('1'), insert('1', 'a'))).toEqual([['update', 'a', 1, 'anew']]);
  });

  test('a row that came and went is still deleted, and nobody wonders that it is not there', () => {
    expect(folded(insert('1', 'a'), remove('1'))).toEqual([['delete', '1', 1, 'was new']]);
    expect(folded(insert('1', 'a'), update('1', 'b'), remove('1'))).toEqual([
      ['delete', '1', 2, 'was new'],
    ]);
    expect(folded(insert('1', 'a'), remove('1'), insert('1', 'b'))).toEqual([['insert', 'b', 2]]);
  });

  test('a row that comes anew stays one, until it is deleted', () => {
    const anew = [update('1', 'a'), remove('1'), insert('1', 'b')];
    expect(folded(...anew, update('1', 'c'))).toEqual([['update', 'c', 3, 'anew']]);
    expect(folded(...anew, remove('1'))).toEqual([['delete', '1', 3]]);
    expect(folded(...anew, remove('1'), insert('1', 'd'))).toEqual([['update', 'd', 4, 'anew']]);
  });

  test('do not mix with those of other keys', () => {
    expect(folded(insert('1', 'a'), insert('11', 'b'), update('1', 'c'), remove('11'))).toEqual([
      ['insert', 'c', 2],
      ['delete', '11', 3, 'was new'],
    ]);
  });

  test('an update that leaves values out never takes them from an earlier change', () => {
    const masked = update('1', 'b', UNCHANGED);
    expect(folded(masked)).toEqual([['update', 'b', 0, '110']]);
    for (const earlier of [insert('1', 'a'), update('1', 'a'), masked]) {
      const batch = new TableBatch(TABLE);
      batch.add(earlier, at(0));
      expect(batch.add(masked, at(1))).toBe(false);
    }
    // A whole row covers it, and so does a delete.
    expect(folded(masked, update('1', 'c'))).toEqual([['update', 'c', 1]]);
    expect(folded(masked, remove('1'))).toEqual([['delete', '1', 1]]);
  });

  test('a row that comes anew is no update of the one that has gone, where this node has something of its own in it', () => {
    const columns = new Map(
      [...ITEM_LOCALLY.columns].map(([name, one]) => [name, { ...one, stays: name === 'big' }]),
    );
    const batch = new TableBatch(joinTable(ITEM, { ...ITEM_LOCALLY, columns }));
    expect(batch.add(remove('1'), at(1))).toBe(true);
    expect(batch.add(insert('1', 'anew'), at(1))).toBe(false);
  });

  test('orders that no provider sends are not guessed at', () => {
    for (const [first, second] of [
      [update('1', 'a'), insert('1', 'b')],
      [remove('1'), update('1', 'a')],
      [remove('1'), remove('1')],
    ] as const) {
      const batch = new TableBatch(TABLE);
      batch.add(first, at(0));
      expect(batch.add(second, at(1))).toBe(false);
    }
  });

  test('are found behind inserts alone, of which none was looked for', () => {
    const inserts = ['1', '2', '3'].map((id) => insert(id, 'a'));
    expect(folded(...inserts, update('2', 'b'), insert('4', 'a'), remove('4'))).toEqual([
      ['insert', 'a', 0],
      ['insert', 'b', 3],
      ['insert', 'a', 2],
      ['delete', '4', 5, 'was new'],
    ]);
  });

  test('may be inserted twice where the provider does not hold the key unique', () => {
    const full = joinTable({ ...ITEM, replicaIdentity: 'full' }, ITEM_LOCALLY);
    const batch = new TableBatch(full);
    batch.add(insert('1', 'a'), at(0));
    expect(batch.add(insert('1', 'b'), at(1))).toBe(false);
    expect(batch.add(insert('2', 'b'), at(1))).toBe(true);
  });

  test('are one only where they are spelt the same', () => {
    const spellings = ['0', '00', '-0', '1', '01', '1.0', '+1', ' 1', '', '10', '999999999999999'];
    const long = ['9007199254740992', '9007199254740993', '99999999999999999999'];
    for (const ids of [[...spellings, ...long], long]) {
      const all = [...ids, ...ids].map((id) => update(id, 'a'));
      expect(folded(...all).map((one) => (one as unknown[])[2])).toEqual(
        ids.map((_, index) => ids.length + index),
      );
    }
  });

  test('of two columns are not mixed up', () => {
    const pair = joinTable(
      { ...ITEM, columns: ITEM.columns.map((one) => ({ ...one, isKey: one.name !== 'big' })) },
      ITEM_LOCALLY,
    );
    const changes = [update('1', '11'), update('11', '1'), update('1', '11'), update('111', '')];
    expect(foldedIn(pair, ...changes).map((one) => (one as unknown[])[2])).toEqual([2, 1, 3]);
  });
});

describe('what can stand in a batch', () => {
  test('an update that moves its row to another key cannot', () => {
    expect(isFoldable(TABLE, update('2', 'a', 'big', ['1', null, null]))).toBe(false);
  });

  test('an update that brings its old row can, where it brings the whole new one', () => {
    expect(isFoldable(TABLE, update('1', 'a', 'big', ['1', 'old', 'big']))).toBe(true);
    expect(isFoldable(TABLE, update('1', 'a', UNCHANGED, ['1', 'old', 'big']))).toBe(false);
  });

  test('without a key only inserts can, and none of them is folded', () => {
    const keyless = joinTable(
      { ...ITEM, columns: ITEM.columns.map((column) => ({ ...column, isKey: false })) },
      { ...ITEM_LOCALLY, primaryKey: [], immediateKeys: [] },
    );
    expect(isFoldable(keyless, insert('1', 'a'))).toBe(true);
    expect(isFoldable(keyless, remove('1'))).toBe(false);
    const batch = new TableBatch(keyless);
    expect(batch.add(insert('1', 'a'), at(0)) && batch.add(insert('1', 'a'), at(1))).toBe(true);
    expect(batch.size).toBe(2);
  });
});

/** Rows by key. */
type Rows = Map<string, string>;

function carryOut(rows: Rows, change: RowChange): void {
  if (change.kind === 'delete') rows.delete(String(valuesOf(change.oldTuple)[0]));
  else {
    const [id, v] = valuesOf(change.newTuple);
    rows.set(String(id), String(v));
  }
}

test('a batch comes to the same rows as its changes one after the other', () => {
  const step = fc.record({ id: fc.constantFrom('1', '2', '3'), remove: fc.boolean() });
  fc.assert(
    fc.property(fc.subarray(['1', '2', '3']), fc.array(step), (present, steps) => {
      const rows: Rows = new Map(present.map((id) => [id, 'start']));
      const inSets: Rows = new Map(rows);
      const batch = new TableBatch(TABLE);
      steps.forEach(({ id, remove: gone }, index) => {
        if (gone && !rows.has(id)) return;
        const write = rows.has(id) ? update : insert;
        const change = gone ? remove(id) : write(id, String(index));
        carryOut(rows, change);
        expect(batch.add(change, at(index))).toBe(true);
      });
      const order = { delete: 0, update: 1, insert: 2 };
      const sets = [...batch.changes].sort((a, b) => order[a.change.kind] - order[b.change.kind]);
      for (const { change } of sets) {
        // A set takes what its kind of change finds: an insert a free key, an update a row.
        const id = String(
          valuesOf(change.kind === 'delete' ? change.oldTuple : change.newTuple)[0],
        );
        if (change.kind !== 'delete') expect(inSets.has(id)).toBe(change.kind === 'update');
        carryOut(inSets, change);
      }
      expect(inSets).toEqual(rows);
    }),
  );
});
