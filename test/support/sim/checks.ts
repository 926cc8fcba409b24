import type { Lsn } from '../../../src/base/lsn.ts';
import type { PgTime } from '../../../src/base/pg-time.ts';
import { compareVersions, type Version } from '../../../src/conflict/version.ts';
import { isLeftBehind } from './clock-steps.ts';
import { describeRow } from './describe-record.ts';
import type { ModelNode } from './node.ts';
import type { ModelPart } from './part.ts';
import type { ModelServer } from './server.ts';
import { isSent } from './streams.ts';
import { hasUniqueIndex } from './switches.ts';
import type { Row, Transaction, WalRecord } from './transaction.ts';
import { Violation, type World } from './world.ts';

/** What somebody who sees all nodes at once can tell. */
export class Checks {
  readonly #nodes: () => readonly ModelNode[];
  readonly #world: () => World;

  constructor(world: () => World, nodes: () => readonly ModelNode[]) {
    this.#world = world;
    this.#nodes = nodes;
  }

  /** A transaction takes its commit time: no watermark may have passed that already. */
  stamped(server: ModelServer, transaction: Transaction): void {
    // A step of the clock does that; what it does to rows is mended later.
    if (!writesRows(transaction) || transaction.isLate) return;
    const time = transaction.time as PgTime;
    for (const node of this.#nodes()) {
      const watched =
        node.server === server ? node.own : node.links.find(({ provider }) => provider === server);
      if (watched && watched.watermark.time >= time) {
        const claims = `node ${node.server.index} has watermark ${watched.watermark.time} of node ${server.index}`;
        throw new Violation('watermark claims too much', `${claims}, which commits at ${time}`);
      }
    }
  }

  /** A watermark rises: all that it claims must be committed here. `position` is how far the provider's log is applied. */
  watermark(
    name: string,
    node: ModelNode,
    provider: ModelServer,
    position: Lsn,
    time: PgTime,
  ): void {
    const early = (one: { readonly time: PgTime | undefined }) =>
      one.time !== undefined && one.time <= time;
    for (let at: number = position; at < provider.wal.length; at++) {
      const record = provider.wal[at] as WalRecord;
      if (record.origin !== 0 || !early(record) || !writesRows(record) || record.isLate) continue;
      if (!node.join?.isCopied(provider, record, at)) this.#claims(name, time, at);
    }
    for (const transaction of provider.open) {
      const { session, phase } = transaction;
      if (session.origin !== 0 || phase !== 'stamped' || transaction.isLate) continue;
      if (early(transaction) && writesRows(transaction)) this.#claims(name, time, undefined);
    }
  }

