import {
  both,
  covers,
  type GlobalLockRow,
  type LockAsk,
  type LockNeed,
} from '../model/global-lock.ts';
import { nodeKey, sameNode, type NodeId } from '../model/node.ts';

/**
 * The global lock (DESIGN 6): what a node does next, from what it knows. Every node writes rows about itself, which come to the
 * others in order with its data, and nothing else is sent; so a crash at any moment forgets nothing.
 *
 *     the owner        asked ──────────────► acquired ──► released (the transaction has ended)
 *                        └─► released, and asks again later: an earlier ask of another node has turned up
 *     another node     (nothing) ──► catchup ──► acquired ──► (nothing: it has seen the release)
 *
 * *One holder.* An answer is a promise to answer nobody else, and to ask for nothing, until the release is seen. Who has asked
 * answers nobody, unless it takes its own ask back. So two owners cannot both have all answers, nor a majority each.
 *
 * *Nobody waits in a circle.* Of two asks the earlier goes first, and the later is taken back by its own node: nobody else could,
 * because only that node knows that the lock is not granted yet. All nodes see the same order.
 *
 * *Definitions come in one order everywhere.* The release lies behind the holder's commit in its stream, so who has seen the one has
 * applied the other. With an answer a node tells which releases it has seen, and who asks is granted the lock only when it has seen
 * them, too: under a majority it may have had no part in them.
 *
 * *A write lock is granted when nothing of the old is on its way.* A node's answer is committed with the gates that hold its
 * users' writes. Who sees the answer has applied all that was written before. An answer becomes `acquired` when the node sees those of
 * all others but the owner; the owner is granted the lock when it sees all of them.
 */
export interface LockView {
  readonly me: NodeId;
  /** The nodes that count, this one included: neither parted nor unknown to the group yet. */
  readonly members: readonly LockMember[];
  readonly rows: readonly GlobalLockRow[];
  /** Of transactions that wait; the earliest first. */
  readonly asks: readonly LockAsk[];
  /** The transaction that this node's own row is for is still there. */
  readonly isHolderAlive: boolean;
}

export interface LockMember {
  readonly id: NodeId;
  /** Null until it is known to the group. */
  readonly sequence: number | null;
  /** Its stream is being read here. */
  readonly isConnected: boolean;
}

export type LockStep =
  | { readonly kind: 'wait' }
  /** For a new lock, or for more under the one that is held: then `more` is what it becomes. */
  | { readonly kind: 'ask'; readonly ask: LockAsk; readonly more?: LockNeed }
  | { readonly kind: 'grant' }
  | { readonly kind: 'release' }
  /** Holds back users' writes if the lock asks for that, and promises. */
  | {
      readonly kind: 'answer';
      readonly lock: GlobalLockRow;
      readonly known: Record<string, number>;
    }
  | { readonly kind: 'confirm'; readonly lock: GlobalLockRow }
  /** Takes an answer back, whose lock is released, and lets writes go on. */
  | { readonly kind: 'forget'; readonly answer: GlobalLockRow };

const WAIT: LockStep = { kind: 'wait' };

/** What the node does next. To be asked again, with what is known then, after each step. */
export function nextStep(view: LockView): LockStep {
  const { me, members, rows, asks } = view;
  const isMember = (id: NodeId) => members.some((member) => sameNode(member.id, id));
  const own = ownLock(view);
  if (own && (!view.isHolderAlive || !isMember(me))) return { kind: 'release' };

  const others = locksOfOthers(view);
  const answers = rows.filter(({ owner, node }) => sameNode(node, me) && !sameNode(owner, me));
  const lockOf = (answer: GlobalLockRow) =>
    others.find(({ owner, number }) => sameNode(owner, answer.owner) && number === answer.number);
  const stale = answers.find((answer) => !lockOf(answer) || !isMember(me));
  if (stale) return { kind: 'forget', answer: stale };
  if (!isMember(me)) return WAIT;

  if (own) return stepOfOwner(view, own, others[0]);

  const [answer] = answers;
  const lock = answer ? lockOf(answer) : others[0];
  if (lock) {
    if (!answer || answer.round < lock.round)
      return { kind: 'answer', lock, known: knownReleases(view) };
    if (answer.state === 'catchup' && hasAllMarks(view, lock)) return { kind: 'confirm', lock };
    return WAIT;
  }
  const [ask] = asks;
  // Not while a node is away: it could not answer, and the others would hold their users' writes for nothing.
  if (
    ask &&
    (mayBeMajority(ask) || members.every(({ id, isConnected }) => isConnected || sameNode(id, me)))
  )
    return { kind: 'ask', ask };
  return WAIT;
}

