import { readFileSync } from 'node:fs';
import { MUTANTS, type MutantName } from '../support/sim/mutants.ts';
import { simulate } from '../support/sim/simulation.ts';
import type { CheckName } from '../support/sim/world.ts';

/** A run in which a mutant is noticed, and by what. */
export interface KnownSeed {
  readonly seed: number;
  readonly nodes: number;
  /** With a unique index besides the key. */
  readonly unique?: true;
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

/** Looks for the first seed of each mutant, in so many runs at most: any change of the model moves them. */
export function* findSeeds(
  mostSeeds: number,
): Generator<readonly [string, KnownSeed | undefined], void> {
  for (const mutant of MUTANTS) yield [mutant.name, findSeed(mutant, mostSeeds)];
}

function findSeed(
  { name: mutant, ...world }: { readonly name: MutantName; readonly unique?: true },
  mostSeeds: number,
): KnownSeed | undefined {
  const unique = world.unique === true ? { unique: true as const } : {};
  const known = knownSeeds()[mutant];
  if (known && simulate({ ...known, mutant }).failure?.check === known.check) return known;
  for (let seed = 1; seed <= mostSeeds; seed++) {
    for (const nodes of NODES) {
      const { failure } = simulate({ seed, nodes, mutant, ...unique });
      if (failure) return { seed, nodes, ...unique, check: failure.check };
    }
  }
  return undefined;
}
