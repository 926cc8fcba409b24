import { readIndexBuildStates, type IndexBuildState } from '../catalog/index-builds.ts';
import { readInstallation } from '../catalog/installation.ts';
import {
  readAgentPid,
  readClock,
  readClockSteps,
  readGlobalLockStates,
  readConflictCounts,
  readJoinProgress,
  readLinkStates,
  readOwnStreamState,
  readRecordState,
  readSlotStates,
  type ClockStepState,
  type GlobalLockState,
  type ConflictCounts,
  type LinkState,
  type Moment,
  type OwnStreamState,
  type RecordState,
  type SlotState,
} from '../catalog/monitoring.ts';
import {
  readLocalNode,
  readNodes,
  type JoinError,
  type JoinProgress,
  type LocalNode,
} from '../catalog/nodes.ts';
import { readOpenWriters, type OpenWriter } from '../catalog/open-writers.ts';
import { nodeKey, sameNode, type Node, type NodeId, type NodeStatus } from '../model/node.ts';
import { redactConninfo } from '../postgres/conninfo.ts';
import { readNodeDatabases } from '../postgres/databases.ts';
import { readServerBasics } from '../postgres/server-basics.ts';
import type { Session } from '../postgres/session.ts';
import { whoHoldsDeletions, type HeldDeletions } from './held-deletions.ts';

/** What people call the letters of bdr_nodes.node_status. */
export const STATUS_WORDS: Readonly<Record<NodeStatus, string>> = {
  b: 'beginning',
  i: 'copying',
  c: 'catching up',
  o: 'opening',
  r: 'ready',
  k: 'parted',
};

/** A database that takes part in no group, and what there is instead. */
export interface InactiveStatus {
  readonly active: false;
  readonly at: Moment;
  readonly database: string;
  readonly postgres: string;
  /** bdr.bdr_version(); null where bdr is not installed. */
  readonly bdr: string | null;
  /** The server has the files for CREATE EXTENSION bdr. */
  readonly extensionAvailable: boolean;
  /** The server's databases that are nodes. */
  readonly nodeDatabases: readonly string[];
}

export interface JoinStatus {
  readonly step: string | null;
  readonly progress: JoinProgress | null;
  readonly error: JoinError | null;
}

export interface MemberStatus {
  readonly id: NodeId;
  readonly name: string;
  readonly status: NodeStatus;
  readonly statusWord: string;
  /** Its group-wide number; null until the group knows it. */
  readonly sequence: number | null;
  /** How others reach it, without secrets. */
  readonly dsn: string | null;
  readonly isLocal: boolean;
  readonly error: string | null;
  /** The replication sets that it gets; null or none: everything. */
  readonly replicationSets: readonly string[] | null;
  /** Its users may not write to replicated tables. */
  readonly isReadOnly: boolean;
}

/** A node as itself and its database tell: `bdr status --json` prints exactly this. */
export interface ActiveStatus {
  readonly active: true;
  readonly at: Moment;
  readonly database: string;
  readonly postgres: string;
  readonly bdr: string | null;
  /** Without an agent nothing is applied here, and what links report is old. */
  readonly agentPid: number | null;
  readonly name: string;
  readonly status: NodeStatus;
  readonly statusWord: string;
  readonly applyPaused: boolean;
  /** While the node joins. */
  readonly join: JoinStatus | null;
  readonly nodes: readonly MemberStatus[];
  /** What this node reads from its peers. */
  readonly links: readonly (LinkState & { readonly from: string })[];
  /** How it learns what its own users delete; null until its agent has begun. */
  readonly ownStream: OwnStreamState | null;
  /** What keeps deletions from being forgotten; null while none is remembered. */
  readonly heldDeletions: HeldDeletions | null;
  /** Transactions here that keep all watermarks of this node where they are. */
  readonly openWriters: readonly OpenWriter[];
  /** What the peers read from this node. */
  readonly slots: readonly (SlotState & { readonly to: string })[];
  readonly records: RecordState;
  readonly clockSteps: readonly ClockStepState[];
  /** The global lock, where it is held or asked for. */
  readonly globalLocks: readonly GlobalLockState[];
  /** Indexes that it has still to build beside its links. */
  readonly indexBuilds: readonly IndexBuildState[];
  readonly conflicts: ConflictCounts;
}

export type NodeReport = ActiveStatus | InactiveStatus;

/** Reads how the node of the session's database is. It is asked as a superuser, for connection strings hold passwords. */
export async function readStatus(session: Session): Promise<NodeReport> {
  const { database, version: postgres } = await readServerBasics(session);
  const at = await readClock(session);
  const installation = await readInstallation(session);
  const installed = installation.kind === 'plain' || installation.kind === 'extension';
  const local = installed ? await readLocalNode(session) : undefined;
  const nodes = local ? await readNodes(session) : [];
  const me = local && nodes.find(({ id }) => sameNode(id, local.id));
  if (!local || !me) {
    return {
      active: false,
      at,
      database,
      postgres,
      bdr: installation.version,
      extensionAvailable: installation.availableVersion !== null,
      nodeDatabases: (await readNodeDatabases(session)).map(({ name }) => name).toSorted(),
    };
  }
  const nameOf = (id: NodeId) => nodes.find((node) => sameNode(node.id, id))?.name ?? nodeKey(id);
  const links = await readLinkStates(session);
  const linksFrom = links.map((link) => ({ from: nameOf(link.provider), ...link }));
  const slots = await readSlotStates(session);
  const ownStream = (await readOwnStreamState(session)) ?? null;
  return {
    active: true,
    at,
    database,
    postgres,
    bdr: installation.version,
    agentPid: await readAgentPid(session),
    name: me.name,
    status: me.status,
    statusWord: STATUS_WORDS[me.status],
    applyPaused: local.applyPaused,
    join: await readJoin(session, me, local),
    nodes: nodes.map((node) => memberStatus(node, me)),
    links: linksFrom,
    ownStream,
    heldDeletions: whoHoldsDeletions({ at, name: me.name, links: linksFrom, ownStream }) ?? null,
    openWriters: await readOpenWriters(session),
    slots: slots.map((slot) => ({ to: nameOf(slot.subscriber), ...slot })),
    records: await readRecordState(session),
    clockSteps: await readClockSteps(session),
    globalLocks: await readGlobalLockStates(session),
    indexBuilds: await readIndexBuildStates(session),
    conflicts: await readConflictCounts(session),
  };
}

async function readJoin(session: Session, me: Node, local: LocalNode): Promise<JoinStatus | null> {
  if (me.status === 'r' || me.status === 'k') return null;
  return {
    step: local.joinStep,
    progress: await readJoinProgress(session),
    error: local.joinError,
  };
}

function memberStatus(node: Node, me: Node): MemberStatus {
  return {
    id: node.id,
    name: node.name,
    status: node.status,
    statusWord: STATUS_WORDS[node.status],
    sequence: node.sequence,
    dsn: node.dsn === null ? null : redactConninfo(node.dsn),
    isLocal: node === me,
    error: node.error,
    replicationSets: node.replicationSets,
    isReadOnly: node.isReadOnly,
  };
}
