import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { lockMembership, readNodes, readParting } from '../catalog/nodes.ts';
import { isPublishedTo, stopPublishingTo } from '../catalog/publications.ts';
import { ownSlotName, slotName, type Link } from '../model/link.ts';
import { sameNode, type Node, type NodeId } from '../model/node.ts';
import { Session } from '../postgres/session.ts';
import { dropSlot, readSlot } from '../postgres/slots.ts';
import type { Endpoints } from './endpoints.ts';

/** How long a parted node may go on reading, so that it learns that it was parted. */
const GRACE_S = 5;

/**
 * Drops this node's slot for a parted subscriber, so that no WAL is kept for it, and what was published to it. While the
 * subscriber is still reading it is given a moment to hear of its parting. Under a lock on the nodes, because the subscriber may be
 * joining again: it makes its new slot only after its new row has arrived here. Returns whether nothing is left.
 */
export async function releaseParted(session: Session, link: Link): Promise<boolean> {
  const name = slotName(link);
  const slot = await readSlot(session, name);
  if (!slot && !(await isPublishedTo(session, link.subscriber))) return true;
  return session.transaction(async () => {
    await lockMembership(session);
    const parted = await readParting(session, link.subscriber, GRACE_S);
    if (!parted) return false;
    if (slot?.active && !parted.overdue) return false;
    if (slot && slot.activePid !== null) {
      await session.query('SELECT pg_terminate_backend($1, 1000)', [slot.activePid]);
    }
    if ((await readSlot(session, name))?.active) return false;
    await session.query(
      'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active',
      [name],
    );
    await stopPublishingTo(session, link.subscriber);
    return true;
  });
}

/** As releaseParted(), by a node that was parted itself: for all its former peers, and its own stream. Returns whether nothing is left. */
export async function releaseOwnSlots(
  session: Session,
  me: NodeId,
  peers: readonly NodeId[],
): Promise<boolean> {
  let left = 0;
  for (const peer of peers) {
    if (!(await releaseParted(session, { provider: me, subscriber: peer }))) left += 1;
  }
  const own = await readSlot(session, ownSlotName(me));
  // The end of its reader is noticed a moment later.
  if (own?.active) left += 1;
  else if (own) await dropSlot(session, own.name);
  return left === 0;
}

/**
 * Asks the peers whether they have parted this node while it could not hear of it. Returns one that says so.
 */
export async function askWhetherParted(
  endpoints: Endpoints,
  me: Node,
  peers: readonly Node[],
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
): Promise<Node | undefined> {
  for (const peer of peers) {
    if (peer.status !== 'r' || peer.dsn === null) continue;
    try {
      await using asked = await Session.connect(endpoints.conninfo(peer.dsn), {
        applicationName: `${me.name}:check`,
        signal,
        connectTimeoutMs: 5000,
      });
      const mine = (await readNodes(asked)).find(({ id }) => sameNode(id, me.id));
      if (mine?.status === 'k') return peer;
    } catch (error) {
      log.debug({ peer: peer.name, error: messageOf(error) }, 'peer could not be asked');
    }
  }
  return undefined;
}
