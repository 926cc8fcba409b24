import type { BenchServers } from '../servers.ts';
import type { Metric, Sample, SystemName } from '../result.ts';
import type { System } from '../systems/system.ts';
import type { Table } from '../tables.ts';

/** What stays the same for all runs. */
export interface Plan {
  /** Of the full sizes. */
  readonly scale: number;
  readonly runs: number;
  /** Whether the server's apply worker writes its log of conflicts. */
  readonly workerLog: boolean;
}

/** One run of one system. */
export interface Run {
  readonly system: System;
  readonly servers: BenchServers;
  /** From 0. */
  readonly number: number;
}

/** A sample whose tables, those of the workload, are still to be compared; `rowsCompared` counts others. */
export type Measured = Omit<Sample, 'rowsCompared'> & { readonly rowsCompared?: number };

export interface Workload {
  readonly name: string;
  readonly metrics: readonly Metric[];
  /** Those that can do it; the server alone has no figure for some. */
  readonly systems: readonly SystemName[];
  /** Where fewer runs than asked for will do. */
  readonly mostRuns?: number;
  /** In both systems' databases before anything begins. */
  readonly tables: readonly Table[];
  /** Once for each system, before its first run. */
  prepare?(system: System): Promise<void>;
  run(run: Run): Promise<Measured>;
}

/** A part of a full size, at least one. */
export function sized(full: number, { scale }: Plan): number {
  return Math.max(1, Math.round(full * scale));
}
