import { BdrError, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { readNodeIdentity } from '../catalog/nodes.ts';
import { sameNode, type Node } from '../model/node.ts';
import { readServerBasics } from '../postgres/server-basics.ts';
import { Session } from '../postgres/session.ts';
import type { Endpoints } from './endpoints.ts';

/**
 * A copy of a node's files, started as a server of its own, knows no better than that it is the node: it would take the node's slots on
 * the peers, and what they keep for it. So the node's own DSN is followed before anything is asked of them: peers and users find the
 * node where that leads. Throws BdrError `invalid_membership` where another server answers there for the node. Returns whether this is
 * that server. Where nobody answers, or a standby, or somebody else, nothing can be told yet, and the node goes on.
 */
export async function refuseCopy(
  session: Session,
  endpoints: Endpoints,
  me: Node,
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
): Promise<boolean> {
  if (me.dsn === null) return false;
  const here = await readServerStart(session);
  let there: string | undefined;
  try {
    await using same = await Session.connect(endpoints.conninfo(me.dsn), {
      applicationName: `${me.name}:self`,
      signal,
      connectTimeoutMs: 5000,
    });
    const { inRecovery } = await readServerBasics(same);
    if (!inRecovery && sameNode(await readNodeIdentity(same), me.id))
      there = await readServerStart(same);
  } catch (error) {
    log.warn({ error: messageOf(error) }, "the node's own DSN cannot be followed from here");
  }
  if (there === undefined || there === here) return there === here;
  throw new BdrError('invalid_membership', {
    message: `this server is a copy of that of node ${me.name}: the DSN of the node leads to another one`,
    detail: `The one there has been running since ${there}, this one since ${here}.`,
    hint: `SELECT bdr.remove_bdr_from_local_node(true) makes this a database of its own. If it is to take the node's place, stop the other server for good and let the DSN lead here.`,
  });
}

/** When the server was started, to the microsecond: no two servers have the same. */
async function readServerStart(session: Session): Promise<string> {
  const [row] = await session.query<{ start: string }>(
    /* sql */ `SELECT (pg_postmaster_start_time() AT TIME ZONE 'UTC')::text || ' UTC' AS start`,
  );
  return row?.start ?? '';
}