  #claims(name: string, time: PgTime, record: number | undefined): void {
    const what = record === undefined ? 'a commit that is under way' : `record ${record}`;
    throw new Violation('watermark claims too much', `${name} claims ${time} without ${what}`);
  }

  /** A commit record is written. An apply transaction must hold what comes next of its provider, and leave the origin there. */
  written(server: ModelServer, transaction: Transaction, before: Lsn): void {
    const { applies, session } = transaction;
    if (!applies) return;
    for (const key of transaction.roomFor) {
      if (transaction.rows.has(key)) continue;
      throw new Violation(
        'a row loses to nobody',
        `${session.name} has made room for ${key}, and has not written it`,
      );
    }
    const provider = this.#world().servers[applies.provider] as ModelServer;
    const last = applies.ends.at(-1) ?? before;
    const join = this.#nodes().find((node) => node.server === server)?.join;
    const due: number[] = [];
    for (let at: number = before; at < last; at++) {
      const record = provider.wal[at] as WalRecord;
      if (isSent(record) && !join?.isCopied(provider, record, at)) due.push(at + 1);
    }
    const isNext =
      due.length === applies.ends.length && due.every((end, index) => end === applies.ends[index]);
    if (isNext && session.setup?.position === last) return;
    const what = `${session.name} applies ${applies.ends.join(', ')} behind ${before}`;
    throw new Violation(
      'applied twice or out of order',
      `${what}, sets ${session.setup?.position}, next were ${due.join(', ')}`,
    );
  }

  /**
   * A change of `provider` at `position` of its log, and what it has met at `server`, are called certainly concurrent: neither node
   * may have applied the other's write when it made its own.
   */
  concurrent(server: ModelServer, provider: ModelServer, position: Lsn, met: Version): void {
    // Times say nothing there.
    if (this.#world().switches.clocks) return;
    const change = provider.wal[position] as WalRecord;
    const own = server.wal.findLastIndex(({ origin, time }) => origin === 0 && time === met.time);
    const hadSeen = (change.hadApplied[server.index] ?? 0) > own;
    const wasSeen = (server.wal[own]?.hadApplied[provider.index] ?? 0) > position;
    if (own >= 0 && !hadSeen && !wasSeen) return;
    const what = `record ${position} of node ${provider.index}, ${own} of node ${server.index}`;
    throw new Violation('writes are called concurrent that are not', what);
  }

  /**
   * A policy is carried out against a change of `provider` at `position` of its log, for a write of `server` of time `lostAt`: whoever
   * made the change had not applied that.
   */
  unknown(server: ModelServer, provider: ModelServer, position: Lsn, lostAt: PgTime): void {
    const change = provider.wal[position] as WalRecord;
    const own = server.wal.findLastIndex(({ origin, time }) => origin === 0 && time === lostAt);
    if (own >= 0 && (change.hadApplied[server.index] ?? 0) <= own) return;
    const what = `record ${position} of node ${provider.index} came after ${own} of node ${server.index}`;
    throw new Violation('a policy undoes what its writer knew', what);
  }

  acknowledged(name: string, position: Lsn, durable: Lsn): void {
    if (position <= durable) return;
    const detail = `${position} acknowledged, ${durable} on disk`;
    throw new Violation('acknowledged before durable', `${name}: ${detail}`);
  }

  /** Rows that somebody removed because another had their value in the unique index. */
  readonly #lost = new Set<string>();

  lost(row: Row): void {
    this.#lost.add(`${row.key} ${row.v} ${row.big}`);
  }

  #hasLost(key: string, row: Row | undefined): boolean {
    return row !== undefined && this.#lost.has(`${key} ${row.v} ${row.big}`);
  }

  /**
   * All is drained: nodes hold the same, but for one that has left, and of each key the write that wins, or nothing where
   * that has lost its value.
   */
  converged(part?: ModelPart): void {
    const wanted = this.winners();
    const mayDiffer = (key: string) => part?.mayLack(key) === true || this.#isLeftBehind(key);
    for (const key of wanted.keys()) if (mayDiffer(key)) wanted.delete(key);
    const [first, ...others] = this.#nodes()
      .filter((node) => node !== part?.node)
      .map(({ server }) => ({ server, rows: server.rows() }));
    if (!first) return;
    for (const other of others) {
      for (const key of new Set([...first.rows.keys(), ...other.rows.keys(), ...wanted.keys()])) {
        if (mayDiffer(key)) continue;
        const [a, b] = [first.rows.get(key), other.rows.get(key)];
        if (same(a, b)) continue;
        throw new Violation(
          'nodes differ',
          `key ${key}: node ${first.server.index} has ${describeRow(a)}, node ${other.server.index} ${describeRow(b)}; wins ${describeRow(wanted.get(key)?.row)}`,
        );
      }
    }
    for (const [key, { row, version }] of wanted) {
      const found = first.rows.get(key);
      if (same(found, row) || (!found && this.#hasLost(key, row))) continue;
      const write = `${describeRow(row)} of node ${version.writer.sequence} at ${version.time}`;
      throw new Violation(
        'a write is lost',
        `key ${key}: all have ${describeRow(found)}, wins ${write}`,
      );
    }
  }

  /**
   * All is drained: a row that a user has left is there, or another user had it before him when he wrote in its place, or it is in a
   * history.
   */
  losersAreKept(part?: ModelPart): void {
    const { servers, switches } = this.#world();
    if (switches.clocks) return;
    const there = new Set<string>();
    for (const server of servers) {
      for (const row of server.rows().values()) there.add(this.#contentOf(row));
    }
    for (const { key, row, version } of this.#unaccounted()) {
      if (part?.mayLack(key) || there.has(this.#contentOf(row))) continue;
      const what = `${describeRow(row)} of node ${version.writer.sequence} at ${version.time}`;
      throw new Violation('a loser is nowhere', `key ${key}: ${what}`);
    }
  }

  /** Rows of users that nobody has written over knowingly, and no history has: each is to be there in the end. */
  #unaccounted(): { readonly key: string; readonly row: Row; readonly version: Version }[] {
    const { servers } = this.#world();
    const accounted = new Set<string>();
    for (const { replaced, inHistory } of servers.flatMap(({ wal }) => wal)) {
      for (const row of replaced) accounted.add(this.#contentOf(row));
      for (const one of inHistory) {
        accounted.add('row' in one ? this.#contentOf(one.row) : nameOfWrite(one.key, one));
      }
    }
    return servers.flatMap(({ wal, writer }) =>
      wal.flatMap(({ origin, time, rows }) => {
        const version = { time, writer };
        if (origin !== 0) return [];
        return [...rows].flatMap(([key, row]) => {
          if (!row || accounted.has(this.#contentOf(row))) return [];
          return accounted.has(nameOfWrite(key, version)) ? [] : [{ key, row, version }];
        });
      }),
    );
  }

  /** The contents of those rows. */
  unaccounted(): string[] {
    return this.#unaccounted()
      .map(({ row }) => this.#contentOf(row))
      .sort();
  }

  /** What tells a row from all others: the long value may have been read again, and a unique value is written several times. */
  #contentOf({ key, v, big }: Row): string {
    return hasUniqueIndex(this.#world().switches) ? `${key} ${v} ${big}` : `${key} ${v}`;
  }

  #isLeftBehind(key: string): boolean {
    const { servers, switches } = this.#world();
    return switches.clocks === true && servers.some(({ wal }) => isLeftBehind(wal, key));
  }

  /** The last write of each key by commit time and writer, and a writer's own order: a deletion has no row. */
  winners(): Map<string, { readonly row: Row | undefined; readonly version: Version }> {
    const winners = new Map<string, { row: Row | undefined; version: Version }>();
    const { servers } = this.#world();
    const keys = new Set(servers.flatMap((server) => [...server.keys()]));
    const consider = (key: string, row: Row | undefined, version: Version) => {
      const before = winners.get(key);
      if (before && compareVersions(before.version, version) > 0) return;
      winners.set(key, { row, version });
    };
    for (const { wal, writer } of servers) {
      for (const { origin, time, rows, truncates, outgoing } of wal) {
        if (origin !== 0) continue;
        for (const key of truncates ? keys : rows.keys()) {
          consider(key, rows.get(key), { time, writer });
        }
        // In the stead of a parted node.
        for (const { key, version, isSent } of outgoing) {
          if (isSent) consider(key, undefined, version);
        }
      }
    }
    return winners;
  }
}

function writesRows({ changes }: Pick<WalRecord, 'changes'>): boolean {
  return changes.some(({ kind }) => kind !== 'message');
}

function nameOfWrite(key: string, { time, writer }: Version): string {
  return `${key} at ${time} by ${writer.sequence}`;
}

function same(a: Row | undefined, b: Row | undefined): boolean {
  return a?.v === b?.v && a?.big === b?.big;
}
