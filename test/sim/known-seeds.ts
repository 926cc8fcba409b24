import { readFileSync } from 'node:fs';
import { MUTANTS, type Mutant, type MutantName } from '../support/sim/mutants.ts';
import { simulate } from '../support/sim/simulation.ts';
import { switchesIn, switchFlags, type Switches } from '../support/sim/switches.ts';
import type { CheckName } from '../support/sim/world.ts';

/** A run in which a mutant is noticed, and by what. */
export interface KnownSeed extends Switches {
  readonly seed: number;
  /** Else as many as the seed says. */
  readonly nodes?: number;
  readonly check: CheckName;
}

export type KnownSeeds = Partial<Record<MutantName, KnownSeed>>;

const FILE = 'test/sim/known-seeds.json';
/** Runs of two and of three nodes are short, and have shown all that larger ones have. */
const NODES = [2, 3] as const;

/** Read where npm runs: in the project's own folder. */
export function knownSeeds(): KnownSeeds {
  return JSON.parse(readFileSync(FILE, 'utf8')) as KnownSeeds;
}

/**
 * Looks for the first seed of each mutant that needs just these switches, in so many runs at most: any change of the model moves
 * them. What is known of the others is taken as it is.
 */
export function* findSeeds(
  mostSeeds: number,
  switches: Switches,
): Generator<readonly [string, KnownSeed | undefined], void> {
  const wanted = switchFlags(switches).join();
  const mutants: readonly (Mutant & { readonly name: MutantName })[] = MUTANTS;
  for (const mutant of mutants) {
    const { name } = mutant;
    const isWanted = switchFlags(mutant).join() === wanted;
    yield [name, isWanted ? findSeed(mutant, mostSeeds) : knownSeeds()[name]];
  }
}

function findSeed(
  { name: mutant, ...needs }: Switches & { readonly name: MutantName },
  mostSeeds: number,
): KnownSeed | undefined {
  const switches = switchesIn(needs);
  const known = knownSeeds()[mutant];
  if (known && simulate({ ...known, mutant }).failure?.check === known.check) return known;
  for (let seed = 1; seed <= mostSeeds; seed++) {
    for (const nodes of NODES) {
      const { failure } = simulate({ seed, nodes, mutant, ...switches });
      if (failure) return { seed, nodes, ...switches, check: failure.check };
    }
  }
  return undefined;
}
