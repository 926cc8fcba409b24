import { drawTable } from '../src/cli/output/table.ts';
import type { Metric, Result } from './result.ts';
import type { Summary } from './statistics.ts';

/** Where and how it was measured. */
export interface Circumstances {
  /** Of git; with a `+` where files are changed. Null where there is no git. */
  readonly commit: string | null;
  readonly machine: string;
  readonly node: string;
  readonly postgres: string;
  readonly runs: number;
  /** 1 for the sizes of the documentation. */
  readonly scale: number;
  /** Whether the server's apply worker writes its log of conflicts. */
  readonly workerLog: boolean;
}

const HEADER = [
  'workload',
  'ours (min–max)',
  "server's (min–max)",
  'ratio',
  'goal',
  'CPU ours: walsender',
  'agent',
  'apply',
  "CPU server's: walsender",
  'apply',
];

/** The report for people. */
export function reportText(circumstances: Circumstances, results: readonly Result[]): string {
  const { commit, machine, node, postgres, runs, scale, workerLog } = circumstances;
  return [
    `PostgreSQL ${postgres}, Node.js ${node}, ${machine}`,
    [
      `commit ${commit ?? 'unknown'}`,
      scale === 1 ? 'full size' : `${scale} of the full size`,
      `median of ${runs} ${runs === 1 ? 'run' : 'runs'}`,
      `the worker's log of conflicts is ${workerLog ? 'on' : 'off'}`,
    ].join(', '),
    '',
    ...drawTable([HEADER, ...results.map(lineOf)], ''),
  ].join('\n');
}

function lineOf({ metric, ours, server, ratio, met, cpu }: Result): string[] {
  return [
    metric.name,
    rangeText(ours, metric.unit),
    server ? rangeText(server, metric.unit) : '-',
    ratio === undefined ? '-' : ratio.toFixed(2),
    `${goalText(metric)} ${met ? 'met' : 'missed'}`,
    cpuText(cpu.ours.walsender),
    cpuText(cpu.ours.agent),
    cpuText(cpu.ours.apply),
    cpuText(cpu.server.walsender),
    cpuText(cpu.server.apply),
  ];
}

function rangeText({ median, min, max }: Summary, unit: string): string {
  const [middle, least, most] = [median, min, max].map(short);
  return `${middle} ${unit} (${least}–${most})`;
}

function goalText({ comparison, goal, unit }: Metric): string {
  switch (comparison) {
    case 'speed-up':
      return `≥ ${goal}`;
    case 'multiple':
      return `≤ ${goal}`;
    case 'limit':
      return `≤ ${goal} ${unit}`;
  }
}

function cpuText(seconds: number | undefined): string {
  return seconds === undefined ? '-' : `${seconds.toFixed(2)} s`;
}

/** Three digits, or all before the point. */
function short(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);
}

/** The same as one JSON object. */
export function reportJson(circumstances: Circumstances, results: readonly Result[]): string {
  return JSON.stringify({
    ...circumstances,
    results: results.map(({ workload, metric, ours, server, ratio, met, cpu, rowsCompared }) => ({
      workload,
      metric: metric.name,
      unit: metric.unit,
      ours,
      server: server ?? null,
      ratio: ratio ?? null,
      comparison: metric.comparison,
      goal: metric.goal,
      met,
      cpuSeconds: {
        ours: orNull(cpu.ours),
        server: orNull(cpu.server),
      },
      rowsCompared,
    })),
  });
}

function orNull(seconds: Result['cpu']['ours']): Record<string, number | null> {
  const { walsender = null, agent = null, apply = null } = seconds;
  return { walsender, agent, apply };
}
