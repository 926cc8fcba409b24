import type { MutantName } from '../support/sim/mutants.ts';
import { simulate, type RunResult } from '../support/sim/simulation.ts';
import { type SwitchName, type Switches } from '../support/sim/switches.ts';

/** What all runs of a session have in common; of what is plain data, for threads. */
export interface SessionOptions {
  readonly nodes?: number | undefined;
  readonly mutant?: MutantName | undefined;
  readonly switches: Switches;
  /** Each run has switches by its seed instead. */
  readonly isMixed: boolean;
}

/** Runs that one thread makes before it is asked again. */
export interface Batch {
  readonly seeds: readonly number[];
  readonly options: SessionOptions;
}

/** What runs of a mixed session have, one after the other. */
const MIX: readonly (readonly SwitchName[])[] = [
  [],
  ['unique'],
  ['join'],
  ['part'],
  [],
  ['uniques'],
  ['join', 'part'],
  ['join', 'unique'],
  ['clocks'],
  ['part', 'unique'],
  [],
  ['join', 'uniques'],
];

export function switchesOf(seed: number, { switches, isMixed }: SessionOptions): Switches {
  if (!isMixed) return switches;
  return Object.fromEntries((MIX[seed % MIX.length] ?? []).map((name) => [name, true]));
}

export function runSeed(seed: number, options: SessionOptions): RunResult {
  const { nodes, mutant } = options;
  return simulate({ seed, nodes, mutant, ...switchesOf(seed, options) });
}
