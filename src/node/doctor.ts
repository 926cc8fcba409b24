import {
  EXTENSION_VERSION,
  readInstallation,
  VERSION_NUMBER,
  type Installation,
} from '../catalog/installation.ts';
import { readOpenGates } from '../catalog/gates.ts';
import { readLocalNode, readNodes } from '../catalog/nodes.ts';
import { readLocalColumns, type LocalColumns } from '../catalog/local-columns.ts';
import { readPolicyStates, type PolicyState } from '../catalog/policy-states.ts';
import { readUnsettledTables } from '../catalog/publications.ts';
import { readPartedPositions } from '../catalog/parted-positions.ts';
import { readUnconvertedSequences } from '../catalog/sequences.ts';
import { messageOf } from '../base/errors.ts';
import type { Conninfo, ConninfoEnvironment } from '../postgres/conninfo.ts';
import { readDoctorServerFacts } from '../postgres/doctor-facts.ts';
import { readDoctorTables, type DoctorTables } from '../postgres/doctor-tables.ts';
import { isMarkedAsNode } from '../postgres/databases.ts';
import { ReplicationSession } from '../postgres/replication-session.ts';
import { readServerBasics } from '../postgres/server-basics.ts';
import { readServerFacts } from '../postgres/server-facts.ts';
import type { Session } from '../postgres/session.ts';
import { checkInstallation } from './doctor-database.ts';
import { checkNode, type NodeToCheck } from './doctor-node.ts';
import { checkLocalColumns } from './doctor-local-columns.ts';
import { checkPolicies } from './doctor-policies.ts';
import { checkServer, OLDEST_MAJOR, type ServerToCheck } from './doctor-server.ts';
import { checkTables } from './doctor-tables.ts';
import type { Finding } from './finding.ts';
import { checkPeer, readClockOffset } from './peer-check.ts';
import { readHistorySettings } from './history-settings.ts';
import { readStatus } from './status.ts';

/** All that the doctor looks at. Null where it cannot be asked. */
export interface DoctorFacts {
  readonly server: ServerToCheck;
  readonly installation: Installation | null;
  readonly tables: DoctorTables | null;
  /** Null while the database is not a node. */
  readonly node: NodeToCheck | null;
  /** None while the database is not a node. */
  readonly policies: readonly PolicyState[];
  readonly localColumns: readonly LocalColumns[];
}

export interface DoctorContext {
  /** What the session was made from, to try a replication connection. */
  readonly conninfo: Conninfo;
  readonly environment: ConninfoEnvironment;
  /** The newest migration of this program. */
  readonly latestMigration: number;
}

/** Looks at a server and at the session's database; changes nothing. */
export async function examine(session: Session, context: DoctorContext): Promise<Finding[]> {
  return diagnose(await readDoctorFacts(session, context), context.latestMigration);
}

/** What is found, from the facts alone. */
export function diagnose(facts: DoctorFacts, latestMigration: number): Finding[] {
  const program = { extension: EXTENSION_VERSION, number: VERSION_NUMBER, latestMigration };
  const { node } = facts;
  const live = node?.status.nodes.filter(({ status }) => status !== 'k') ?? [];
  const numbering = { nodes: Math.max(1, live.length), isNode: node !== null };
  return [
    ...checkServer(facts.server),
    ...(facts.installation ? checkInstallation(facts.installation, program) : []),
    ...(facts.tables ? checkTables(facts.tables, numbering) : []),
    ...(node ? checkNode(node) : []),
    ...checkPolicies(facts.policies),
    ...checkLocalColumns(facts.localColumns),
  ];
}

async function readDoctorFacts(session: Session, context: DoctorContext): Promise<DoctorFacts> {
  const basics = await readServerBasics(session);
  const { conninfo, environment } = context;
  if (basics.major < OLDEST_MAJOR) {
    const server = { basics, facts: null, replicationFailure: null, active: false };
    return { server, installation: null, tables: null, node: null, policies: [], localColumns: [] };
  }
  const node = basics.superuser ? await readNode(session, environment) : null;
  return {
    server: {
      basics,
      facts: basics.superuser ? await readDoctorServerFacts(session) : null,
      replicationFailure: await tryReplication(conninfo),
      active: node !== null,
    },
    installation: basics.superuser ? await readInstallation(session) : null,
    tables: await readDoctorTables(session),
    node,
    policies: node ? await readPolicyStates(session) : [],
    localColumns: node ? await readLocalColumns(session) : [],
  };
}

async function readNode(
  session: Session,
  environment: ConninfoEnvironment,
): Promise<NodeToCheck | null> {
  const status = await readStatus(session);
  const local = status.active ? await readLocalNode(session) : undefined;
  if (!status.active || !local) return null;
  const facts = await readServerFacts(session);
  const clock = await readClockOffset(session);
  const members = (await readNodes(session)).filter(({ status: letter }) => letter !== 'k');
  return {
    status,
    peers: await Promise.all(members.map((node) => checkPeer(node, local.id, clock, environment))),
    isMarked: await isMarkedAsNode(session),
    unpublished: await readUnsettledTables(session),
    unconverted: await readUnconvertedSequences(session),
    parted: await readPartedPositions(session),
    writable: status.nodes.some(({ isLocal, isReadOnly }) => isLocal && isReadOnly)
      ? await readOpenGates(session, 'read_only')
      : [],
    history: await readHistorySettings(session),
    version: {
      versionNumber: facts.bdrVersion,
      leastVersionNumber: facts.bdrMinRemoteVersion,
      encoding: facts.encoding,
    },
  };
}

async function tryReplication(conninfo: Conninfo): Promise<string | null> {
  try {
    await ReplicationSession.identify(conninfo, {
      applicationName: 'bdr doctor',
      signal: AbortSignal.timeout(10_000),
    });
    return null;
  } catch (error) {
    return messageOf(error);
  }
}
