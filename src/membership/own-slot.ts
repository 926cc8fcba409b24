import { BdrError } from '../base/errors.ts';
import { formatLsn, ZERO_LSN } from '../base/lsn.ts';
import { ownOriginName, ownSlotName } from '../model/link.ts';
import type { NodeId } from '../model/node.ts';
import { ensureOrigin, originProgress } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { createSlot, readSlot } from '../postgres/slots.ts';

/**
 * Makes sure that the node can read its own log from here on. The position is set up once, after the slot: so an origin that has
 * one and a slot that is gone mean that deletions may have been missed, and that is an error which stays.
 */
export async function ensureOwnSlot(session: Session, node: NodeId): Promise<void> {
  const [name, origin] = [ownSlotName(node), ownOriginName(node)];
  await ensureOrigin(session, origin);
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
  const start = slot?.confirmed ?? (await createSlot(session, name));
  await session.query(/* sql */ `SELECT pg_replication_origin_advance($1, $2::pg_lsn)`, [
    origin,
    formatLsn(start),
  ]);
}
