import { colors } from './colors.ts';
import type { ActiveStatus, InactiveStatus, NodeReport } from '../../node/status.ts';
import { describeWriter } from '../../node/held-deletions.ts';
import { formatBytes, formatDuration } from './quantities.ts';
import { drawTable, oneLine } from './table.ts';

/** Positions are written about once a second: below this nothing can be told apart from "at once". */
const UP_TO_DATE_MS = 3000;
/** Watermarks lag by some seconds at most where nothing holds them. */
const HELD_LONG_MS = 10_000;

/** The lines of `bdr status`. */
export function drawStatus(report: NodeReport): string[] {
  return report.active ? drawActive(report) : drawInactive(report);
}

/** What to do with a database that is not a node. */
export function drawInactive(report: InactiveStatus): string[] {
  const { database, bdr, extensionAvailable, nodeDatabases } = report;
  const name = oneLine(database);
  const others = nodeDatabases.filter((other) => other !== database).map(oneLine);
  return [
    `database "${name}" (PostgreSQL ${report.postgres}) is not a node${bdr === null ? ': bdr is not installed in it' : ''}`,
    ...(others.length > 0 ? [`nodes of this server: ${others.join(', ')}`] : []),
    'To make it one:',
    ...(bdr === null
      ? [extensionAvailable ? '  CREATE EXTENSION bdr;' : '  bdr install --dsn "…"']
      : []),
    `  SELECT bdr.bdr_group_create(local_node_name := '…', node_external_dsn := '…');                       -- a new group`,
    `  SELECT bdr.bdr_group_join(local_node_name := '…', node_external_dsn := '…', join_using_dsn := '…');  -- a group that is there`,
  ];
}

function drawActive(report: ActiveStatus): string[] {
  return [
    ...drawHead(report),
    '',
    ...drawNodes(report),
    ...drawLinks(report),
    ...drawOwnStream(report),
    ...drawSlots(report),
    '',
    drawRecords(report),
    `conflicts resolved here: ${report.conflicts.lastHour} in the last hour, ${report.conflicts.total} in the history`,
  ];
}

function drawHead(report: ActiveStatus): string[] {
  const { name, database, postgres, bdr, join } = report;
  const lines = [
    `${colors.bold(oneLine(name))} is ${statusColour(report.status)(report.statusWord)}   ${colors.dim(
      `database ${oneLine(database)}, PostgreSQL ${postgres}, bdr ${bdr ?? ''}`,
    )}`,
  ];
  if (report.agentPid === null) {
    lines.push(
      colors.red('no agent is running: nothing is applied here, and the links below are old'),
    );
    lines.push('  start it beside the server: bdr agent --dsn "…"');
  }
  if (report.applyPaused) {
    lines.push(colors.yellow('apply is paused: SELECT bdr.bdr_apply_resume(); goes on'));
  }
  for (const { clockWas, clockIs, isRewritten, deletions } of report.clockSteps) {
    lines.push(
      colors.red(`the clock has stepped back from ${clockWas} to ${clockIs}: nodes may differ`),
    );
    if (!isRewritten) {
      lines.push(
        '  what is written and deleted here meanwhile is written and deleted again once it has passed that time',
      );
    }
    if (deletions > 0) {
      lines.push(
        `  ${deletions} deletions since may have lost on other nodes, and cannot be made again: see bdr doctor`,
      );
    }
  }
  for (const { owner, mode, isHeld, ms, waitingFor } of report.globalLocks) {
    const does = isHeld ? 'holds' : 'asks for';
    const missing = waitingFor.length > 0 ? `; not answered: ${waitingFor.join(', ')}` : '';
    lines.push(
      colors.yellow(
        `${owner} ${does} the global lock (${mode}) for ${formatDuration(ms)}${missing}`,
      ),
    );
  }
  for (const { table, index, error } of report.indexBuilds) {
    const line = `index ${oneLine(index)} on ${oneLine(table)}`;
    lines.push(
      error === null
        ? `${line} is being built`
        : colors.red(`${line} cannot be built: ${oneLine(error)}`),
    );
  }
  if (join?.step) {
    const { progress } = join;
    const left = progress?.secondsLeft;
    const parts = [
      oneLine(join.step),
      ...(progress ? [oneLine(progress.text)] : []),
      ...(left === undefined || left === null ? [] : [`${formatDuration(left * 1000)} left`]),
    ];
    lines.push(`joining: ${parts.join(', ')}`);
  }
  if (join?.error) {
    lines.push(colors.red(`join fails: ${oneLine(join.error.message)}`));
    if (join.error.detail) lines.push(`  ${oneLine(join.error.detail)}`);
    if (join.error.hint) lines.push(`  ${oneLine(join.error.hint)}`);
    lines.push(
      join.error.retry
        ? `  tried ${join.error.failures} times, the agent goes on`
        : '  mend it, then call bdr.bdr_group_join(...) again',
    );
  }
  return lines;
}

function drawNodes({ nodes }: ActiveStatus): string[] {
  return [
    colors.bold('nodes'),
    ...drawTable(
      nodes.map((node) => [
        node.isLocal ? '→' : ' ',
        oneLine(node.name),
        statusColour(node.status)(
          `${node.statusWord}${node.isReadOnly ? ', read-only' : ''}${setsOf(node)}`,
        ),
        node.sequence === null ? '' : `#${node.sequence}`,
        colors.dim(oneLine(node.dsn ?? 'connection not known yet')),
        node.error === null ? '' : colors.red(oneLine(node.error)),
      ]),
    ),
  ];
}

