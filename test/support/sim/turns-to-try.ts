import { readValues, UNSENT } from '../../../src/apply/row-values.ts';
import type { Scene, Turn } from './scene.ts';
import { leavesOutLongValue } from './scope.ts';
import type { WalRecord } from './transaction.ts';
import { originOf } from './world.ts';

/**
 * The turns of a state that are enough: whatever any order comes to is come to by an order that takes one of these first. (Persistent sets, as
 * they are called where programs are checked so.)
 *
 * A turn changes one node, and asks others for two things only: for the next records of their logs, which users' later ones do not change, and
 * for the rows that they have now, where a change has left out a long value. Of times only the order counts, and that is the order of the users'
 * turns. So turns of two nodes may change places, where neither node may ask the other for rows, unless a user's is among them: it takes a
 * time, and is read by others. Therefore
 *
 * - while users have something left to do, the turns of their nodes are tried, and of the nodes that share rows with those: what the
 *   rest can do now it can do as well when the users are done, since a link may take any number of the transactions that wait, not just all;
 * - then nobody writes to a log any more, and the nodes, or those that share rows, go to their ends one after the other.
 *
 * Heartbeats, kills and asks are sent at any time, and what they tell lets links ask for rows; a commit that is held is waited for: there
 * all turns are tried.
 */
export function turnsToTry(scene: Scene): readonly Turn[] {
  const turns = scene.turns();
  if (!scene.isPlain) return turns;
  // Asks for rows whenever something has lost to them.
  if (scene.world.has('lost values read before their commits are seen')) return turns;
  const nodes = [...scene.nodes.keys()];
  const busy = nodes.filter((node) => scene.isBusy(node));
  const first = turns[0]?.node;
  const chosen = new Set(busy.length > 0 || first === undefined ? busy : [first]);
  for (const node of chosen) {
    for (const other of nodes) {
      if (mayAsk(scene, node, other) || mayAsk(scene, other, node)) chosen.add(other);
    }
  }
  return turns.filter(({ node }) => chosen.has(node));
}

/** Whether a node may ask another one for a row: something that it has still to apply leaves out a long value. */
function mayAsk({ scope, nodes, done }: Scene, asking: number, asked: number): boolean {
  const [node, provider] = [nodes[asking], nodes[asked]];
  if (!node || !provider || node === provider) return false;
  const left = (scope.scripts[asked] ?? []).slice((done[asked] ?? 0) / 2);
  if (left.some(leavesOutLongValue)) return true;
  const position = node.server.position(originOf(asked));
  return provider.server.wal.slice(position).some(leavesOut);
}

function leavesOut({ origin, changes }: WalRecord): boolean {
  return (
    origin === 0 &&
    changes.some((one) => 'newTuple' in one && readValues(one.newTuple).includes(UNSENT))
  );
}
