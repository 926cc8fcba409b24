import { quoteIdent, quoteLiteral } from '../base/names.ts';
import type { PartedPosition } from '../catalog/parted-positions.ts';
import type { UnsettledTable } from '../catalog/publications.ts';
import { sameNode } from '../model/node.ts';
import { describeWriter } from './held-deletions.ts';
import { findings, someOf, type Finding, type Say } from './finding.ts';
import type { HistorySettings } from './history-settings.ts';
import type { PeerAnswer, PeerCheck } from './peer-check.ts';
import type { ActiveStatus } from './status.ts';

/** A node and what its surroundings answered. */
export interface NodeToCheck {
  readonly status: ActiveStatus;
  /** Whether agents find its database. */
  readonly isMarked: boolean;
  readonly peers: readonly PeerCheck[];
  /** Tables that are not published as their replication sets ask for. */
  readonly unpublished: readonly UnsettledTable[];
  /** Sequences that are not what convert_sequence() asked for. */
  readonly unconverted: readonly string[];
  /** How far the nodes had come in the logs of parted ones. */
  readonly parted: readonly PartedPosition[];
  /** Tables of a read-only node that its users may write to all the same. */
  readonly writable: readonly string[];
  readonly history: HistorySettings;
  /** This node's versions, for comparing. */
  readonly version: Pick<PeerAnswer, 'versionNumber' | 'leastVersionNumber' | 'encoding'>;
}

const LAG_MS = 60_000;
const BEHIND_BYTES = 256 * 1024 * 1024;
/** They take room, and each insert looks there. */
const MANY_DELETIONS = 100_000;
const LOCKED_LONG_MS = 60_000;
const OPEN_LONG_MS = 5 * 60_000;
const CLOCK_SKEW_MS = 1000;
/** Default of bdr.max_clock_skew. */
const MOST_CLOCK_SKEW_MS = 30_000;

/** Checks a node that is part of a group: its agent, its links, its slots, and whether its peers can be reached. */
export function checkNode(node: NodeToCheck): Finding[] {
  const { status, unpublished, unconverted, writable, history } = node;
  return findings('node', (say) => {
    if (status.status === 'k') {
      const fix = 'SELECT bdr.remove_bdr_from_local_node(true);  -- it may join again afterwards';
      return say('error', 'member', `node ${status.name} was parted from the group`, fix);
    }
    checkAgent(status, say);
    if (!node.isMarked) {
      const message = `no agent serves database ${status.database}: its setting bdr.active is gone, as after ALTER DATABASE ... RESET ALL`;
      say(
        'error',
        'mark',
        message,
        `ALTER DATABASE ${quoteIdent(status.database)} SET bdr.active = 'on';`,
      );
    }
    checkJoin(status, say);
    if (status.applyPaused) {
      const message = 'apply is paused on this node; peers keep what is not applied';
      say('warning', 'apply_paused', message, 'SELECT bdr.bdr_apply_resume();');
    }
    checkPublications(unpublished, say);
    checkConversions(unconverted, say);
    checkParted(node.parted, say);
    if (writable.length > 0) {
      const message = `this node is read-only, but its users may write to ${someOf(writable)}: the agent puts the triggers there as soon as no open transaction holds these tables`;
      say('warning', 'read_only', message);
    }
    checkHistory(status, history, say);
    checkClockSteps(status, say);
    checkGlobalLocks(status, say);
    checkIndexBuilds(status, say);
    if (status.agentPid !== null) {
      checkLinks(status, say);
      checkOwnStream(status, say);
      checkRecords(status, say);
    }
    checkDeletions(status, say);
    checkSlots(status, say);
    for (const peer of node.peers) checkReach(peer, node, say);
  });
}

