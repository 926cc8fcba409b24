import { Command, InvalidArgumentError, Option } from 'commander';
import { isWorkloadName, WORKLOAD_NAMES, type WorkloadName } from './workloads/all.ts';

export interface BenchOptions {
  readonly only: readonly WorkloadName[];
  readonly runs: number;
  /** Of the full sizes. */
  readonly scale: number;
  readonly json: boolean;
  readonly workerLog: boolean;
  readonly keep: boolean;
  readonly profileDir: string | undefined;
}

interface Flags {
  readonly only?: readonly WorkloadName[];
  readonly runs: number;
  readonly quick?: true;
  readonly scale?: number;
  readonly json?: true;
  readonly workerLog?: true;
  readonly keep?: true;
  readonly profile?: string;
}

const QUICK = 0.1;

/** Reads the flags; a wrong one throws CommanderError, after the reason is written. */
export function parseOptions(args: readonly string[]): BenchOptions {
  const command = new Command('bench')
    .description(
      "Measures replication between two servers of PostgreSQL 18, ours beside the server's own.",
    )
    .option('--only <names>', `of ${WORKLOAD_NAMES.join(', ')}`, names)
    .option('--runs <number>', 'of each workload and system', integer, 3)
    .option('--quick', 'a tenth of the size')
    .option('--json', 'print one JSON object')
    .option('--worker-log', "let the server's apply worker write its log of conflicts")
    .option('--profile <dir>', 'leave CPU profiles of the agents there')
    .option('--keep', 'leave data and logs of the servers')
    .addOption(new Option('--scale <factor>', 'of the full sizes').argParser(factor).hideHelp())
    .exitOverride();
  const flags = command.parse(args, { from: 'user' }).opts<Flags>();
  return {
    only: flags.only ?? WORKLOAD_NAMES,
    runs: flags.runs,
    scale: flags.scale ?? (flags.quick ? QUICK : 1),
    json: flags.json ?? false,
    workerLog: flags.workerLog ?? false,
    keep: flags.keep ?? false,
    profileDir: flags.profile,
  };
}

/** May be given again, and may name several. */
function names(text: string, before: readonly WorkloadName[] = []): WorkloadName[] {
  const wrong = text.split(',').find((name) => !isWorkloadName(name));
  if (wrong !== undefined) {
    throw new InvalidArgumentError(`There is no workload ${wrong}.`);
  }
  return [...before, ...text.split(',').filter(isWorkloadName)];
}

function integer(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= 100) return value;
  throw new InvalidArgumentError('It must be a number from 1 to 100.');
}

function factor(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 10) return value;
  throw new InvalidArgumentError('It must be a number above 0, at most 10.');
}
