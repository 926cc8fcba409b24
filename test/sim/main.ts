import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { mutantNamed, MUTANTS, type MutantName } from '../support/sim/mutants.ts';
import { simulate, TICKS_OF_AN_HOUR, type RunResult } from '../support/sim/simulation.ts';
import {
  SWITCHES,
  SWITCH_NAMES,
  switchesIn,
  switchFlags,
  type SwitchName,
  type Switches,
} from '../support/sim/switches.ts';
import { findSeeds, type KnownSeed } from './known-seeds.ts';
import { mutantTable } from './mutant-table.ts';
import { scopesOf } from './scopes.ts';
import { tryScopes, type TriedScope } from './scope-threads.ts';
import { runSeeds } from './seed-threads.ts';
import { switchesOf } from './session.ts';

// npm run sim: runs the simulation for a while, or repeats one run.

const USAGE = `npm run sim -- [flags]

  --minutes M     how long (1)
  --runs N        or how many runs
  --hours H       or how many simulated hours: 36000 ticks of the model's clock each
  --threads N     so many at once (one for each processor)
  --seed S        the first run's seed; with it and without the two above, that one run, commit by commit
  --nodes N       2 to 5 (each seed has its own number)
${usageOfSwitches()}
  --mixed         with one or two of these, or none, by the seed
  --mutant NAME   with a rule switched off: ends well once that has been noticed
  --exhaustive    every order of small scopes instead, one scope after the other
  --operations N  of those of three nodes with 4 or with 5 operations, no heartbeats
  --from N        not the first N of them: to go on
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
    hours: { type: 'string' },
    threads: { type: 'string' },
    mixed: { type: 'boolean', default: false },
    seed: { type: 'string' },
    nodes: { type: 'string' },
    mutant: { type: 'string' },
    ...optionsOfSwitches(),
    exhaustive: { type: 'boolean', default: false },
    operations: { type: 'string' },
    from: { type: 'string' },
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
  /** Simulated, with what happened in it. */
  readonly ticks?: number;
  readonly commits?: number;
  readonly faults?: number;
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

async function main(): Promise<number> {
  if (flags.help) return tell(USAGE);
  if (flags.mutants)
    return tell(MUTANTS.map(({ name, rule }) => `${name}\n    ${rule}`).join('\n'));
  if (flags['find-seeds'] !== undefined) return printSeeds(Number(flags['find-seeds']));
  if (flags.table) return tell(mutantTable());
  const mutant = flags.mutant === undefined ? undefined : mutantNamed(flags.mutant);
  if (flags.mutant !== undefined && mutant === undefined) {
    return tell(`no mutant is named "${flags.mutant}"; --mutants lists them`, 2);
  }
  const isOne =
    flags.seed !== undefined &&
    [flags.minutes, flags.runs, flags.hours].every((one) => one === undefined);
  const summary = flags.exhaustive ? await allScopes(mutant) : await manyRuns(mutant, isOne);
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

async function manyRuns(mutant: MutantName | undefined, isOne: boolean): Promise<Summary> {
  const first = Number(flags.seed ?? Date.now() % 1_000_000_000);
  const clock = new Clock();
  const nodes = flags.nodes === undefined ? undefined : Number(flags.nodes);
  const options = { nodes, mutant, switches: switchesIn(flags), isMixed: flags.mixed };
  const wanted = flags.hours === undefined ? Infinity : Number(flags.hours);
  const done = { runs: 0, steps: 0, ticks: 0, commits: 0, faults: 0 };
  let failed: RunResult | undefined;
  const told = (result: RunResult) => {
    done.runs += 1;
    for (const name of ['steps', 'ticks', 'commits', 'faults'] as const) done[name] += result[name];
    if (result.failure) failed = result;
    clock.tell(() => `${done.runs} runs, ${millions(done.steps)} steps, ${hours(done.ticks)}`);
  };
  say(`seeds from ${first} on`);
  if (isOne) {
    told(simulate({ seed: first, nodes, mutant, note: say, ...switchesOf(first, options) }));
  } else {
    const isOver = () => clock.isOver || done.ticks >= wanted * TICKS_OF_AN_HOUR;
    await runSeeds(first, Number(flags.runs ?? Infinity), threadCount(), options, told, isOver);
  }
  return {
    ...done,
    seconds: clock.seconds,
    failure: failed ? failureOf(failed, mutant, switchesOf(failed.seed, options)) : null,
  };
}

function threadCount(): number {
  return Number(flags.threads ?? availableParallelism());
}

function failureOf(
  result: RunResult,
  mutant: string | undefined,
  switches: Switches,
): Summary['failure'] {
  const { seed, failure } = result;
  const repeat = [`npm run sim -- --seed ${seed}`];
  if (flags.nodes !== undefined) repeat.push(`--nodes ${flags.nodes}`);
  repeat.push(...switchFlags(switches));
  if (mutant !== undefined) repeat.push(`--mutant '${mutant}'`);
  return { check: failure?.check ?? '', message: failure?.message ?? '', repeat: repeat.join(' ') };
}

/** Every order of the scopes, while there is time; says how far it came. */
async function allScopes(mutant: MutantName | undefined): Promise<Summary> {
  const clock = new Clock();
  const operations = flags.operations === undefined ? undefined : Number(flags.operations);
  const all = scopesOf(operations);
  const from = Number(flags.from ?? 0);
  const done = { whole: 0, cut: 0, states: 0 };
  const covered = () =>
    `of ${all.length} scopes from ${from} on every order of ${done.whole}, some orders of ${done.cut}`;
  let failed: TriedScope | undefined;
  const told = (tried: TriedScope) => {
    const { name, states, failure, isCut } = tried;
    done.states += states;
    if (isCut) done.cut += 1;
    else done.whole += 1;
    if (failure) failed = tried;
    if (isCut) say(`${name}: only some of its orders`);
    const seconds = (clock.seconds / (done.whole + done.cut)) * (all.length - from);
    const rest = Math.ceil((seconds - clock.seconds) / 60);
    clock.tell(() => `${covered()}; ${done.states} states, last ${name}; ${rest} min for the rest`);
  };
  const left = all.slice(from);
  const begun = await tryScopes(left, threadCount(), mutant, told, () => clock.isOver);
  say(covered());
  if (!failed && from + begun < all.length) say(`to go on: --from ${from + begun}`);
  const { name, failure } = failed ?? {};
  return {
    runs: done.whole + done.cut,
    steps: done.states,
    seconds: clock.seconds,
    failure: failure ? { ...failure, repeat: `scope ${name}: ${failure.turns}` } : null,
  };
}

function report(summary: Summary, mutant: string | undefined): void {
  const { runs, steps, ticks, commits, faults, seconds, failure } = summary;
  const unit = flags.exhaustive ? 'scopes' : 'runs';
  const what = flags.exhaustive ? 'states' : 'steps';
  if (failure) say(`${failure.check}: ${failure.message}\n  ${failure.repeat}`);
  else if (mutant !== undefined) say(`not noticed: ${mutant}`);
  say(`${runs} ${unit}, ${steps} ${what} in ${seconds.toFixed(1)} s`);
  if (ticks !== undefined)
    say(`${hours(ticks)}, with ${commits} commits of users and ${faults} faults`);
  if (flags.json) {
    const all = { kind: unit, ...summary, mutant: mutant ?? null };
    process.stdout.write(`${JSON.stringify(all)}\n`);
  }
}

function hours(ticks: number): string {
  return `${(ticks / TICKS_OF_AN_HOUR).toFixed(1)} simulated hours`;
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
    this.#start +
    60_000 *
      Number(
        flags.minutes ?? (flags.runs === undefined && flags.hours === undefined ? 1 : Infinity),
      );
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
    const left =
      this.#end === Infinity ? '' : `, ${Math.max(0, Math.ceil((this.#end - now) / 1000))} s left`;
    say(`${text()}${left}`);
  }
}

process.exitCode = await main();
