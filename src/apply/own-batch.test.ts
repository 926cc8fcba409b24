import { expect, test } from 'vitest';
import type { PgTime } from '../base/pg-time.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import { Tuple } from '../pgoutput/tuple.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import { OwnBatch } from './own-batch.ts';

const ITEM: Relation = {
  id: 1,
  schema: 'public',
  name: 'item',
  replicaIdentity: 'default',
  columns: [{ name: 'id', typeOid: 25, typmod: -1, isKey: true }],
};
const [ONE, TWO] = [tupleOf(['1']), tupleOf(['2'])];
const at = (number: number) => (number * 10) as PgTime;

test('gathers by table what has to do with deletions, each with the time of its commit', () => {
  const batch = new OwnBatch();
  batch.add({ kind: 'insert', relation: ITEM, newTuple: ONE }, at(1));
  batch.add({ kind: 'delete', relation: ITEM, oldTuple: ONE, oldTupleIsKey: true }, at(2));
  batch.add(
    { kind: 'update', relation: ITEM, oldTuple: ONE, oldTupleIsKey: true, newTuple: TWO },
    at(3),
  );
  batch.add({ kind: 'truncate', relations: [ITEM], cascade: false, restartIdentity: false }, at(4));
  expect([...batch.tables]).toEqual([
    [
      ITEM,
      {
        removed: [{ time: 20, old: ONE }],
        moved: [{ time: 30, old: ONE, row: TWO }],
        truncatedAt: 40,
      },
    ],
  ]);
  expect(batch.rows).toBe(3);
});

/** A row behind so many bytes that came with it. */
function behind(bytes: number, tuple: Tuple): Tuple {
  const { buffer, start, end, columnCount, isComplete } = tuple;
  const around = Buffer.concat([Buffer.alloc(bytes), buffer.subarray(start, end)]);
  return new Tuple(around, bytes, around.length, columnCount, isComplete);
}

function removedOf(...rows: Tuple[]) {
  const batch = new OwnBatch();
  for (const oldTuple of rows)
    batch.add({ kind: 'delete', relation: ITEM, oldTuple, oldTupleIsKey: true }, at(1));
  const removed = batch.tables.get(ITEM)?.removed.map(({ old }) => old) ?? [];
  return { batch, removed };
}

test('counts all that its rows keep in memory: what has come with them, once', () => {
  const row = behind(64 * 1024, ONE);
  const { bytes } = removedOf(row, row).batch;
  expect(bytes).toBeGreaterThan(64 * 1024);
  expect(bytes).toBeLessThan(65 * 1024);
  expect(removedOf(row, behind(64 * 1024, TWO)).batch.bytes).toBeGreaterThan(128 * 1024);
});

test('keeps no large value in memory that has come with a small row', () => {
  const { batch, removed } = removedOf(behind(1024 * 1024, ONE), behind(1024 * 1024, TWO));
  expect(batch.bytes).toBeLessThan(1024);
  expect(removed.map((old) => [old.buffer.length < 100, old.text(0)])).toEqual([
    [true, '1'],
    [true, '2'],
  ]);
});

test('an update that leaves the key alone is passed over', () => {
  const batch = new OwnBatch();
  batch.add(
    { kind: 'update', relation: ITEM, oldTuple: null, oldTupleIsKey: false, newTuple: ONE },
    at(1),
  );
  expect([batch.rows, batch.tables.size]).toEqual([0, 0]);
});
