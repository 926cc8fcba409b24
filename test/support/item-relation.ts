import type { Relation } from '../../src/pgoutput/transaction.ts';

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
