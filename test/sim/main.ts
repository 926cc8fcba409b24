import { parseArgs } from 'node:util';
import { exhaust } from '../support/sim/exhaustive.ts';
import { mutantNamed, MUTANTS, type MutantName } from '../support/sim/mutants.ts';
import { simulate, type RunResult } from '../support/sim/simulation.ts';
import {
  SWITCHES,
  SWITCH_NAMES,
  switchesIn,
  switchFlags,
  type SwitchName,
} from '../support/sim/switches.ts';
import { findSeeds, type KnownSeed } from './known-seeds.ts';
import { mutantTable } from './mutant-table.ts';
import { scopes } from './scopes.ts';

// npm run sim: runs the simulation for a while, or repeats one run.

const USAGE = `npm run sim -- [flags]

  --minutes M     how long (1)
  --runs N        or how many runs
  --seed S        the first run's seed; with it and without the two above, that one run, commit by commit
  --nodes N       2 to 5 (each seed has its own number)
${usageOfSwitches()}
  --mutant NAME   with a rule switched off: ends well once that has been noticed
  --exhaustive    every order of small scopes instead, one scope after the other
  --mutants       lists what can be switched off
  --find-seeds N  looks for a seed for each of them that needs the switches given, in N runs at most; prints
                  test/sim/known-seeds.json
  --table         prints the table of docs/concepts/simulation.md
  --json          one JSON object at the end, progress to stderr
`;

