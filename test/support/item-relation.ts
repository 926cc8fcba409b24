import { joinTable } from '../../src/apply/table.ts';
import type { Relation } from '../../src/pgoutput/transaction.ts';
import type { LocalRelation } from '../../src/postgres/relation-info.ts';

/** A table of three texts, of which the first is its key, as a provider describes it. */
export const ITEM: Relation = {
  id: 1,
  schema: 'public',
  name: 'item',
  replicaIdentity: 'default',
  columns: ['id', 'v', 'big'].map((name) => ({
    name,
    typeOid: 25,
    typmod: -1,
    isKey: name === 'id',
  })),
};

/** The local table of the same columns. */
export const ITEM_LOCALLY: LocalRelation = {
  oid: '1',
  name: { schema: 'public', name: 'item' },
  columns: new Map(
    ['id', 'v', 'big'].map((name) => [
      name,
      {
        name,
        type: 'text',
        equals: undefined,
        generated: false,
        stays: false,
        hashable: true,
        collate: '',
        identityAlways: false,
        castsFromText: true,
        isVarlena: true,
        isDomain: false,
      },
    ]),
  ),
  generatedKeyColumn: undefined,
  missingIdentity: undefined,
  primaryKey: ['id'],
  deferrable: false,
  hasReplicaTriggers: false,
  refusesOnConflict: false,
  immediateKeys: [['id']],
};

export const ITEM_TABLE = joinTable(ITEM, ITEM_LOCALLY);
