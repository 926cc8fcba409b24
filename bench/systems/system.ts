import type { BenchDatabase } from '../database.ts';
import type { CpuSeconds, SystemName } from '../result.ts';
import type { Table } from '../tables.ts';

/**
 * One way to replicate between a database on server A and one on server B, both ways, as two active nodes need it. What is
 * measured goes from A to B unless a workload says otherwise. While one system is measured, the other is switched off.
 */
export interface System {
  readonly name: SystemName;
  readonly a: BenchDatabase;
  readonly b: BenchDatabase;
  readonly joiner: Joiner;
  /** Makes both databases: B gets the tables and their rows from A, then writes flow both ways. Leaves it switched off. */
  setUp(tables: readonly Table[]): Promise<void>;
  /** Returns when both directions stream. */
  switchOn(): Promise<void>;
  switchOff(): Promise<void>;
  /** B takes nothing more from A; its connection is gone. */
  hold(): Promise<void>;
  /** Ends that; returns at once. */
  release(): Promise<void>;
  /** The walsender that streams from A to B, and since when; undefined while there is none. */
  stream(): Promise<Stream | undefined>;
  /** Of those who carry changes from A to B, since they began. */
  cpuSeconds(stream: Stream): Promise<CpuSeconds>;
  /** Most memory that the agent of B has had resident since the system was switched on, in MB; undefined where unknown. */
  peakMegabytes(): number | undefined;
  /** Throws when something that must run does not: then nobody need wait any longer. */
  check(): void;
  /** What those who apply on B have written last. */
  logTail(): string;
  /** Ends what it has started, whatever state it is in. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface Stream {
  readonly walsenderPid: number;
  /** By the server's clock, in milliseconds since 1970. */
  readonly startedAtMs: number;
}

/** Makes a copy of a database that is in use: a node that joins, or a new subscription. */
export interface Joiner {
  readonly source: BenchDatabase;
  /** Makes the source, with tables and rows; once. */
  prepare(tables: readonly Table[]): Promise<void>;
  /** Fills an empty database; returns when it is ready for use: it has all rows, and writes flow both ways. */
  join(copy: BenchDatabase): Promise<void>;
  /** Drops the copy, and what the source had for it. */
  undo(copy: BenchDatabase): Promise<void>;
}
