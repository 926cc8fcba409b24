import { BdrError } from '../base/errors.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { SkipRequest } from '../catalog/links.ts';
import { readNodeIdentity } from '../catalog/nodes.ts';
import { slotName, type Link } from '../model/link.ts';
import { nodeKey, sameNode, type Node } from '../model/node.ts';
import { logPositions } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { readSlot } from '../postgres/slots.ts';
import { serverMajor } from '../postgres/server-facts.ts';

/**
 * The provider must be who it was, and its slot must still stand where this node left it. `progress` is how far this node has
 * applied the provider, durably. Returns the provider's major version.
 */
export async function checkProvider(
  peer: Session,
  link: Link,
  provider: Node,
  progress: Lsn,
): Promise<number> {
  const id = await readNodeIdentity(peer);
  if (!sameNode(id, provider.id)) {
    throw new BdrError('invalid_membership', {
      message: `the DSN of node ${provider.name} leads to another database`,
      detail: `Expected (${nodeKey(provider.id)}), found (${nodeKey(id)}).`,
      hint: 'Correct conn_dsn in bdr.bdr_connections, then SELECT bdr.bdr_connections_changed().',
    });
  }
  const name = slotName(link);
  const slot = await readSlot(peer, name);
  if (!slot) {
    throw new BdrError('slot_lost', {
      message: `replication slot "${name}" on node ${provider.name} does not exist`,
      hint: 'If this node was parted, remove it here: SELECT bdr.remove_bdr_from_local_node(true). Changes since then are not here.',
    });
  }
  if (slot.walStatus === 'lost') {
    throw new BdrError('slot_lost', {
      message: `replication slot "${name}" on node ${provider.name} has lost WAL that this node needs`,
      hint: 'Part this node, remove BDR from it, and join it again.',
    });
  }
  if (slot.confirmed !== null && slot.confirmed > progress) {
    throw new BdrError('slot_lost', {
      message: `node ${provider.name} was told that changes are here which are not: slot at ${formatLsn(slot.confirmed)}, this node at ${formatLsn(progress)}`,
      hint: 'This happens when a node is restored from a backup. Part it, remove BDR from it, and join it again.',
    });
  }
  return serverMajor(peer);
}

/** What the provider has not written yet must not be skipped: nobody can want that, and a slip of the pen would lose it. */
export async function checkSkipRequest(
  peer: Session,
  provider: Node,
  request: SkipRequest | null,
): Promise<void> {
  if (!request) return;
  const { insert } = await logPositions(peer);
  if (request.upto <= insert) return;
  throw new BdrError('invalid_skip', {
    message: `changes up to ${formatLsn(request.upto)} are to be skipped, which lies beyond the log of node ${provider.name}, at ${formatLsn(insert)}`,
    detail: `Asked for by ${request.by}.`,
    hint: 'Call bdr.skip_changes_upto(...) again with the right position.',
  });
}
