import { BdrError } from '../base/errors.ts';
import { quoteIdent } from '../base/names.ts';
import { readLocalNode, readNodes } from '../catalog/nodes.ts';
import { hasRowFilters, readCopyObstacles } from '../catalog/replication-sets.ts';
import { sameNode, type Node } from '../model/node.ts';
import { ReplicationSession } from '../postgres/replication-session.ts';
import { presentCode } from '../postgres/shelved-code.ts';
import { readServerFacts, type ServerFacts } from '../postgres/server-facts.ts';
import { Session } from '../postgres/session.ts';
import { COPY_LANES } from '../snapshot/database-copy.ts';
import { requiredRolesSql } from '../snapshot/required-roles.ts';
import { requireCompatible, requireReplicationSettings, requireRoom } from './checks.ts';
import type { Endpoints } from './endpoints.ts';
import type { JoinSessions } from './join-sessions.ts';

/**
 * What a join asks before anything is changed anywhere. BDR asks it over the network inside bdr_group_join(); SQL cannot, so the
 * agent does, with the same texts and SQLSTATEs.
 */
export class JoinChecks {
  readonly #session: Session;
  readonly #node: Node;
  readonly #endpoints: Endpoints;
  readonly #sessions: JoinSessions;
  readonly #signal: AbortSignal;

  constructor(
    session: Session,
    node: Node,
    endpoints: Endpoints,
    sessions: JoinSessions,
    signal: AbortSignal,
  ) {
    this.#session = session;
    this.#node = node;
    this.#endpoints = endpoints;
    this.#sessions = sessions;
    this.#signal = signal;
  }

  /**
   * Throws BdrError for what is refused; returns a session on the source. `registering`: an earlier try may have registered the
   * node already.
   */
  async run(initFromDsn: string, registering: boolean): Promise<Session> {
    const local = await readServerFacts(this.#session);
    requireReplicationSettings(local, 'this server');
    await checkOwnDsns(this.#node, local, this.#endpoints, this.#signal);
    const source = await this.#sessions.open(initFromDsn);
    try {
      await this.#checkSource(source, initFromDsn, local, registering);
      return source;
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  async #checkSource(
    source: Session,
    initFromDsn: string,
    local: ServerFacts,
    registering: boolean,
  ): Promise<void> {
    const remote = await readServerFacts(source);
    requireCompatible(local, remote);
    if (!remote.superuser) {
      throw new BdrError('insufficient_privilege', {
        message: 'connection to remote node does not have superuser rights',
        hint: 'join_using_dsn must name a superuser.',
        sqlstate: '55000',
      });
    }
    if (sameId(local.id, remote.id)) {
      throw new BdrError('invalid_membership', {
        message: 'cannot join a node to itself',
        detail: 'join_using_dsn leads to this very database.',
        hint: 'join_using_dsn must lead to a node that is a member already.',
      });
    }
    const sourceNode = await readLocalNode(source);
    const nodes = sourceNode ? await readNodes(source) : [];
    const sourceStatus = nodes.find(({ id }) => sourceNode && sameNode(id, sourceNode.id))?.status;
    if (sourceStatus !== 'r') {
      throw new BdrError('invalid_membership', {
        message: 'remote node does not appear to be a fully running BDR node',
        detail: sourceStatus
          ? `Its status is "${sourceStatus}", not "r".`
          : 'BDR is not active in that database.',
        hint: 'Check join_using_dsn, and that bdr.bdr_node_join_wait_for_ready() has returned there.',
      });
    }
    requireReplicationSettings(remote, 'the remote node');
    await this.#checkReplicationConnection(initFromDsn, remote);
    this.membership(nodes, registering);
    const peers = nodes.filter(({ status, id }) => status === 'r' && !sameNode(id, this.#node.id));
    // One of each more, with which the node reads its own log.
    requireRoom(local, 'this server', peers.length + 1, peers.length + 1 + COPY_LANES);
    await this.#checkPeers(peers);
    await this.#checkSets(source, local);
    await this.#checkRoles(source, local);
    await this.#checkCode(local);
  }

  /** Ordinary and replication connections may be let in by different lines of pg_hba.conf, to different servers even. */
  async #checkReplicationConnection(dsn: string, facts: ServerFacts): Promise<void> {
    const sysid = await ReplicationSession.identify(this.#endpoints.conninfo(dsn), {
      applicationName: `${this.#node.name}:check`,
      signal: this.#signal,
    });
    if (sysid !== facts.id.sysid) {
      throw new BdrError('invalid_membership', {
        message:
          'Replication and non-replication connections to remote node reported different node id',
      });
    }
  }

  /** What the group's members forbid. Asked before anything is done, and again when nobody can change them any more. */
  membership(nodes: readonly Node[], registering: boolean): void {
    const { name, id: ownId } = this.#node;
    const me = nodes.find(({ id }) => sameNode(id, ownId));
    if (nodes.some((node) => node.name === name && node.status !== 'k' && node !== me)) {
      throw new BdrError('invalid_membership', {
        message: 'node_name already present on remote',
        detail: `A node named ${name} is a member of the group.`,
        hint: 'Choose another local_node_name.',
      });
    }
    if (me && me.status !== 'k' && !registering) {
      throw new BdrError('invalid_membership', {
        message: 'a bdr_nodes entry for this node already exists',
        detail: `The group still counts this database as node ${me.name}.`,
        hint: `On a member: SELECT bdr.bdr_part_by_node_names('{${me.name}}'); then join again.`,
      });
    }
    this.#refuseWhileOthersJoin(nodes);
  }

  /** One node at a time through one member: it keeps every pair of nodes complete (docs/concepts/join-and-part.md). */
  #refuseWhileOthersJoin(nodes: readonly Node[]): void {
    const joining = nodes.find(
      ({ status, id }) => ['b', 'i', 'c', 'o'].includes(status) && !sameNode(id, this.#node.id),
    );
    if (!joining) return;
    throw new BdrError('join_in_progress', {
      message: `waiting: node ${joining.name} is joining the group (status ${joining.status})`,
      hint: `If that node will not come back, part it on a member: SELECT bdr.bdr_part_by_node_names('{${joining.name}}').`,
    });
  }

  async #checkPeers(peers: readonly Node[]): Promise<void> {
    for (const peer of peers) {
      await using session = await this.#sessions.openPeer(peer);
      const facts = await readServerFacts(session);
      requireReplicationSettings(facts, `node ${peer.name}`);
      requireRoom(facts, `node ${peer.name}`, 1, 1);
    }
  }

  /** Rows are copied from one node, and of the tables that the new node is sent. */
  async #checkSets(source: Session, local: ServerFacts): Promise<void> {
    if (local.major < 15 && (await hasRowFilters(source))) {
      throw new BdrError('target_not_suitable', {
        message: 'the group has row filters, which need PostgreSQL 15 or later on all nodes',
        detail: `This server is of version ${local.version}. Nothing has been changed.`,
        hint: 'Join from a newer server, or take the filters away: bdr.table_set_row_filter(..., NULL), for each row of bdr.replication_set_row_filters.',
      });
    }
    const { incomplete, dangling } = await readCopyObstacles(source, this.#node.replicationSets);
    if (incomplete.length > 0) {
      throw new BdrError('invalid_membership', {
        message: `the remote node does not get all that this node is to get: ${incomplete.join(', ')}`,
        detail:
          'Its replication sets, or their row filters, leave out changes of these tables. Nothing has been changed.',
        hint: 'Join by way of a node that gets them, or with other replication_sets.',
      });
    }
    if (dangling.length === 0) return;
    throw new BdrError('target_not_suitable', {
      message: `foreign keys refer to rows that this node is not to get: ${dangling.join(', ')}`,
      detail:
        'Its replication sets leave out the tables that they refer to, or row filters do rows. Nothing has been changed.',
      hint: 'Join with replication_sets that hold both tables, or put both into the same sets: bdr.table_set_replication_sets(...), with the same row filter on columns of the foreign key.',
    });
  }

  async #checkRoles(source: Session, local: ServerFacts): Promise<void> {
    const required = (await source.query<{ role: string }>(requiredRolesSql)).map(
      (row) => row.role,
    );
    const present = await this.#session.query<{ name: string }>(
      'SELECT rolname AS name FROM pg_roles',
    );
    const names = new Set(present.map(({ name }) => name));
    const missing = required.filter((role) => !names.has(role));
    if (missing.length === 0) return;
    throw new BdrError('target_not_suitable', {
      message: `roles that own or may use objects of the group do not exist on this server: ${missing.join(', ')}`,
      detail: `Roles are not replicated. Nothing has been changed in database ${local.database}.`,
      hint: `Create them here, for example: ${missing.map((role) => `CREATE ROLE ${quoteIdent(role)};`).join(' ')} Then call bdr.bdr_group_join(...) again.`,
    });
  }

