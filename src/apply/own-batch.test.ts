import { expect, test } from 'vitest';
import type { PgTime } from '../base/pg-time.ts';
import type { Relation } from '../pgoutput/transaction.ts';
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
  expect([batch.rows, batch.bytes]).toEqual([3, 28]);
});

test('an update that leaves the key alone is passed over', () => {
  const batch = new OwnBatch();
  batch.add(
    { kind: 'update', relation: ITEM, oldTuple: null, oldTupleIsKey: false, newTuple: ONE },
    at(1),
  );
  expect([batch.rows, batch.tables.size]).toEqual([0, 0]);
});
