import { keepsLost, type TablePolicy } from '../../../src/conflict/policy.ts';
import { compareVersions } from '../../../src/conflict/version.ts';
import type { Change } from '../../../src/pgoutput/transaction.ts';
import { describeRow } from './describe-record.ts';
import { nameOfNode } from './policy.ts';
import type { ModelServer } from './server.ts';
import type { Row, WalRecord } from './transaction.ts';
import { Violation } from './world.ts';

/** What a transaction of a node's own made of a key. */
interface Write {
  readonly server: ModelServer;
  /** Its place in the node's log. */
  readonly at: number;
  readonly record: WalRecord;
  readonly row: Row | undefined;
  readonly kinds: readonly Change['kind'][];
}

/**
 * All is quiet: where the last two writes of a key are those of two nodes that did not know of each other, and both knew of all
 * others, the policy has decided between them. With two nodes: else a third may have come in between.
 */
export function checkOutcomes(policy: TablePolicy, servers: readonly ModelServer[]): void {
  const [first] = servers;
  if (!first || servers.length !== 2 || policy.name === 'handler') return;
  for (const key of first.keys()) {
    const writes = servers.flatMap((server) => writesOf(server, key));
    const byUsers = writes.filter(({ record }) => record.settledWrites.length === 0);
    const [winner, loser] = byUsers.toSorted((a, b) => compareWrites(b, a));
    if (!winner || !loser || !isPlain(winner) || !isPlain(loser)) continue;
    if (winner.server === loser.server || knows(winner, loser) || knows(loser, winner)) continue;
    const others = writes.filter((one) => one !== winner && one !== loser);
    const isLast = others.every(
      (one) =>
        (knows(winner, one) && knows(loser, one)) || (knows(one, winner) && knows(one, loser)),
    );
    if (!isLast || !decides(loser, winner)) continue;
    const kept = keepsLost(policy, contender(loser), contender(winner)) ? loser : winner;
    const found = first.latest(key);
    if (found?.v === kept.row?.v && found?.big === kept.row?.big) continue;
    throw new Violation(
      'a policy is not carried out',
      `key ${key}: ${describeRow(found)}, not ${describeRow(kept.row)} of node ${kept.server.index}; the other is ${describeRow((kept === loser ? winner : loser).row)}`,
    );
  }
}

function writesOf(server: ModelServer, key: string): Write[] {
  return server.wal.flatMap((record, at) => {
    if (record.origin !== 0 || !(record.rows.has(key) || record.truncates)) return [];
    const kinds = record.changes
      .filter((change) => change.kind === 'truncate' || keysOf(change).includes(key))
      .map(({ kind }) => kind);
    return [{ server, at, record, row: record.rows.get(key), kinds }];
  });
}

function keysOf(change: Change): (string | null)[] {
  switch (change.kind) {
    case 'insert':
      return [change.newTuple.text(0)];
    case 'update':
      return [change.newTuple.text(0), change.oldTuple?.text(0) ?? null];
    case 'delete':
      return [change.oldTuple.text(0)];
    case 'truncate':
    case 'message':
      return [];
  }
}

/** One change of the row, under its key. */
function isPlain({ record, kinds }: Write): boolean {
  const moves = record.changes.some(
    (change) => change.kind === 'update' && change.oldTuple?.text(0) !== change.newTuple.text(0),
  );
  return kinds.length === 1 && kinds[0] !== 'truncate' && !moves;
}

/** An insert and a deletion of one key that do not know of each other are about two rows. */
function decides(one: Write, other: Write): boolean {
  const kinds = [one.kinds[0], other.kinds[0]];
  return !(kinds.includes('insert') && kinds.includes('delete'));
}

/** Whether who made a write had another one. */
function knows(one: Write, other: Write): boolean {
  if (one.server === other.server) return one.at > other.at;
  return (one.record.hadApplied[other.server.index] ?? 0) > other.at;
}

function compareWrites(a: Write, b: Write): number {
  const version = ({ record, server }: Write) => ({ time: record.time, writer: server.writer });
  return compareVersions(version(a), version(b));
}

function contender({ server, row }: Write) {
  return { node: nameOfNode(server.index), isDeletion: row === undefined };
}