function checkPublications(tables: readonly UnsettledTable[], say: Say): void {
  const unknown = tables.filter(({ isUnknown }) => isUnknown).map(({ name }) => name);
  const others = tables.filter(({ isUnknown }) => !isUnknown).map(({ name }) => name);
  if (others.length > 0) {
    const message = `tables that are published otherwise than their replication sets ask for: ${someOf(others)}`;
    say('error', 'publication', message, 'SELECT bdr.internal_sync_publication();');
  }
  if (unknown.length > 0) {
    const message =
      `tables that are on this node only, and not published: ${someOf(unknown)}. ` +
      'They were made where no event trigger fires, as by EXPLAIN ANALYZE CREATE TABLE AS';
    const fix =
      'DROP TABLE …; and make them by a command of their own. Or make them on the other nodes too, then here: SELECT bdr.internal_sync_publication();';
    say('error', 'publication', message, fix);
  }
}

function checkAgent({ agentPid }: ActiveStatus, say: Say): void {
  if (agentPid !== null) return say('ok', 'agent', 'an agent serves this server');
  const message = 'no agent is running for this server: nothing is sent or applied';
  say('error', 'agent', message, 'bdr agent --dsn "…"  # beside the server');
}

function checkJoin({ name, status, statusWord, join }: ActiveStatus, say: Say): void {
  if (status === 'r') return say('ok', 'member', `node ${name} is a ready member of its group`);
  const step = join?.step ? `, step "${join.step}"` : '';
  if (!join?.error) {
    return say('note', 'member', `node ${name} is joining: ${statusWord}${step}`);
  }
  const { message, detail, hint } = join.error;
  const text = [`the join of node ${name} fails${step}: ${message}`, detail ?? ''].filter(Boolean);
  say('error', 'member', text.join('. '), hint);
}

function checkParted(parted: readonly PartedPosition[], say: Say): void {
  const behind = parted.filter(({ isBehind }) => isBehind);
  for (const name of new Set(behind.map((position) => position.node))) {
    const told = parted
      .filter(({ node }) => node === name)
      .map(
        ({ at, applied, committedAt }) => `${at} up to ${applied} (${committedAt ?? 'nothing'})`,
      );
    const message = `node ${name} was parted when not all had the same of it: ${told.join(', ')}. What it committed after the least of these is not everywhere`;
    const fix = `-- docs/guides/recover.md, "A parted node had told only some"; when that is done:\nDELETE FROM bdr.parted_position WHERE node_name = ${quoteLiteral(name)};`;
    say('error', 'parted', message, fix);
  }
}

function checkConversions(unconverted: readonly string[], say: Say): void {
  for (const name of unconverted) {
    const message = `sequence ${name} is not what bdr.convert_sequence() has asked for: it is not here, belongs to another role, is held by an open transaction, or numbers a column that is not as on the node of the call`;
    const fix = `SELECT * FROM bdr.bdr_sequence_kinds;  -- what was asked for; then call bdr.convert_sequence(${quoteLiteral(name)}, …) again`;
    say('warning', 'sequence', message, fix);
  }
}

function checkHistory(
  { database }: ActiveStatus,
  { isKept, invalid }: HistorySettings,
  say: Say,
): void {
  const reset = (name: string) => `ALTER DATABASE ${quoteIdent(database)} RESET ${name};`;
  for (const { name, message } of invalid) {
    say('warning', 'setting', `${name} is not valid: ${message}`, reset(name));
  }
  if (isKept) return;
  const message =
    'conflicts are not kept: rows that lose are lost (bdr.log_conflicts_to_table is off)';
  say('note', 'conflict_history', message, reset('bdr.log_conflicts_to_table'));
}

function checkClockSteps({ clockSteps }: ActiveStatus, say: Say): void {
  for (const { clockWas, clockIs, isRewritten, deletions } of clockSteps) {
    const step = `the server's clock has stepped back from ${clockWas} to ${clockIs}`;
    if (!isRewritten) {
      const message = `${step}: until it has passed that time, what is written and deleted here may lose to older rows on other nodes`;
      say(
        'error',
        'clock_step',
        message,
        'set the clock right; it is then all written and deleted again by itself',
      );
    }
    if (deletions === 0) continue;
    const message = `${step}: ${deletions} deletions and truncates that followed, in tables without a key, may have lost on other nodes and cannot be made again`;
    const fix = `-- compare with the other nodes; where a row is left, delete it there. Then:\nDELETE FROM bdr.bdr_clock_steps WHERE rewritten_at IS NOT NULL;`;
    say('error', 'clock_step', message, fix);
  }
}

