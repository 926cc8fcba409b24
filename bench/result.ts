import { summarize, type Summary } from './statistics.ts';

/** Who replicates: our agents, or the server's own subscriptions. */
export const SYSTEMS = ['ours', 'server'] as const;
export type SystemName = (typeof SYSTEMS)[number];

/**
 * How ours is held against the server's. For `speed-up` the ratio is the server's figure through ours, and should be at least
 * the goal. For `multiple` it is ours through the server's, and should be at most the goal. For `limit` there is no server's
 * figure; ours should be at most the goal.
 */
export type Comparison = 'speed-up' | 'multiple' | 'limit';

/** One figure of a workload. */
export interface Metric {
  /** Of the line in the report: the workload's name, and more where it has several figures. */
  readonly name: string;
  readonly unit: 's' | 'ms' | 'MB';
  readonly comparison: Comparison;
  /** Of DESIGN, section 8. */
  readonly goal: number;
}

/** Processor seconds that one run took from those who carry the changes; undefined where the system does not tell. */
export interface CpuSeconds {
  readonly walsender: number | undefined;
  /** The subscriber's agent; the server's own subscription has none. */
  readonly agent: number | undefined;
  /** All backends on the subscriber that apply. */
  readonly apply: number | undefined;
}

/** What one run of a workload has measured: a value for each of its metrics, in their order. */
export interface Sample {
  readonly values: readonly number[];
  readonly cpu?: CpuSeconds;
  /** Rows that were found equal on both nodes after the run. */
  readonly rowsCompared: number;
}

/** One line of the report. */
export interface Result {
  readonly workload: string;
  readonly metric: Metric;
  readonly ours: Summary;
  /** Undefined where there is nothing to compare with. */
  readonly server: Summary | undefined;
  /** Of the medians; see Comparison. */
  readonly ratio: number | undefined;
  readonly met: boolean;
  /** Medians. */
  readonly cpu: Readonly<Record<SystemName, CpuSeconds>>;
  /** In all runs together. */
  readonly rowsCompared: number;
}

/** Puts the runs of a workload together: a result for each metric, none where it was not run. */
export function toResults(
  workload: string,
  metrics: readonly Metric[],
  samples: Readonly<Record<SystemName, readonly Sample[]>>,
): Result[] {
  if (samples.ours.length === 0) return [];
  const cpu = { ours: medianCpu(samples.ours), server: medianCpu(samples.server) };
  const rowsCompared = [...samples.ours, ...samples.server].reduce(
    (sum, sample) => sum + sample.rowsCompared,
    0,
  );
  return metrics.map((metric, index) => {
    const ours = summarize(valuesOf(samples.ours, index));
    const server =
      metric.comparison === 'limit' ? undefined : summarize(valuesOf(samples.server, index));
    const ratio = server && ratioOf(metric.comparison, ours.median, server.median);
    const met = isMet(metric, ours, ratio);
    return { workload, metric, ours, server, ratio, met, cpu, rowsCompared };
  });
}

function valuesOf(samples: readonly Sample[], index: number): number[] {
  return samples.map(({ values }) => {
    const value = values[index];
    if (value === undefined) throw new RangeError(`a run has no figure ${index}`);
    return value;
  });
}

function ratioOf(comparison: Comparison, ours: number, server: number): number {
  return comparison === 'speed-up' ? server / ours : ours / server;
}

function isMet({ comparison, goal }: Metric, ours: Summary, ratio: number | undefined): boolean {
  if (ratio === undefined) return ours.median <= goal;
  return comparison === 'speed-up' ? ratio >= goal : ratio <= goal;
}

function medianCpu(samples: readonly Sample[]): CpuSeconds {
  const of = (process: keyof CpuSeconds) => {
    const known = samples.map(({ cpu }) => cpu?.[process]).filter((value) => value !== undefined);
    return known.length > 0 ? summarize(known).median : undefined;
  };
  return { walsender: of('walsender'), agent: of('agent'), apply: of('apply') };
}