  /** A definition that names a function may mean another one of that name, which would run with the rights of the copy. */
  async #checkCode(local: ServerFacts): Promise<void> {
    const present = await presentCode(this.#session);
    if (present.length === 0) return;
    throw new BdrError('target_not_suitable', {
      message: `database ${local.database} holds functions or domains of roles that are no superusers`,
      detail: `${present.join('; ')}. Nothing has been changed.`,
      hint: 'Drop them: what the group has of them comes with the join. Then call bdr.bdr_group_join(...) again.',
    });
  }
}

/** A timeline changes with each promotion; until a node is created it says nothing about who it is. */
function sameId(a: ServerFacts['id'], b: ServerFacts['id']): boolean {
  return a.sysid === b.sysid && a.dboid === b.dboid;
}

function lacksSuperuser(message: string): BdrError {
  return new BdrError('insufficient_privilege', {
    message,
    hint: 'The role in that DSN must be a superuser: ALTER ROLE … SUPERUSER;',
    sqlstate: '55000',
  });
}

/** The DSNs under which a node is to be reached must lead to it, with the rights that replication needs. */
export async function checkOwnDsns(
  node: Node,
  local: ServerFacts,
  endpoints: Endpoints,
  signal: AbortSignal,
): Promise<void> {
  const { dsn, localDsn } = node;
  const connect = (text: string) =>
    Session.connect(endpoints.conninfo(text), { applicationName: `${node.name}:check`, signal });
  if (localDsn !== null && localDsn !== dsn) {
    await using session = await connect(localDsn);
    const facts = await readServerFacts(session);
    if (!sameId(facts.id, local.id)) {
      throw new BdrError('invalid_membership', {
        message: 'node identity for local dsn does not match current node',
        hint: 'node_local_dsn must lead to this very database.',
      });
    }
    if (!facts.superuser) throw lacksSuperuser('local dsn does not have superuser rights');
  }
  await using session = await connect(dsn ?? '');
  const facts = await readServerFacts(session);
  if (!sameId(facts.id, local.id)) {
    throw new BdrError('invalid_membership', {
      message:
        'node identity for node_external_dsn does not match current node when connecting back via remote',
      hint: 'node_external_dsn must lead to this very database, seen from the other nodes.',
    });
  }
  if (!facts.superuser) {
    throw lacksSuperuser(
      'node_external_dsn does not have superuser rights when connecting via remote node',
    );
  }
}
