import { BdrError } from '../base/errors.ts';
import { formatLsn, ZERO_LSN } from '../base/lsn.ts';
import { whileNode } from '../catalog/apply-gate.ts';
import { ownOriginName, ownSlotName } from '../model/link.ts';
import type { NodeId } from '../model/node.ts';
import { ensureOrigin, originProgress } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { createSlot, dropSlot, readSlot } from '../postgres/slots.ts';

/**
 * Makes sure that the node can read its own log from here on. The position is set up once, after the slot: so an origin that has
 * one and a slot that is gone mean that deletions may have been missed, and that is an error which stays.
 */
export async function ensureOwnSlot(session: Session, node: NodeId): Promise<void> {
  const [name, origin] = [ownSlotName(node), ownOriginName(node)];
  await whileNode(session, () => ensureOrigin(session, origin));
  const progress = await originProgress(session, origin, false);
  const slot = await readSlot(session, name);
  if (progress !== ZERO_LSN) {
    const hint = 'Part this node, remove BDR from it, and join it again.';
    if (!slot) {
      throw new BdrError('slot_lost', {
        message: `replication slot "${name}", from which this node learns of local deletions, does not exist`,
        hint,
      });
    }
    if (slot.walStatus === 'lost') {
      throw new BdrError('slot_lost', {
        message: `replication slot "${name}", from which this node learns of local deletions, has lost WAL that it needs`,
        hint,
      });
    }
    return;
  }
  // Not while holding remove_bdr_from_local_node() back: a new slot waits for whoever writes, so the two could wait for each other.
  const start = slot?.confirmed ?? (await createSlot(session, name));
  try {
    await whileNode(session, () =>
      session.query(/* sql */ `SELECT pg_replication_origin_advance($1, $2::pg_lsn)`, [
        origin,
        formatLsn(start),
      ]),
    );
  } catch (error) {
    // Nobody would ever drop it, and it would keep all WAL from here on.
    const removed = error instanceof BdrError && error.code === 'invalid_membership';
    if (removed) await dropSlot(session, name);
    throw error;
  }
}
