import { BdrError, messageOf } from '../base/errors.ts';
import { readInstallation } from '../catalog/installation.ts';
import { readNodeIdentity } from '../catalog/nodes.ts';
import { sameNode, type Node, type NodeId } from '../model/node.ts';
import {
  describeConninfo,
  resolveConninfo,
  type ConninfoEnvironment,
} from '../postgres/conninfo.ts';
import { ReplicationSession } from '../postgres/replication-session.ts';
import { readServerFacts } from '../postgres/server-facts.ts';
import { Session } from '../postgres/session.ts';

/** What came of connecting to a node as its peers do. */
export interface PeerCheck {
  readonly name: string;
  readonly isLocal: boolean;
  /** Where its DSN leads, without secrets; null while no connection row has arrived. */
  readonly where: string | null;
  /** Why it cannot be asked; null when it answers. */
  readonly failure: { readonly message: string; readonly hint: string | null } | null;
  readonly answer: PeerAnswer | null;
}

export interface PeerAnswer {
  /** The database there is the node. */
  readonly isThatNode: boolean;
  readonly superuser: boolean;
  readonly versionNumber: number | null;
  /** The oldest version that it gets along with. */
  readonly leastVersionNumber: number | null;
  readonly encoding: string;
  readonly replicationFailure: string | null;
  /** Its server's clock minus this one's, and how wrong that may be. */
  readonly clockAheadMs: number;
  readonly clockErrorMs: number;
}

/** A server's clock minus this process's. */
export interface ClockReading {
  readonly offsetMs: number;
  readonly errorMs: number;
}

const DEADLINE_MS = 10_000;

/** Reads a server's clock, as well as the way there and back allows. */
export async function readClockOffset(session: Session): Promise<ClockReading> {
  let best: ClockReading | undefined;
  for (let i = 0; i < 3; i++) {
    const sent = performance.now();
    const [row] = await session.query<{ ms: string }>(
      /* sql */ `SELECT extract(epoch FROM clock_timestamp()) * 1000 AS ms`,
    );
    const received = performance.now();
    const errorMs = (received - sent) / 2;
    const offsetMs = Number(row?.ms) - (sent + errorMs);
    if (!best || errorMs < best.errorMs) best = { offsetMs, errorMs };
  }
  return best as ClockReading;
}

/** Connects to a node by the DSN that its peers use. Never throws. */
export async function checkPeer(
  node: Node,
  me: NodeId,
  clock: ClockReading,
  environment: ConninfoEnvironment,
): Promise<PeerCheck> {
  const about = {
    name: node.name,
    isLocal: sameNode(node.id, me),
    where: node.dsn === null ? null : describeConninfo(node.dsn),
  };
  if (node.dsn === null) {
    const failure = { message: 'its connection is not known here yet', hint: null };
    return { ...about, failure, answer: null };
  }
  try {
    return { ...about, failure: null, answer: await ask(node, node.dsn, clock, environment) };
  } catch (error) {
    return { ...about, failure: explain(error), answer: null };
  }
}

async function ask(
  node: Node,
  dsn: string,
  clock: ClockReading,
  environment: ConninfoEnvironment,
): Promise<PeerAnswer> {
  const conninfo = resolveConninfo(dsn, environment);
  const options = { applicationName: 'bdr doctor', signal: AbortSignal.timeout(DEADLINE_MS) };
  await using session = await Session.connect(conninfo, options);
  options.signal.addEventListener('abort', () => session.abort(), { once: true });
  const there = await readClockOffset(session);
  const facts = await readServerFacts(session);
  const { kind } = await readInstallation(session);
  const isOurs = kind === 'plain' || kind === 'extension';
  return {
    isThatNode: isOurs && sameNode(await readNodeIdentity(session), node.id),
    superuser: facts.superuser,
    versionNumber: facts.bdrVersion,
    leastVersionNumber: facts.bdrMinRemoteVersion,
    encoding: facts.encoding,
    replicationFailure: await ReplicationSession.identify(conninfo, options).then(
      () => null,
      (error: unknown) => explain(error).message,
    ),
    clockAheadMs: there.offsetMs - clock.offsetMs,
    clockErrorMs: there.errorMs + clock.errorMs,
  };
}

function explain(error: unknown): { message: string; hint: string | null } {
  if (error instanceof Error && error.name === 'TimeoutError') {
    return { message: `no answer within ${DEADLINE_MS / 1000} s`, hint: null };
  }
  const hint = error instanceof BdrError ? (error.hint ?? null) : null;
  return { message: messageOf(error), hint };
}
