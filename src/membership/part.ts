import { lockMembership, readParting } from '../catalog/nodes.ts';
import { isPublishedTo, stopPublishingTo } from '../catalog/publications.ts';
import type { Link } from '../model/link.ts';
import { slotName } from '../model/link.ts';
import type { Session } from '../postgres/session.ts';
import { readSlot } from '../postgres/slots.ts';

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