const { values: flags } = parseArgs({
  options: {
    minutes: { type: 'string' },
    runs: { type: 'string' },
    seed: { type: 'string' },
    nodes: { type: 'string' },
    mutant: { type: 'string' },
    ...optionsOfSwitches(),
    exhaustive: { type: 'boolean', default: false },
    mutants: { type: 'boolean', default: false },
    'find-seeds': { type: 'string' },
    table: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

/** What a session of runs has come to. */
interface Summary {
  readonly runs: number;
  readonly steps: number;
  readonly seconds: number;
  readonly failure: {
    readonly check: string;
    readonly message: string;
    readonly repeat: string;
  } | null;
}

const say = (text: string) => {
  (flags.json ? process.stderr : process.stdout).write(`${text}\n`);
};

function main(): number {
  if (flags.help) return tell(USAGE);
  if (flags.mutants)
    return tell(MUTANTS.map(({ name, rule }) => `${name}\n    ${rule}`).join('\n'));
  if (flags['find-seeds'] !== undefined) return printSeeds(Number(flags['find-seeds']));
  if (flags.table) return tell(mutantTable());
  const mutant = flags.mutant === undefined ? undefined : mutantNamed(flags.mutant);
  if (flags.mutant !== undefined && mutant === undefined) {
    return tell(`no mutant is named "${flags.mutant}"; --mutants lists them`, 2);
  }
  const isOne = flags.seed !== undefined && flags.minutes === undefined && flags.runs === undefined;
  const summary = flags.exhaustive ? allScopes(mutant) : manyRuns(mutant, isOne);
  report(summary, mutant);
  return (summary.failure === null) === (mutant === undefined) ? 0 : 1;
}

function tell(text: string, code = 0): number {
  process.stdout.write(`${text.trimEnd()}\n`);
  return code;
}

function printSeeds(mostSeeds: number): number {
  const found: Record<string, KnownSeed> = {};
  for (const [name, seed] of findSeeds(mostSeeds, flags)) {
    process.stderr.write(`${name}: ${seed ? `${seed.check}, seed ${seed.seed}` : 'not found'}\n`);
    if (seed) found[name] = seed;
  }
  return tell(JSON.stringify(found, null, 2));
}

function manyRuns(mutant: MutantName | undefined, isOne: boolean): Summary {
  const first = Number(flags.seed ?? Date.now() % 1_000_000_000);
  const most = isOne ? 1 : Number(flags.runs ?? Infinity);
  const clock = new Clock();
  const nodes = flags.nodes === undefined ? undefined : Number(flags.nodes);
  let runs = 0;
  let steps = 0;
  let failed: RunResult | undefined;
  say(`seeds from ${first} on`);
  while (!failed && runs < most && !clock.isOver) {
    const note = isOne ? say : undefined;
    const result = simulate({ seed: first + runs, nodes, mutant, note, ...switchesIn(flags) });
    runs += 1;
    steps += result.steps;
    if (result.failure) failed = result;
    clock.tell(() => `${runs} runs, ${millions(steps)} steps`);
  }
  return {
    runs,
    steps,
    seconds: clock.seconds,
    failure: failed ? failureOf(failed, mutant) : null,
  };
}

function failureOf(result: RunResult, mutant: string | undefined): Summary['failure'] {
  const { seed, failure } = result;
  const repeat = [`npm run sim -- --seed ${seed}`];
  if (flags.nodes !== undefined) repeat.push(`--nodes ${flags.nodes}`);
  repeat.push(...switchFlags(flags));
  if (mutant !== undefined) repeat.push(`--mutant '${mutant}'`);
  return { check: failure?.check ?? '', message: failure?.message ?? '', repeat: repeat.join(' ') };
}

/** Every order of the scopes, while there is time. */
function allScopes(mutant: MutantName | undefined): Summary {
  const clock = new Clock();
  let runs = 0;
  let steps = 0;
  for (const { name, scope } of scopes()) {
    if (clock.isOver) break;
    const { states, failure, isCut } = exhaust(scope, 200_000, mutant);
    runs += 1;
    steps += states;
    if (failure) {
      const repeat = `scope ${name}: ${failure.turns}`;
      return { runs, steps, seconds: clock.seconds, failure: { ...failure, repeat } };
    }
    if (isCut) say(`${name}: only some of its orders`);
    clock.tell(() => `${runs} scopes, ${steps} states, last ${name}`);
  }
  return { runs, steps, seconds: clock.seconds, failure: null };
}

function report({ runs, steps, seconds, failure }: Summary, mutant: string | undefined): void {
  const unit = flags.exhaustive ? 'scopes' : 'runs';
  const what = flags.exhaustive ? 'states' : 'steps';
  if (failure) say(`${failure.check}: ${failure.message}\n  ${failure.repeat}`);
  else if (mutant !== undefined) say(`not noticed: ${mutant}`);
  say(`${runs} ${unit}, ${steps} ${what} in ${seconds.toFixed(1)} s`);
  if (flags.json) {
    const all = { kind: unit, runs, steps, seconds, mutant: mutant ?? null, failure };
    process.stdout.write(`${JSON.stringify(all)}\n`);
  }
}

function millions(count: number): string {
  return `${(count / 1e6).toFixed(1)} million`;
}

/** One flag for each. */
function optionsOfSwitches() {
  const option = { type: 'boolean', default: false } as const;
  return Object.fromEntries(SWITCH_NAMES.map((name) => [name, option])) as Record<
    SwitchName,
    typeof option
  >;
}

function usageOfSwitches(): string {
  return SWITCH_NAMES.map((name) => `  --${name.padEnd(14)}${SWITCHES[name]}`).join('\n');
}

/** How much of the time is left. */
class Clock {
  readonly #start = performance.now();
  readonly #end =
    this.#start + 60_000 * Number(flags.minutes ?? (flags.runs === undefined ? 1 : Infinity));
  #told = this.#start;

  get seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }

  get isOver(): boolean {
    return performance.now() > this.#end;
  }

  /** Every few seconds. */
  tell(text: () => string): void {
    const now = performance.now();
    if (now - this.#told < 3000) return;
    this.#told = now;
    const left = this.#end === Infinity ? '' : `, ${Math.ceil((this.#end - now) / 1000)} s left`;
    say(`${text()}${left}`);
  }
}

process.exitCode = main();