/** Who holds the lock for long keeps others waiting, and who does not answer keeps everybody waiting. */
function checkGlobalLocks({ globalLocks }: ActiveStatus, say: Say): void {
  for (const { owner, isLocal, mode, isHeld, askedAt, ms, pid, waitingFor } of globalLocks) {
    if (ms < LOCKED_LONG_MS) continue;
    const names = waitingFor.map((name) => quoteLiteral(name)).join(', ');
    const message = isHeld
      ? `${owner} holds the global lock (${mode}) since ${askedAt}`
      : `${owner} asks for the global lock (${mode}) since ${askedAt}; no answer of ${someOf(waitingFor)}`;
    const end = isLocal
      ? `SELECT pg_terminate_backend(${pid});  -- if it may be rolled back`
      : `end the transaction on ${owner}; if ${owner} will not come back:\nSELECT bdr.bdr_part_by_node_names(ARRAY[${quoteLiteral(owner)}]);`;
    const bring = `bring them back; if they will not come:\nSELECT bdr.bdr_part_by_node_names(ARRAY[${names}]);`;
    say('warning', 'global_lock', message, isHeld || !isLocal ? end : bring);
  }
}

/** Later commands of peers wait for them. */
function checkIndexBuilds({ indexBuilds }: ActiveStatus, say: Say): void {
  for (const { id, table, index, since, error } of indexBuilds) {
    if (error === null) {
      say('note', 'index_build', `index ${index} on ${table} is being built since ${since}`);
      continue;
    }
    const message = `index ${index} on ${table} cannot be built, since ${since}, and commands of peers wait for it: ${error}`;
    const fix = `-- mend what the message says, and it is built; or build it by hand, or give it up:\nDELETE FROM bdr.index_build WHERE build = ${quoteLiteral(id)};`;
    say('error', 'index_build', message, fix);
  }
}

function checkLinks({ links, nodes, status, applyPaused }: ActiveStatus, say: Say): void {
  for (const link of links) {
    if (link.status === 'failed') {
      const reason = link.error?.message ?? 'no reason is known';
      const message = `the link from ${link.from} fails since ${link.since}: ${reason}`;
      say('error', 'link', message, link.error?.hint ?? null);
    } else if (link.status === 'down' || link.status === 'connecting') {
      say('warning', 'link', `the link from ${link.from} is ${link.status} since ${link.since}`);
    } else if (!applyPaused && link.lagMs !== null && link.lagMs > LAG_MS) {
      const seconds = Math.round(link.lagMs / 1000);
      say('warning', 'link_lag', `this node is ${seconds} s behind ${link.from}`);
    }
  }
  if (status !== 'r') return;
  for (const node of nodes) {
    if (node.isLocal || node.status === 'k' || node.status === 'b') continue;
    if (links.some(({ provider }) => sameNode(provider, node.id))) continue;
    say('warning', 'link', `there is no link from ${node.name} yet`);
  }
  const streaming = links.filter((link) => link.status === 'streaming').map(({ from }) => from);
  if (streaming.length > 0) say('ok', 'link', `streams from ${someOf(streaming)}`);
}

function checkOwnStream(status: ActiveStatus, say: Say): void {
  const { ownStream } = status;
  if (ownStream?.status !== 'failed') return;
  const reason = ownStream.error?.message ?? 'no reason is known';
  const message = `this node cannot read its own log since ${ownStream.since}: ${reason}`;
  const fix = isLeftAlone(status) ? STAY : (ownStream.error?.hint ?? null);
  say('error', 'own_stream', message, fix);
}

/** What a node has written is nowhere else: it is not the one to be parted. */
const STAY =
  'no node gets any more what this one writes, so this one stays: remove BDR from the others, then here, with ' +
  'bdr.remove_bdr_from_local_node(true); create the group here, and let them join again';

