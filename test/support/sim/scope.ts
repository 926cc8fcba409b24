import type { Change } from '../../../src/pgoutput/transaction.ts';
import { tupleOf, UNCHANGED } from '../../../src/pgoutput/tuple-value.ts';
import { ITEM } from '../item-relation.ts';
import type { ModelNode } from './node.ts';
import type { Steps } from './process.ts';
import type { Row, Transaction } from './transaction.ts';

/**
 * What one transaction does. A statement that finds no row does nothing. `touch` and `move` leave the long value alone, and out of what they
 * log; `carry` is a move that logs it, as the server does where a value is not stored out of line.
 */
export type Operation =
  | { readonly kind: 'insert' | 'update' | 'touch' | 'delete'; readonly key: string }
  | { readonly kind: 'move' | 'carry'; readonly key: string; readonly to: string }
  /** Inserts a row with that value of the unique index, or gives it to the row that is there. */
  | { readonly kind: 'take'; readonly key: string; readonly v: string }
  | { readonly kind: 'truncate' };

/** Whether it logs a row without its long value, so that others may have to ask for it. */
export function leavesOutLongValue({ kind }: Operation): boolean {
  return kind === 'touch' || kind === 'move';
}

/** What users do on each node, in this order; everything else may happen in any. */
export interface Scope {
  /** For each node its transactions. */
  readonly scripts: readonly (readonly Operation[])[];
  /** Heartbeats of each node. */
  readonly heartbeats: number;
  /** One node's commits may be held when they have taken their time, or when they are on the log and not seen yet. */
  readonly heldWhen: 'stamped' | 'written' | undefined;
  /** Column `v` has a unique index. */
  readonly unique?: true;
  // What follows is for single orders: states do not tell it, so that scopes which are tried whole have none of it.
  /** Whose commits may be held; else the first node's. */
  readonly heldAt?: number;
  /** The last node joins while the others are written, and copies this one. */
  readonly joins?: number;
  /** Own streams may also go on by one step, so that others come between. */
  readonly hasSteps?: true;
  /** This node may crash; then nothing is on disk before it is flushed in a turn of its own. */
  readonly crashes?: number;
  /** So often each node forgets what it need not remember any more; else never. */
  readonly purges?: number;
}

/** Does it in a transaction, and logs what that did; `number` is put into the values that it writes. */
export function* carryOut(
  { statements }: ModelNode,
  transaction: Transaction,
  operation: Operation,
  number: number,
): Steps {
  const { index } = statements.server;
  const values = (key: string, row?: Row) => {
    const v = `${index}.${number}`;
    return { key, v, big: row?.big ?? v };
  };
  const log = (change: Change) => transaction.changes.push(change);
  if (operation.kind === 'truncate') {
    yield* statements.truncate(transaction);
    log({ kind: 'truncate', relations: [ITEM], cascade: false, restartIdentity: false });
    return;
  }
  const { kind, key } = operation;
  switch (kind) {
    case 'insert': {
      const row = values(key);
      if (!(yield* statements.insert(transaction, row))) return;
      log({ kind, relation: ITEM, newTuple: tupleOf([key, row.v, row.big]) });
      return;
    }
    case 'take': {
      const row = { ...values(key), v: operation.v };
      const tuple = tupleOf([key, row.v, row.big]);
      if (yield* statements.insert(transaction, row)) {
        log({ kind: 'insert', relation: ITEM, newTuple: tuple });
      } else if (yield* statements.update(transaction, key, () => row)) {
        log({
          kind: 'update',
          relation: ITEM,
          oldTuple: null,
          oldTupleIsKey: false,
          newTuple: tuple,
        });
      }
      return;
    }
    case 'update': {
      const row = values(key);
      if (!(yield* statements.update(transaction, key, () => row))) return;
      const newTuple = tupleOf([key, row.v, row.big]);
      log({ kind, relation: ITEM, oldTuple: null, oldTupleIsKey: false, newTuple });
      return;
    }
    case 'touch': {
      const change = (row: Row) => values(key, row);
      if (!(yield* statements.update(transaction, key, change))) return;
      const newTuple = tupleOf([key, transaction.rows.get(key)?.v ?? null, UNCHANGED]);
      log({ kind: 'update', relation: ITEM, oldTuple: null, oldTupleIsKey: false, newTuple });
      return;
    }
    case 'delete': {
      if (!(yield* statements.delete(transaction, key))) return;
      log({ kind, relation: ITEM, oldTuple: tupleOf([key, null, null]), oldTupleIsKey: true });
      return;
    }
    case 'move':
    case 'carry': {
      const { to } = operation;
      if (statements.server.latest(to)) return;
      const old = yield* statements.delete(transaction, key);
      if (!old) return;
      const row = values(to, old);
      yield* statements.insertOrFail(transaction, row);
      const big = kind === 'carry' ? row.big : UNCHANGED;
      const [oldTuple, newTuple] = [tupleOf([key, null, null]), tupleOf([to, row.v, big])];
      log({ kind: 'update', relation: ITEM, oldTuple, oldTupleIsKey: true, newTuple });
    }
  }
}
