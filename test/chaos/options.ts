import { Command, InvalidArgumentError } from 'commander';

export interface ChaosOptions {
  readonly minutes: number;
  readonly nodes: number;
  readonly seed: number;
  readonly json: boolean;
  readonly keep: boolean;
}

interface Flags {
  readonly minutes: number;
  readonly nodes: number;
  readonly seed?: number;
  readonly json?: true;
  readonly keep?: true;
}

/** Reads the flags; a wrong one throws CommanderError, after the reason is written. */
export function parseOptions(args: readonly string[], chance: () => number): ChaosOptions {
  const command = new Command('chaos')
    .description(
      'Writes to all nodes of a group of real servers while agents, servers and links break, then compares every row.',
    )
    .option('--minutes <number>', 'how long clients write', minutes, 1)
    .option('--nodes <number>', '2 to 4', nodes, 3)
    .option('--seed <number>', 'repeats what is decided, not when it happens', seed)
    .option('--json', 'print one JSON object, progress to stderr')
    .option('--keep', 'leave data and logs, also when all is well')
    .exitOverride();
  const flags = command.parse(args, { from: 'user' }).opts<Flags>();
  return {
    minutes: flags.minutes,
    nodes: flags.nodes,
    seed: flags.seed ?? chance(),
    json: flags.json ?? false,
    keep: flags.keep ?? false,
  };
}

function minutes(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 24 * 60) return value;
  throw new InvalidArgumentError('It must be a number above 0, at most 1440.');
}

function nodes(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 2 && value <= 4) return value;
  throw new InvalidArgumentError('It must be a number from 2 to 4.');
}

function seed(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError('It must be a whole number from 0 on.');
}