/** Neither the others nor the node itself can read its log any more. */
function isLeftAlone({ ownStream, slots, nodes }: ActiveStatus): boolean {
  const peers = nodes.filter(({ isLocal, status }) => !isLocal && status !== 'k');
  const isLost = ({ id }: (typeof peers)[number]) =>
    slots.some(({ subscriber, walStatus }) => walStatus === 'lost' && sameNode(subscriber, id));
  return ownStream?.status === 'failed' && peers.length > 0 && peers.every(isLost);
}

function checkDeletions({ ownStream, heldDeletions, openWriters }: ActiveStatus, say: Say): void {
  for (const writer of openWriters) {
    if (writer.ms < OPEN_LONG_MS) continue;
    const who = describeWriter(writer);
    const message = `${who} writes since ${writer.since}: meanwhile no node forgets deletions or groups what it applies`;
    const end =
      writer.pid === null
        ? `COMMIT PREPARED ${quoteLiteral(writer.gid ?? '')};  -- or ROLLBACK PREPARED`
        : `SELECT pg_terminate_backend(${writer.pid});  -- if it may be rolled back`;
    say('warning', 'open_writer', message, end);
  }
  const count = ownStream?.tombstones ?? 0;
  if (!heldDeletions || count < MANY_DELETIONS || (heldDeletions.ms ?? Infinity) < LAG_MS) return;
  const { by, isLocal, upTo } = heldDeletions;
  const whose = isLocal ? 'its own log is read' : `the changes of ${by} are here`;
  say(
    'warning',
    'deletions',
    `${count} deletions are remembered, because ${whose} only up to ${upTo ?? 'an unknown time'}`,
    isLocal
      ? null
      : `bring ${by} back, or end what writes there for long ("bdr status" on ${by} names it); if it will not come back:\nSELECT bdr.bdr_part_by_node_names(ARRAY[${quoteLiteral(by)}]);`,
  );
}

/** A change that is older than the records that are gone is not applied over a row without one before its provider has proven it. */
function checkRecords({ records, links }: ActiveStatus, say: Say): void {
  for (const { from, lagMs } of links) {
    if (lagMs === null || lagMs < LAG_MS || lagMs * 2 < records.keptMs) continue;
    const [lag, kept] = [lagMs, records.keptMs].map((ms) => Math.round(ms / 1000));
    say(
      'warning',
      'commit_records',
      `this node is ${lag} s behind ${from}, and commit records go back ${kept} s: changes as old as that may have to wait until ${from} can say what became of them`,
      'see to that link; records live longer with a greater autovacuum_freeze_max_age',
    );
  }
}

function checkSlots(active: ActiveStatus, say: Say): void {
  const { slots, nodes, status } = active;
  for (const slot of slots) {
    const reader = nodes.find(({ id }) => sameNode(id, slot.subscriber));
    const part = `SELECT bdr.bdr_part_by_node_names(ARRAY[${quoteLiteral(slot.to)}]);`;
    if (!reader || reader.status === 'k') {
      const message = `slot ${slot.slot} keeps WAL for a node that is no member`;
      say(
        'warning',
        'slot',
        message,
        `SELECT pg_drop_replication_slot(${quoteLiteral(slot.slot)});`,
      );
    } else if (slot.walStatus === 'lost') {
      say(
        'error',
        'slot',
        `WAL that ${slot.to} needs is gone: it can never catch up`,
        isLeftAlone(active)
          ? STAY
          : `${part}\n-- then, on ${slot.to}: SELECT bdr.remove_bdr_from_local_node(true); and join it again`,
      );
    } else if (slot.walStatus === 'unreserved') {
      const message = `WAL that ${slot.to} needs may be removed at any moment`;
      say(
        'warning',
        'slot',
        message,
        `ALTER SYSTEM SET max_slot_wal_keep_size = '-1';\nSELECT pg_reload_conf();`,
      );
    } else if (!slot.active) {
      const kept = `${Math.round((slot.bytesKept ?? 0) / 1024 / 1024)} MB of WAL are kept for it`;
      const fix = `start the server and the agent of ${slot.to}; if it will not come back:\n${part}`;
      say('warning', 'slot', `${slot.to} is not connected; ${kept}`, fix);
    } else if ((slot.bytesBehind ?? 0) > BEHIND_BYTES) {
      const megabytes = Math.round((slot.bytesBehind ?? 0) / 1024 / 1024);
      say('warning', 'slot_lag', `${slot.to} is ${megabytes} MB of WAL behind this node`);
    } else say('ok', 'slot', `${slot.to} reads from this node`);
  }
  if (status !== 'r') return;
  for (const node of nodes) {
    if (node.isLocal || node.status !== 'r') continue;
    if (slots.some(({ subscriber }) => sameNode(subscriber, node.id))) continue;
    const message = `${node.name} has no slot here: it does not read from this node, and nothing is kept for it`;
    say('error', 'slot', message, `bdr doctor --dsn "…"  # on ${node.name}, to see why`);
  }
}