/** Only where they are not what nodes get without being told. */
function setsOf({ dsn, replicationSets: sets }: ActiveStatus['nodes'][number]): string {
  if (dsn === null || sets?.join() === 'default') return '';
  return sets === null || sets.length === 0
    ? ', gets all replication sets'
    : `, gets ${sets.map(oneLine).join(', ')}`;
}

function drawLinks({ links, agentPid }: ActiveStatus): string[] {
  if (links.length === 0) return [];
  const lines = ['', colors.bold('reads from')];
  const rows = links.map((link) => {
    const status = agentPid === null ? colors.dim(`${link.status}?`) : linkColour(link.status);
    return [
      oneLine(link.from),
      status,
      link.lagMs === null
        ? 'nothing applied yet'
        : link.lagMs < UP_TO_DATE_MS
          ? 'up to date'
          : `${formatDuration(link.lagMs)} behind`,
      link.unappliedBytes ? `${formatBytes(link.unappliedBytes)} not applied` : '',
      link.appliedLsn === null ? '' : colors.dim(`at ${link.appliedLsn}`),
      colors.dim(`since ${link.since}`),
    ];
  });
  for (const [index, line] of drawTable(rows).entries()) {
    lines.push(line);
    const { error, failed, skipUptoLsn } = links[index] as (typeof links)[number];
    if (error) lines.push(`    ${colors.red(oneLine(error.message))}`);
    if (failed) {
      const { xid, commitLsn, commitAt } = failed;
      lines.push(
        `    transaction ${xid}, committed at ${commitLsn}, ${commitAt}, cannot be applied`,
      );
    }
    if (error?.hint) lines.push(`    ${oneLine(error.hint)}`);
    if (skipUptoLsn !== null) {
      lines.push(`    ${colors.yellow(`changes up to ${skipUptoLsn} are being skipped`)}`);
    }
  }
  return lines;
}

function drawOwnStream({
  ownStream,
  heldDeletions,
  openWriters,
  agentPid,
}: ActiveStatus): string[] {
  if (!ownStream) return [];
  const { status, error, tombstones, bytesKept, watermarkAt } = ownStream;
  return [
    '',
    colors.bold('reads its own log'),
    ...drawTable([
      [
        agentPid === null ? colors.dim(`${status}?`) : linkColour(status),
        `${tombstones} deletions remembered`,
        watermarkAt === null ? '' : colors.dim(`complete up to ${watermarkAt}`),
        bytesKept === null ? '' : colors.dim(`${formatBytes(bytesKept)} of WAL kept for it`),
      ],
    ]),
    ...(error ? [`    ${colors.red(oneLine(error.message))}`] : []),
    ...(error?.hint ? [`    ${oneLine(error.hint)}`] : []),
    ...drawHolder(heldDeletions),
    ...openWriters.map(
      (writer) =>
        `    ${oneLine(describeWriter(writer))} has been writing for ${formatDuration(writer.ms)}: meanwhile no node forgets deletions or groups what it applies`,
    ),
  ];
}

function drawHolder(held: ActiveStatus['heldDeletions']): string[] {
  if (!held || (held.ms !== null && held.ms < HELD_LONG_MS)) return [];
  const since =
    held.upTo === null
      ? 'nothing is known of it yet'
      : `complete here up to ${formatDuration(held.ms ?? 0)} ago`;
  const whose = held.isLocal ? "this node's own log" : `what ${oneLine(held.by)} writes`;
  return [`    deletions are remembered because of ${whose}: ${since}`];
}

/** Beside each other, because a change that is older than the records may have to be proven. */
function drawRecords({ records, links }: ActiveStatus): string {
  const lags = links.map(({ lagMs }) => lagMs ?? 0);
  const lag =
    lags.length === 0 ? '' : `; the slowest link is ${formatDuration(Math.max(...lags))} behind`;
  return `commit records go back ${formatDuration(records.keptMs)}${lag}`;
}

function drawSlots({ slots }: ActiveStatus): string[] {
  if (slots.length === 0) return [];
  return [
    '',
    colors.bold('is read by'),
    ...drawTable(
      slots.map((slot) => [
        oneLine(slot.to),
        slot.active ? colors.green('connected') : colors.yellow('not connected'),
        slot.bytesBehind ? `${formatBytes(slot.bytesBehind)} behind` : 'has everything',
        slot.bytesKept === null
          ? ''
          : colors.dim(`${formatBytes(slot.bytesKept)} of WAL kept for it`),
        slot.walStatus === 'lost' || slot.walStatus === 'unreserved'
          ? colors.red(`WAL ${slot.walStatus}`)
          : '',
      ]),
    ),
  ];
}

function statusColour(status: ActiveStatus['status']): (text: string) => string {
  if (status === 'r') return colors.green;
  return status === 'k' ? colors.dim : colors.yellow;
}

function linkColour(status: ActiveStatus['links'][number]['status']): string {
  if (status === 'streaming') return colors.green(status);
  return status === 'failed' ? colors.red(status) : colors.yellow(status);
}