/** The lock that this node asks for or holds. */
export function ownLock({ me, rows }: Pick<LockView, 'me' | 'rows'>): GlobalLockRow | undefined {
  return rows.find(
    ({ owner, node, state }) => sameNode(owner, me) && sameNode(node, me) && state !== 'released',
  );
}

/** The locks that other nodes ask for or hold: first what is held, then by the order of asking. */
export function locksOfOthers({
  me,
  members,
  rows,
}: Pick<LockView, 'me' | 'members' | 'rows'>): GlobalLockRow[] {
  return rows
    .filter(
      ({ owner, node, state }) =>
        sameNode(owner, node) &&
        !sameNode(owner, me) &&
        state !== 'released' &&
        members.some(({ id }) => sameNode(id, owner)),
    )
    .toSorted((a, b) => (precedes(members, a, b) ? -1 : 1));
}

/** Who has not answered a lock yet, as far as this node knows. */
export function unanswered(
  { members, rows }: Pick<LockView, 'members' | 'rows'>,
  lock: GlobalLockRow,
): LockMember[] {
  const answered = answersTo(rows, lock).filter(({ state }) => state === 'acquired');
  return members.filter(
    ({ id }) => !sameNode(id, lock.owner) && !answered.some(({ node }) => sameNode(node, id)),
  );
}

function stepOfOwner(
  view: LockView,
  own: GlobalLockRow,
  other: GlobalLockRow | undefined,
): LockStep {
  if (own.state === 'acquired') {
    const ask = view.asks.find(({ holder }) => holder.transaction === own.holder?.transaction);
    return ask && !covers(own, ask) ? { kind: 'ask', ask, more: both(own, ask) } : WAIT;
  }
  // What is asked for in addition is not given up: the transaction holds the lock.
  if (own.round === 1 && other && precedes(view.members, other, own)) return { kind: 'release' };
  return isGranted(view, own) ? { kind: 'grant' } : WAIT;
}

function isGranted(view: LockView, own: GlobalLockRow): boolean {
  const { members, rows, me } = view;
  const missing = unanswered(view, own).length;
  const enough = mayBeMajority(own) ? members.length - missing > members.length / 2 : missing === 0;
  if (!enough) return false;
  return answersTo(rows, own).every(({ known }) =>
    members.every(({ id }) => sameNode(id, me) || hasSeenRelease(rows, id, known[nodeKey(id)])),
  );
}

function mayBeMajority({ mode, mayBeMajority: may }: LockNeed): boolean {
  return may && mode === 'ddl_lock';
}

/** All nodes but the owner hold their users' writes, and all that they wrote before is applied here. */
function hasAllMarks({ me, members, rows }: LockView, lock: GlobalLockRow): boolean {
  const answers = answersTo(rows, lock);
  return members.every(
    ({ id }) =>
      sameNode(id, me) ||
      sameNode(id, lock.owner) ||
      answers.some(({ node }) => sameNode(node, id)),
  );
}

function answersTo(rows: readonly GlobalLockRow[], lock: GlobalLockRow): GlobalLockRow[] {
  return rows.filter(
    ({ owner, node, number, round }) =>
      sameNode(owner, lock.owner) &&
      !sameNode(node, owner) &&
      number === lock.number &&
      round === lock.round,
  );
}

/** Who goes first: whoever holds the lock already, then who has asked first; of two at the same moment the lower node. */
function precedes(members: readonly LockMember[], a: GlobalLockRow, b: GlobalLockRow): boolean {
  const isHeld = ({ state, round }: GlobalLockRow) => state === 'acquired' || round > 1;
  if (isHeld(a) !== isHeld(b)) return isHeld(a);
  if (a.askedAt !== b.askedAt) return a.askedAt < b.askedAt;
  const sequence = ({ owner }: GlobalLockRow) =>
    members.find(({ id }) => sameNode(id, owner))?.sequence ?? Infinity;
  const [first, second] = [sequence(a), sequence(b)];
  return first === second ? nodeKey(a.owner) < nodeKey(b.owner) : first < second;
}

/** Whether a lock of an owner is known here to be released, or a later one to be asked for. */
function hasSeenRelease(
  rows: readonly GlobalLockRow[],
  id: NodeId,
  number: number | undefined,
): boolean {
  if (number === undefined) return true;
  const last = rows.find(({ owner, node }) => sameNode(owner, id) && sameNode(node, id));
  if (!last) return false;
  return last.number > number || (last.number === number && last.state === 'released');
}

function knownReleases({ me, rows }: LockView): Record<string, number> {
  const released = rows.filter(
    ({ owner, node, state }) =>
      sameNode(owner, node) && !sameNode(owner, me) && state === 'released',
  );
  return Object.fromEntries(released.map(({ owner, number }) => [nodeKey(owner), number]));
}
