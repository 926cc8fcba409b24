import { createHash } from 'node:crypto';
import { readValues } from '../../../src/apply/row-values.ts';
import type { PgTime } from '../../../src/base/pg-time.ts';
import type { Change } from '../../../src/pgoutput/transaction.ts';
import { heartbeatIn } from './heartbeat.ts';
import type { ModelLink } from './link.ts';
import type { ModelNode } from './node.ts';
import type { Scene } from './scene.ts';
import { isSent } from './streams.ts';
import type { Row, WalRecord } from './transaction.ts';
import { originOf, OWN_ORIGIN } from './world.ts';

/**
 * All that decides about what comes, and about whether what is left in the end is right. Of times only their order counts, and of a log what
 * somebody has not read yet: so orders of turns that have nothing to do with each other lead to one state. Told as a digest: there are many.
 */
export function stateOf(scene: Scene): string {
  const { nodes, done, beats, world } = scene;
  const logs = nodes.map((node) => unreadOf(node, nodes));
  const order = new Order(nodes, logs);
  const winners = [...world.checks.winners()]
    .map(([key, { row }]) => ({ key, v: row?.v, big: row?.big }))
    .sort((one, other) => (one.key < other.key ? -1 : 1));
  const state = JSON.stringify([
    done,
    beats,
    winners,
    world.checks.unaccounted(),
    nodes.map((node, at) => [
      stateOfNode(node, nodes, order),
      (logs[at] as Unread[]).map((one) => stateOfRecord(one, order)),
    ]),
  ]);
  return createHash('sha1').update(state).digest('base64');
}

/** A record that somebody has not read: with who is still to read it. */
interface Unread {
  readonly record: WalRecord;
  readonly readers: string;
}

/**
 * Times by their order. What is compared is a commit time with another one, or with a watermark, which it is above or not: how watermarks lie
 * to each other says nothing beyond that. What will still be committed is later than all of them.
 */
class Order {
  readonly #times: readonly number[];

  constructor(nodes: readonly ModelNode[], logs: readonly (readonly Unread[])[]) {
    const times = nodes.flatMap(({ server }) => [
      ...[...server.rows().values()].map(({ time }) => time),
      ...server.remembered().map(({ time }) => time),
      ...server.outbox().map(({ version }) => version.time),
      ...[...server.open].flatMap(({ time }) => time ?? []),
    ]);
    const unread = logs.flatMap((log) => log.map(({ record }) => record.time));
    this.#times = [...new Set<number>([...times, ...unread])].sort((a, b) => a - b);
  }

  /** So many commit times lie at or below it: for one of them, its place. */
  upTo(time: PgTime): number {
    let count = 0;
    while (count < this.#times.length && (this.#times[count] as number) <= time) count += 1;
    return count;
  }
}

function stateOfNode(
  { server, links, own }: ModelNode,
  nodes: readonly ModelNode[],
  order: Order,
): unknown {
  const upTo = ({ time }: { readonly time: PgTime }) => order.upTo(time);
  return [
    [...server.rows().values()].map((row) => [...valuesOf(row), row.origin, upTo(row)]),
    server
      .remembered()
      .map((one) => `${one.key ?? ''} ${one.writer.sequence} ${upTo(one)}`)
      .sort(),
    server
      .lostValues()
      .map(({ key, writer }) => `${key} ${writer}`)
      .sort(),
    server
      .outbox()
      .map(({ kind, key, version }) => [kind, key, version.writer.sequence, upTo(version)]),
    // Of users whose commits are held.
    [...server.open].map(({ phase, time, rows }) => [
      phase,
      time && order.upTo(time),
      [...rows].map(([key, row]) => [key, row && valuesOf(row)]),
    ]),
    [own, ...links].map(({ watermark }) => upTo(watermark)),
    links.map((link) => toldBy(link, nodes, order)),
  ];
}

function valuesOf({ key, v, big }: Row): readonly string[] {
  return [key, v, big];
}

/** What the provider has told of what it has applied of others. */
function toldBy({ seen }: ModelLink, nodes: readonly ModelNode[], order: Order): readonly number[] {
  return nodes.map(({ server }) => order.upTo(seen.upTo(server.writer.id)));
}

function unreadOf({ server }: ModelNode, nodes: readonly ModelNode[]): Unread[] {
  const positions = nodes.map((node) =>
    node.server.position(node.server === server ? OWN_ORIGIN : originOf(server.index)),
  );
  return server.wal.flatMap((record, at) => {
    if (!isSent(record)) return [];
    const readers = positions.map((position) => (position > at ? '-' : '+')).join('');
    return readers.includes('+') ? [{ record, readers }] : [];
  });
}

/**
 * Not what its writer had applied by then: that is asked only where the history calls two writes concurrent, which it does by their times; and
 * nobody applies a write before his clock has passed it.
 */
function stateOfRecord({ record, readers }: Unread, order: Order): unknown {
  const { time, changes } = record;
  return [order.upTo(time), readers, changes.map((change) => describe(change, order))];
}

/** What a change does, so that two that do not do the same differ. */
function describe(change: Change, order: Order): unknown {
  if (change.kind === 'truncate') return change.kind;
  if (change.kind === 'message') {
    const heartbeat = heartbeatIn(change);
    if (!heartbeat) return change.content.toString();
    const { clock, xid, xmin, applied } = heartbeat;
    const told = [...applied].map(([node, time]) => [node, order.upTo(time)]);
    // A watermark is one below a clock.
    return [order.upTo((clock - 1) as PgTime), xid <= xmin, told];
  }
  const tuples = [
    'oldTuple' in change ? change.oldTuple : null,
    'newTuple' in change ? change.newTuple : null,
  ];
  const values = tuples.map((tuple) => tuple && readValues(tuple).map(String));
  return [change.kind, change.relation.name, values];
}
