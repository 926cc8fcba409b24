import type { MutantName } from './mutants.ts';
import { Random } from './random.ts';
import { BLOCKED, Scene, type Turn } from './scene.ts';
import type { Scope } from './scope.ts';
import { Violation, type CheckName } from './world.ts';

/** Some change nothing: a walk would go on for ever. */
const MOST_TURNS = 120;

/**
 * Takes the turns of that name, one after the other, then lets all that is left happen; says what goes wrong. One with "…" behind is taken
 * as long as it is there.
 */
export function tryOrder(
  scope: Scope,
  turns: readonly string[],
  mutant?: MutantName,
): CheckName | undefined {
  const scene = new Scene(scope, mutant);
  return checkOf(() => {
    for (const name of turns) takeNamed(scene, name);
    scene.drain();
  });
}

/**
 * Looks for an order that goes wrong with a rule switched off, and well with it, in so many walks of turns of chance; then leaves out of it what
 * need not be there.
 */
export function findOrder(
  scope: Scope,
  mutant: MutantName,
  walks: number,
): { readonly turns: readonly string[]; readonly check: CheckName } | undefined {
  for (let seed = 1; seed <= walks; seed++) {
    const turns = walk(scope, mutant, new Random(seed));
    const check = turns && outcome(scope, turns, mutant);
    if (check) return { check, turns: shortened(scope, turns, mutant, check) };
  }
  return undefined;
}

/** Its turns, if it ends with something that goes wrong. */
function walk(scope: Scope, mutant: MutantName, random: Random): string[] | undefined {
  let scene = new Scene(scope, mutant);
  const taken: string[] = [];
  const blocked = new Set<string>();
  const pace = new Pace(random);
  const check = checkOf(() => {
    while (taken.length < MOST_TURNS) {
      const turns = scene.turns().filter(({ name }) => !blocked.has(name));
      if (turns.length === 0) break;
      const turn = pace.pick(turns);
      try {
        taken.push(turn.name);
        scene.take(turn);
        blocked.clear();
      } catch (error) {
        if (error !== BLOCKED) throw error;
        taken.pop();
        blocked.add(turn.name);
        scene = new Scene(scope, mutant);
        for (const name of taken) takeNamed(scene, name);
      }
    }
    if (scene.turns().length === 0) scene.drain();
  });
  return check && taken;
}

const PACES = [1, 1, 0.3, 0.05, 0.01] as const;

/** How often each kind of turn is taken in a walk: all alike, users would be done before anything else is. */
class Pace {
  readonly #random: Random;
  readonly #of = new Map<string, number>();

  constructor(random: Random) {
    this.#random = random;
  }

  pick(turns: readonly Turn[]): Turn {
    for (;;) {
      const turn = this.#random.pick(turns);
      const pace = this.#of.get(turn.name) ?? this.#random.pick(PACES);
      this.#of.set(turn.name, pace);
      if (this.#random.chance(pace)) return turn;
    }
  }
}

/** What goes wrong, if it does so for want of the rule only. */
function outcome(
  scope: Scope,
  turns: readonly string[],
  mutant: MutantName,
): CheckName | undefined {
  try {
    return tryOrder(scope, turns) === undefined ? tryOrder(scope, turns, mutant) : undefined;
  } catch (error) {
    // That turn is not there, or blocked, with the rule.
    if (error === BLOCKED || error instanceof NoSuchTurn) return undefined;
    throw error;
  }
}

function shortened(
  scope: Scope,
  turns: readonly string[],
  mutant: MutantName,
  check: CheckName,
): readonly string[] {
  for (const at of turns.keys()) {
    const fewer = turns.toSpliced(at, 1);
    if (outcome(scope, fewer, mutant) === check) return shortened(scope, fewer, mutant, check);
  }
  return turns;
}

class NoSuchTurn extends Error {}

function takeNamed(scene: Scene, name: string): void {
  const find = (wanted: string) => scene.turns().find((one) => one.name === wanted);
  if (name.endsWith(' …')) {
    for (let turn; (turn = find(name.slice(0, -2)));) scene.take(turn);
    return;
  }
  const turn = find(name);
  if (!turn) throw new NoSuchTurn(`there is no turn "${name}"`);
  scene.take(turn);
}

function checkOf(run: () => void): CheckName | undefined {
  try {
    run();
  } catch (error) {
    if (error instanceof Violation) return error.check;
    if (error !== BLOCKED) throw error;
  }
  return undefined;
}