function checkReach(peer: PeerCheck, { status, version }: NodeToCheck, say: Say): void {
  const { name, isLocal, where, failure, answer } = peer;
  const who = isLocal
    ? `this node by its own DSN (${where ?? ''})`
    : `${name} (${where ?? 'no DSN'})`;
  const correct = `UPDATE bdr.bdr_connections SET conn_dsn = '…' WHERE …; SELECT bdr.bdr_connections_changed();`;
  if (!answer) {
    // The agent may reach it from where it runs, though the doctor does not.
    const streams = status.links.some((link) => link.from === name && link.status === 'streaming');
    const level = where === null ? 'note' : isLocal || streams ? 'warning' : 'error';
    return say(
      level,
      'peer',
      `cannot reach ${who} from here: ${failure?.message ?? ''}`,
      failure?.hint ?? null,
    );
  }
  if (!answer.isThatNode) {
    return say('error', 'peer', `the DSN of ${who} leads to another database`, correct);
  }
  let isWell = true;
  const complain: Say = (...finding) => {
    isWell = false;
    say(...finding);
  };
  if (!answer.superuser)
    complain('error', 'peer', `the role of ${who} is not a superuser`, correct);
  if (answer.replicationFailure !== null) {
    const message = `${who} refuses replication connections: ${answer.replicationFailure}`;
    complain('error', 'peer', message, `pg_hba.conf and max_wal_senders of ${name}`);
  }
  if (!isLocal) {
    checkVersions(name, version, answer, complain);
    checkClock(name, answer, complain);
  }
  if (isWell) say('ok', 'peer', `reached ${who}`);
}

function checkVersions(
  name: string,
  mine: NodeToCheck['version'],
  its: PeerAnswer,
  say: Say,
): void {
  const tooOld = (a: number | null, least: number | null) =>
    a !== null && least !== null && a < least;
  if (tooOld(its.versionNumber, mine.leastVersionNumber)) {
    say('error', 'peer_version', `bdr on ${name} is too old for this node`, `upgrade ${name}`);
  } else if (tooOld(mine.versionNumber, its.leastVersionNumber)) {
    say('error', 'peer_version', `bdr on this node is too old for ${name}`, 'upgrade this node');
  }
  if (its.encoding !== mine.encoding) {
    const message = `the database of ${name} is encoded in ${its.encoding}, this one in ${mine.encoding}`;
    say('warning', 'peer_version', message);
  }
}

function checkClock(name: string, { clockAheadMs, clockErrorMs }: PeerAnswer, say: Say): void {
  const sure = Math.abs(clockAheadMs) - clockErrorMs;
  if (sure < CLOCK_SKEW_MS) return;
  const seconds = (Math.abs(clockAheadMs) / 1000).toFixed(1);
  const message = `the clock of ${name} is ${seconds} s ${clockAheadMs > 0 ? 'ahead of' : 'behind'} this server's`;
  const stops = sure > MOST_CLOCK_SKEW_MS;
  say(
    stops ? 'error' : 'warning',
    'clock',
    stops
      ? `${message}: links stop at bdr.max_clock_skew (30 s unless set)`
      : `${message}: changes of the one that is ahead are applied that much later`,
    'let both servers follow the same time source (NTP)',
  );
}
